"""Tasks: submission, waiting, attempts, ends, retries, cancels, time limits. Pure.

Every change of a task's state goes through ``transitions.move``; every end goes through ``_end``.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headway_bus.ids import TaskId
from headway_bus.records import ENDS, AttemptEnd, ErrorInfo, File, Options, Outcome, Reason, Status, Transition
from headway_bus.records import Ended as AttemptEnded
from headway_controller.dependencies import note_parent, verdict, waiting_for
from headway_controller.news import News
from headway_controller.placement import Scheduler
from headway_controller.recovery import Recovery
from headway_controller.state import (
    LEASED,
    Assigned,
    ControllerState,
    Ended,
    Gathering,
    Job,
    Queued,
    Running,
    State,
    Task,
    Value,
    Waiting,
    owner_of,
    status_of,
)
from headway_controller.store.protocol import Described, EndTask, StoredTask, UpdateTask
from headway_controller.story import add_once, encode_story, past_of
from headway_controller.transitions import move
from headway_controller.turn import Turn
from headway_controller.usage import Usage
from headway_controller.void_attempts import VoidAttempts

REMEMBERED_OPTIONS = 10_000
REMEMBERED_ENDS = 100_000
"""Ended tasks whose status is kept in memory, for those that come after them and for repeated submissions."""

LOOK_AGAIN = 0.1
"""Seconds between looks whether a runtime has let go of an attempt."""

ENDING = {
    Status.SUCCEEDED: "succeed",
    Status.FAILED: "fail",
    Status.CANCELLED: "cancel",
    Status.EXPIRED: "expire",
}
"""Which event leads to each end."""

COUNTER_OF = {status: f"tasks.{status}" for status in ENDS}

_encode = msgspec.msgpack.Encoder().encode


class Life:
    """The tasks and their timers."""

    def __init__(self, state: ControllerState, turn: Turn, scheduler: Scheduler, wall_offset: float, seed: int) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.wall_offset = wall_offset
        """Unix time minus the core's clock: only for what is shown and stored."""

        self.news = News(state, turn, scheduler)
        self._options: dict[bytes, Options] = {}
        self._ends: deque[tuple[TaskId, Status | None]] = deque()
        self._cascading = False
        self.void = VoidAttempts(state)
        self.usage = Usage()
        self.recovery = Recovery(self)
        self.recent: OrderedDict[TaskId, Status] = OrderedDict()
        self._gathered: list[Task] = []
        self._timers: list[tuple[float, int, str, TaskId]] = []
        self._timer_count = 0
        self._random = random.Random(seed)

    # ------------------------------------------------------------------------------------------- submission

    def admit(self, task: Task, now: float, again: bool = False) -> bool:
        """Take in a new task that was checked. True if it may be queued at once; the caller queues and counts it in bulk.

        ``again``: it may have been submitted to an earlier controller, which may have given it to a runtime.
        """
        options = task.options
        self._note(task)
        barred = self.void.bar(task)
        if options.timeout_start:
            self.set_timer(now + options.timeout_start, "expire", task.id)
        recovering = again and now < self.recovery.until
        if not options.after and not options.delay and not barred and not recovering:
            if options.union is None:
                return True
            self.gather(task, now)
            return False
        waiting = waiting_for(options, now, now + options.delay, self.status)
        if recovering and verdict(options, waiting) == "met":
            self.recovery.begin(task, waiting)
        else:
            self.begin_waiting(task, waiting, now)
        return False

    def take_in(self, task: Task) -> None:
        self._note(task)
        self.usage.add((task,))

    def _note(self, task: Task) -> None:
        self.state.tasks[task.id] = task
        if task.options.job:
            self.state.jobs.setdefault(task.options.job, Job()).tasks[task.id] = None

    def intern(self, options: Options) -> Options:
        """The one record for equal options: memory holds it once, and the scheduler knows it by its identity."""
        key = _encode(options)
        known = self._options.get(key)
        if known is None:
            if len(self._options) >= REMEMBERED_OPTIONS:
                self._options.clear()
            known = self._options[key] = options  # checked by the caller: :meth:`is_known` spares it the next time
        return known

    def is_known(self, options: Options) -> bool:
        """Whether equal options were accepted before."""
        return _encode(options) in self._options

    def status(self, task_id: TaskId) -> Status | None:
        """A task's status if memory knows it."""
        task = self.state.tasks.get(task_id)
        return status_of(task) if task is not None else self.recent.get(task_id)

    def remember(self, ends: Mapping[TaskId, Status]) -> None:
        """Note the ends of tasks that only the store knew."""
        self.recent.update(ends)
        while len(self.recent) > REMEMBERED_ENDS:
            self.recent.popitem(last=False)

    def revive(self, stored: StoredTask, described: Described | None, now: float) -> None:
        """Take in an ended task once more, with a fresh count of attempts."""
        assert stored.end is not None
        options, end = self.intern(stored.options), stored.end
        task = Task(
            stored.task,
            options,
            stored.payload,
            stored.client,
            stored.submitted,
            Ended(Outcome(stored.task, end.status, end.attempt), now),
            attempt=end.attempt,
            runtime=end.runtime,
            error=end.error,
            story=past_of(stored.story, end),
            over=end.attempt,
            described=described,
        )
        self._tell(task, "revived", f"was {end.status}", now)
        self.recent.pop(task.id, None)
        self.take_in(task)
        self.turn.store(UpdateTask(task.id, task.attempt, 0, 0, 0.0, encode_story(task.story or []), True))
        self.queue(task, "revive", now)

    def begin_waiting(self, task: Task, waiting: Waiting, now: float) -> None:
        task.state = waiting
        if not waiting.unmet:
            waiting.why = "delay"
        for parent in waiting.unmet:
            self.state.dependents.setdefault(parent, []).append(task.id)
        if waiting.until > now:
            self.set_timer(waiting.until, "release", task.id)
        self._check_waiting(task, now)

    def _check_waiting(self, task: Task, now: float) -> None:
        """Release the task, or end it, if what it waits for allows or forbids it to run."""
        waiting = task.state
        if not isinstance(waiting, Waiting) or waiting.why == "recovering":
            return
        # A back-off came after the dependencies were met, once and for all.
        allowed = "met" if waiting.why == "retry" else verdict(task.options, waiting)
        if allowed == "impossible":
            self._end(task, "fail", Status.FAILED, now, error=ErrorInfo(Reason.DEPENDENCY, waiting.bar))
        elif allowed == "met" and now >= waiting.until:
            if self.void.holds_up(task):
                waiting.until = now + LOOK_AGAIN
                self.set_timer(waiting.until, "release", task.id)
                return
            self.void.lift(task.id)
            self.queue(task, "release", now)
        elif allowed == "met" and waiting.why == "dependencies":
            waiting.why = "delay"

    def queue(self, task: Task, event: str, now: float) -> None:
        """Give the task to the scheduler; a union to those who make its parts."""
        if task.options.union is not None:
            self.gather(task, now)
            return
        self.change(task, event, Queued(now), now)
        self.scheduler.enqueue(task.id, task.options, now, owner_of(task.client))

    def gather(self, task: Task, now: float) -> None:
        """Let a union begin."""
        task.attempt += 1
        task.started = now + self.wall_offset
        self.change(task, "gather", Gathering(now), now)
        self._gathered.append(task)

    def take_gathered(self) -> list[Task]:
        """The unions that have begun since this was last asked."""
        gathered, self._gathered = self._gathered, []
        return gathered

    def end_gathering(self, task: Task, status: Status, result: Value, error: ErrorInfo | None, now: float) -> None:
        """A union is over."""
        assert isinstance(task.state, Gathering)
        self._end(task, ENDING[status], status, now, result=result, error=error, seconds=now - task.state.since)

    def change(self, task: Task, event: str, state: State, now: float) -> None:
        """Move the task along the table, and tell those who follow it."""
        move(task, event, state)
        if self.state.topics:
            self.news.on_task(task, now + self.wall_offset)

    # ------------------------------------------------------------------------------------------- attempts

    def on_attempt_ended(self, task: Task, ended: AttemptEnded, result: Value, now: float) -> None:
        """The runtime's word on the present attempt. The caller has fenced older ones and freed the runtime."""
        if ended.end == AttemptEnd.SUCCEEDED:
            self._end(task, "succeed", Status.SUCCEEDED, now, result=result, seconds=ended.seconds, files=ended.files)
        elif task.cancelling:
            error = ErrorInfo(Reason.CANCELLED, "cancelled")
            self._end(task, "cancel", Status.CANCELLED, now, error=error, seconds=ended.seconds)
        elif task.expiring and ended.end == AttemptEnd.RETURNED:
            self._expire(task, now)
        elif ended.end in (AttemptEnd.RETURNED, AttemptEnd.CANCELLED):
            # Stopped, and no client wanted that: its submission could not be stored, and was made once more.
            how = "given back unstarted" if ended.end == AttemptEnd.RETURNED else "stopped, though nobody cancelled it"
            self._tell(task, "returned", how, now)
            # Stored, because the next controller must not take the number of the attempt that follows for a stranger's.
            self.turn.store(self.update_of(task))
            self.requeue(task, "give_back", now)
        else:
            error = ended.error or ErrorInfo(Reason.EXCEPTION, "the attempt failed without a word")
            self._on_failure(task, error, ended.seconds, now)

    def on_attempt_lost(self, task: Task, why: str, now: float) -> None:
        """The runtime of the present attempt is gone."""
        self.state.counters["attempts.lost"] += 1
        task.losses += 1
        self._tell(task, "lost", why, now)
        if task.cancelling:
            self._end(task, "cancel", Status.CANCELLED, now, error=ErrorInfo(Reason.CANCELLED, "cancelled; " + why))
        elif task.losses >= max(1, task.options.retry.max_losses):
            count = f"{task.losses} attempts in a row were" if task.losses > 1 else "its attempt was"
            self._end(
                task, "fail", Status.FAILED, now, error=ErrorInfo(Reason.LOST, f"{count} lost with the runtime: {why}")
            )
        else:
            self.turn.store(self.update_of(task))
            self.requeue(task, "lose", now)

    def lease(self, task: Task, now: float) -> None:
        """The attempt was given to an edge that may be cut off: a controller that is started anew must know of it."""
        self._tell(task, LEASED, "", now)
        self.turn.store(self.update_of(task))

    def requeue(self, task: Task, event: str, now: float) -> None:
        """Back into the queue, for another attempt."""
        self.state.counters["attempts.requeued"] += 1
        self.queue(task, event, now)

    def withdraw(self, task: Task) -> None:
        """Take a queued task back from the scheduler, because a runtime turns out to have it or it ends."""
        if isinstance(task.state, Queued):
            self.scheduler.remove(task.id, task.options, owner_of(task.client))

    def _on_failure(self, task: Task, error: ErrorInfo, seconds: float, now: float) -> None:
        retry = task.options.retry
        task.failures += 1
        worth_it = not retry.on or not set(retry.on).isdisjoint([*error.bases, error.type, error.reason])
        if task.failures < retry.max_attempts and worth_it:
            # Full jitter: tasks that failed together should not come back together.
            ceiling = min(retry.backoff_max, retry.backoff * 2 ** min(task.failures - 1, 30))
            until = now + self._random.uniform(0.0, ceiling)
            task.error = error
            self._tell(task, "failed", error.message, now)
            self.withdraw(task)
            self.change(task, "retry", Waiting(now, until, set(), "retry"), now)
            self.state.counters["attempts.retried"] += 1
            self.turn.store(self.update_of(task, until))
            self.set_timer(until, "release", task.id)
            return
        timed_out = error.reason == Reason.TIMEOUT_RUN
        event, status = ("expire", Status.EXPIRED) if timed_out else ("fail", Status.FAILED)
        self._end(task, event, status, now, error=error, seconds=seconds)

    # ------------------------------------------------------------------------------------------- ends

    def cancel(self, task: Task, now: float) -> bool:
        """Cancel a task. True if it is over with that; False if a runtime must stop it first (the caller sends that)."""
        if isinstance(task.state, Assigned | Running):
            task.cancelling = True
            self._tell(task, "cancelling", "asked by a client", now)
            return False
        if not isinstance(task.state, Ended):
            self._end(
                task, "cancel", Status.CANCELLED, now, error=ErrorInfo(Reason.CANCELLED, "cancelled before it started")
            )
        return True

    def _expire(self, task: Task, now: float) -> None:
        text = f"not started within {task.options.timeout_start:g} s (timeout_start)"
        self._end(task, "expire", Status.EXPIRED, now, error=ErrorInfo(Reason.TIMEOUT_START, text))

    def _end(
        self,
        task: Task,
        event: str,
        status: Status,
        now: float,
        *,
        result: Value = b"",
        error: ErrorInfo | None = None,
        seconds: float = 0.0,
        files: Sequence[File] = (),
    ) -> None:
        if type(task.state) is Queued:
            self.withdraw(task)
        options = task.options
        waited = (
            max(0.0, task.started - task.submitted)
            if task.started
            else max(0.0, now + self.wall_offset - task.submitted)
        )
        outcome = Outcome(
            task.id,
            status,
            task.attempt,
            result,  # type: ignore[arg-type]  # a view of a received frame serves as bytes
            error,
            options.by_value,
            task.runtime,
            waited,
            seconds,
            task.predicted,
            list(files),
        )
        self.change(task, event, Ended(outcome, now), now)
        ended_at = now + self.wall_offset
        keep = options.retention
        due = self.turn.due
        due.operations.append(
            EndTask(
                task.id,
                status,
                task.attempt,
                ended_at,
                task.started,
                seconds,
                task.runtime,
                result,
                error,
                task.failures,
                task.losses,
                task.predicted,
                encode_story(task.story) if task.story else b"",
                ended_at + keep if keep >= 0 else None,
                tuple(files),
            )
        )
        due.ended.append(task)
        self.state.counters[COUNTER_OF[status]] += 1
        if task.id in self.state.dependents:
            self.release_dependents(task.id, status, now)

    def release_dependents(self, task_id: TaskId, status: Status | None, now: float) -> None:
        """Tell those that come after a task of its end; None: that there never was such a task."""
        # A queue instead of recursion: a chain of 100,000 tasks may end because its first one did.
        self._ends.append((task_id, status))
        if self._cascading:
            return
        self._cascading = True
        try:
            while self._ends:
                self._release_dependents_of(*self._ends.popleft(), now)
        finally:
            self._cascading = False

    def _release_dependents_of(self, parent: TaskId, status: Status | None, now: float) -> None:
        for child_id in self.state.dependents.pop(parent, ()):
            child = self.state.tasks.get(child_id)
            if child is None or not isinstance(child.state, Waiting) or parent not in child.state.unmet:
                continue
            child.state.unmet.discard(parent)
            note_parent(child.options, child.state, parent, status)
            self._check_waiting(child, now)

    def forget(self, tasks: Iterable[Task]) -> None:
        """Their ends are stored: from now on only the store knows the tasks, and memory their status for a while."""
        live, recent, jobs, gone = self.state.tasks, self.recent, self.state.jobs, []
        for task in tasks:
            if live.pop(task.id, None) is not None:
                gone.append(task)
            self.void.lift(task.id)
            recent[task.id] = status_of(task)
            name = task.options.job
            if name and (job := jobs.get(name)) is not None:
                job.tasks.pop(task.id, None)
                if not job.tasks:
                    del jobs[name]
        self.usage.remove(gone)
        while len(recent) > REMEMBERED_ENDS:
            recent.popitem(last=False)

    def discard(self, tasks: Iterable[Task], now: float) -> None:
        """Undo an admission that could not be stored."""
        for task in tasks:
            self.withdraw(task)
            if self.state.tasks.get(task.id) is not task:
                continue
            self.forget((task,))
            self.recent.pop(task.id, None)
            self.void.note(task.id, max(task.attempt, task.highest))
            if task.id in self.state.dependents:
                self.release_dependents(task.id, None, now)

    # ------------------------------------------------------------------------------------------- time

    def on_time(self, now: float) -> list[Task]:
        """Timers that are due. Returns tasks to be taken back from their runtimes because their time to start is over."""
        take_back = []
        while self._timers and self._timers[0][0] <= now:
            _, _, kind, task_id = heapq.heappop(self._timers)
            task = self.state.tasks.get(task_id)
            if task is None or isinstance(task.state, Ended | Running):
                continue
            if kind == "release":
                self.on_release_time(task, now)
            elif task.started:
                continue
            elif isinstance(task.state, Assigned):
                task.expiring = True
                take_back.append(task)
            else:
                self._expire(task, now)
        return take_back

    def next_time(self) -> float | None:
        """When ``on_time`` should be called again."""
        return self._timers[0][0] if self._timers else None

    def on_release_time(self, task: Task, now: float) -> None:
        waiting = task.state
        if not isinstance(waiting, Waiting):
            return
        if waiting.why == "recovering":
            if self.recovery.awaits(task, waiting, now):
                return
            if task.cancelling:
                error = ErrorInfo(Reason.CANCELLED, "cancelled; no runtime has it")
                self._end(task, "cancel", Status.CANCELLED, now, error=error)
                return
            waiting.why = "retry"  # nobody has it; its dependencies were met before
        elif now < waiting.until:
            return
        self._check_waiting(task, now)

    def update_of(self, task: Task, until: float = 0.0) -> UpdateTask:
        not_before = until + self.wall_offset if until else 0.0
        story = encode_story(task.story) if task.story else b""
        attempt = max(task.attempt, task.highest)
        return UpdateTask(task.id, attempt, task.failures, task.losses, not_before, story)

    def set_timer(self, when: float, kind: str, task_id: TaskId) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, kind, task_id))

    def _tell(self, task: Task, status: str, reason: str, now: float) -> None:
        """Add to the task's story what its other fields will not tell once the next attempt overwrites them."""
        story = task.story = task.story if task.story is not None else []
        if task.started and isinstance(task.state, Running):
            add_once(story, Transition(task.started, "running", "", task.runtime, task.attempt))
        story.append(Transition(now + self.wall_offset, status, reason, task.runtime, task.attempt))
