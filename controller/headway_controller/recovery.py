"""After a restart: what an earlier controller left unfinished waits for the runtimes to say what they hold of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from headway_bus.ids import TaskId
from headway_bus.records import Options, Status
from headway_controller.dependencies import verdict, waiting_for
from headway_controller.state import LEASED, Queued, Task, Waiting, is_recovering, owner_of
from headway_controller.story import decode_story

if TYPE_CHECKING:
    from headway_controller.life import Life
    from headway_controller.store.protocol import StoredTask

LOOK_LATER = 1.0
"""Seconds between looks whether the time to claim attempts, which was prolonged, is over."""

OVER = frozenset({"failed", "returned", "revived"})
"""Steps of a story after which the attempt that they name is known to be over."""


class Recovery:
    """The tasks that may have been given to a runtime by an earlier controller, and the time that runtimes have to say so."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._tasks: list[TaskId] = []
        self._leased: dict[str, list[TaskId]] = {}
        """Tasks that an edge may have, by its name: they wait for it as long as their allowance says."""

        self.until = 0.0
        """Until then runtimes may say that they hold what an earlier controller gave them."""

    @property
    def is_under_way(self) -> bool:
        """Whether tasks wait for runtimes to claim them."""
        return bool(self._tasks)

    def restore(self, stored: StoredTask, now: float, statuses: Mapping[TaskId, Status]) -> None:
        """Take in an unfinished task. If it may run at all, it waits for a runtime to claim it.

        ``statuses``: of the tasks that it comes after and that memory does not know.
        """
        life = self._life
        options, story = life.intern(stored.options), decode_story(stored.story)
        task = Task(
            stored.task,
            options,
            stored.payload,
            stored.client,
            stored.submitted,
            Waiting(now, self.until, set(), "recovering"),
            # Which numbers the earlier controller gave out is not known beyond the last that it stored.
            attempt=stored.attempt + 1,
            failures=stored.failures,
            losses=stored.losses,
            story=story,
            described=stored.described,
            over=max((step.attempt for step in story or () if step.status in OVER), default=0),
        )
        life.take_in(task)
        life.turn.store(life.update_of(task))
        # A clock that was set back since must not make anybody wait until it has caught up.
        submitted = min(stored.submitted - life.wall_offset, now)
        back_off = min(stored.not_before - life.wall_offset, now + options.retry.backoff_max)
        not_before = max(submitted + options.delay, back_off)
        if options.timeout_start:
            life.set_timer(max(now, submitted + options.timeout_start), "expire", task.id)
        waiting = waiting_for(options, now, not_before, _first_known(life.status, statuses), known_only=True)
        if story and story[-1].status == LEASED and options.offline:
            # The earlier controller's clock is not known any more: the allowance counts from now.
            waiting.until = max(waiting.until, now + options.offline)
            self._leased.setdefault(story[-1].runtime, []).append(task.id)
        if verdict(options, waiting) == "met":
            self.begin(task, waiting)
        else:
            life.begin_waiting(task, waiting, now)

    def begin(self, task: Task, waiting: Waiting) -> None:
        """It may have been given to a runtime, which shall have the time to say so."""
        waiting.unmet, waiting.why = set(), "recovering"
        task.state = waiting
        self._tasks.append(task.id)
        self._life.set_timer(max(self.until, waiting.until), "release", task.id)

    def on_answered(self, name: str, now: float) -> None:
        """A runtime has said what it holds: what was leased to it and is not among that, nobody has."""
        for task_id in self._leased.pop(name, ()):
            task = self._life.state.tasks.get(task_id)
            if task is not None and is_recovering(task):
                assert isinstance(task.state, Waiting)
                task.state.until = now
                self._life.on_release_time(task, now)

    def awaits(self, task: Task, waiting: Waiting, now: float) -> bool:
        """Whether a runtime may still say that it has it; then it is looked at again."""
        until = max(waiting.until, self.until)
        if now >= until:
            return False
        # The end of the recovery may come sooner than foreseen; what is leased or delayed is not looked at before that is over.
        self._life.set_timer(max(waiting.until, min(until, now + LOOK_LATER)), "release", task.id)
        return True

    def extend(self, until: float) -> None:
        """The runtimes have longer to say what they hold, because they could not be heard."""
        self.until = max(self.until, until)

    def end(self, now: float) -> None:
        """Every runtime that may hold something has said what: nobody has the rest."""
        life = self._life
        self.until = now
        waiting, self._tasks = self._tasks, []
        queued = Queued(now)
        options: Options | None = None
        client = ""
        ready: list[TaskId] = []
        for task_id in waiting:
            task = life.state.tasks.get(task_id)
            if task is None or not isinstance(task.state, Waiting) or task.state.why != "recovering":
                continue
            if now < task.state.until or life.void.is_barred(task_id) or task.cancelling:
                life.on_release_time(task, now)
                continue
            if task.options.union is not None:
                life.gather(task, now)
                continue
            # Neighbours of the same options together: there may be a million, and nothing starts before the last.
            if task.options is not options or task.client != client:
                self._enqueue(options, ready, now, client)
                options, ready, client = task.options, [], task.client
            life.change(task, "release", queued, now)
            ready.append(task_id)
        self._enqueue(options, ready, now, client)

    def _enqueue(self, options: Options | None, tasks: list[TaskId], now: float, client: str) -> None:
        if options is not None:
            self._life.scheduler.enqueue_many(options, tasks, now, owner_of(client))


def _first_known(
    status_of: Callable[[TaskId], Status | None], statuses: Mapping[TaskId, Status]
) -> Callable[[TaskId], Status | None]:
    return lambda task_id: status_of(task_id) or statuses.get(task_id)
