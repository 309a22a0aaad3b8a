"""Tasks: submission, dependencies, delays, ends, retries, cancels, time limits. Pure.

Every change of a task's state goes through ``transitions.move``; every end goes through ``_end``.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping

import msgspec

from headway_bus.ids import TaskId, short_text
from headway_bus.records import (
    ENDS,
    AttemptEnd,
    ErrorInfo,
    Options,
    Outcome,
    Reason,
    Status,
    Transition,
)
from headway_bus.records import Ended as AttemptEnded
from headway_controller.news import News
from headway_controller.placement import Scheduler
from headway_controller.state import (
    Assigned,
    ControllerState,
    Ended,
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
from headway_controller.store.protocol import EndTask, StoredTask, UpdateTask
from headway_controller.story import decode_story, encode_story
from headway_controller.transitions import move
from headway_controller.turn import Turn

REMEMBERED_OPTIONS = 10_000
REMEMBERED_ENDS = 100_000
"""Ended tasks whose status is kept in memory, for those that come after them and for repeated submissions."""

MOST_VOID = 1_000_000
"""A number beyond it was given out by nobody."""

LOOK_LATER = 1.0
"""Seconds between looks whether the time to claim attempts, which was prolonged, is over."""

LOOK_AGAIN = 0.1
"""Seconds between looks whether a runtime has let go of an attempt."""

OVER = frozenset({"failed", "returned", "revived"})
"""Steps of a story after which the attempt that they name is known to be over."""

ENDED_HOW = {Status.FAILED: "failed", Status.CANCELLED: "was cancelled", Status.EXPIRED: "expired"}

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
        self._void: dict[TaskId, int] = {}
        self._barred: set[TaskId] = set()
        """Tasks of which an attempt that counts for nothing may still run: the next waits until it does not."""

        self._recovering: list[TaskId] = []
        self.recovering_until = 0.0
        """Until then runtimes may say that they hold what an earlier controller gave them."""

        self.recent: OrderedDict[TaskId, Status] = OrderedDict()
        self._timers: list[tuple[float, int, str, TaskId]] = []
        self._timer_count = 0
        self._random = random.Random(seed)

    # ------------------------------------------------------------------------------------------- submission

    def admit(self, task: Task, now: float, again: bool = False) -> bool:
        """Take in a new task that was checked. True if it may be queued at once; the caller queues it in bulk.

        ``again``: it may have been submitted to an earlier controller, which may have given it to a runtime.
        """
        options = task.options
        self._take_in(task)
        barred = bool(self._void) and task.id in self._void
        if barred:
            task.attempt = task.over = self._void.pop(task.id)
            self._barred.add(task.id)
        if options.timeout_start:
            self._set_timer(now + options.timeout_start, "expire", task.id)
        recovering = again and now < self.recovering_until
        if not options.after and not options.delay and not barred and not recovering:
            return True
        waiting = self._waiting_for(options, now, now + options.delay, {})
        if recovering and self._verdict(options, waiting) == "met":
            self._begin_recovering(task, waiting, self.recovering_until)
        else:
            self._begin_waiting(task, waiting, now)
        return False

    def _take_in(self, task: Task) -> None:
        self.state.tasks[task.id] = task
        self.state.per_client[owner_of(task.client)] += 1
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

    def restore(self, stored: StoredTask, now: float, until: float, statuses: Mapping[TaskId, Status]) -> None:
        """Take in an unfinished task that an earlier controller left. It waits until ``until`` for a runtime to claim it."""
        options, story = self.intern(stored.options), decode_story(stored.story)
        task = Task(
            stored.task,
            options,
            stored.payload,
            stored.client,
            stored.submitted,
            Waiting(now, until, set(), "recovering"),
            # Which numbers the earlier controller gave out is not known beyond the last that it stored.
            attempt=stored.attempt + 1,
            failures=stored.failures,
            losses=stored.losses,
            story=story,
            over=max((step.attempt for step in story or () if step.status in OVER), default=0),
        )
        self._take_in(task)
        self.turn.store(self.update_of(task))
        # A clock that was set back since must not make anybody wait until it has caught up.
        submitted = min(stored.submitted - self.wall_offset, now)
        back_off = min(stored.not_before - self.wall_offset, now + options.retry.backoff_max)
        not_before = max(submitted + options.delay, back_off)
        if options.timeout_start:
            self._set_timer(max(now, submitted + options.timeout_start), "expire", task.id)
        waiting = self._waiting_for(options, now, not_before, statuses, known_only=True)
        if self._verdict(options, waiting) == "met":
            self._begin_recovering(task, waiting, until)
        else:
            self._begin_waiting(task, waiting, now)

    def revive(self, stored: StoredTask, now: float) -> None:
        """Take in an ended task once more, with a fresh count of attempts."""
        assert stored.end is not None
        options, end = self.intern(stored.options), stored.end
        outcome = Outcome(stored.task, end.status, end.attempt)
        task = Task(
            stored.task,
            options,
            stored.payload,
            stored.client,
            stored.submitted,
            Ended(outcome, now),
            attempt=end.attempt,
            runtime=end.runtime,
            error=end.error,
            story=decode_story(stored.story),
            over=end.attempt,
        )
        self._tell(task, "revived", f"was {end.status}", now)
        self.recent.pop(task.id, None)
        self._take_in(task)
        story = encode_story(task.story or [])
        self.turn.store(UpdateTask(task.id, task.attempt, 0, 0, 0.0, story, True))
        self.queue(task, "revive", now)

    def _waiting_for(
        self, options: Options, now: float, until: float, statuses: Mapping[TaskId, Status], *, known_only: bool = False
    ) -> Waiting:
        """How things stand with what the task comes after.

        ``statuses``: of tasks that memory need not know. ``known_only``: a parent of which nothing is known any more was
        purged after its end, and will never be heard of; otherwise it may be part of the same submission.
        """
        waiting = Waiting(now, until, set(), "dependencies")
        for parent in dict.fromkeys(options.after):
            status = self.status(parent) or statuses.get(parent)
            if status in ENDS:
                self._note_parent(options, waiting, parent, status)
            elif status is None and known_only:
                self._note_parent(options, waiting, parent, None)
            else:
                waiting.unmet.add(parent)
        return waiting

    def _begin_recovering(self, task: Task, waiting: Waiting, until: float) -> None:
        """It may have been given to a runtime, which shall have the time to say so."""
        waiting.unmet, waiting.why = set(), "recovering"
        task.state = waiting
        self._recovering.append(task.id)
        self._set_timer(max(until, waiting.until), "release", task.id)

    @property
    def is_recovering(self) -> bool:
        """Whether tasks wait for runtimes to claim them."""
        return bool(self._recovering)

    def extend_recovery(self, until: float) -> None:
        """The runtimes have longer to say what they hold, because they could not be heard."""
        self.recovering_until = max(self.recovering_until, until)

    def end_recovery(self, now: float) -> None:
        """Every runtime that may hold something has said what: nobody has the rest."""
        self.recovering_until = now
        waiting, self._recovering = self._recovering, []
        queued = Queued(now)
        options: Options | None = None
        ready: list[TaskId] = []
        for task_id in waiting:
            task = self.state.tasks.get(task_id)
            if task is None or not isinstance(task.state, Waiting) or task.state.why != "recovering":
                continue
            if now < task.state.until or task_id in self._barred:
                self._on_release_time(task, now)
                continue
            # Neighbours of the same options together: there may be a million, and nothing starts before the last.
            if task.options is not options:
                self._enqueue_many(options, ready, now)
                options, ready = task.options, []
            self.change(task, "release", queued, now)
            ready.append(task_id)
        self._enqueue_many(options, ready, now)

    def _enqueue_many(self, options: Options | None, tasks: list[TaskId], now: float) -> None:
        if options is not None:
            self.scheduler.enqueue_many(options, tasks, now)

    def _begin_waiting(self, task: Task, waiting: Waiting, now: float) -> None:
        task.state = waiting
        if not waiting.unmet:
            waiting.why = "delay"
        for parent in waiting.unmet:
            self.state.dependents.setdefault(parent, []).append(task.id)
        if waiting.until > now:
            self._set_timer(waiting.until, "release", task.id)
        self._check_waiting(task, now)

    @staticmethod
    def _note_parent(options: Options, waiting: Waiting, parent: TaskId, status: Status | None) -> None:
        """A parent has ended; None: it has, but how is not known any more."""
        if status == Status.SUCCEEDED or options.after_end == "always":
            waiting.met += 1
        elif status is None:
            waiting.bar = f"it comes after {short_text(parent)}, whose end is not known any more (it was purged)"
        else:
            waiting.bar = f"it comes after {short_text(parent)}, which {ENDED_HOW[status]}"

    @staticmethod
    def _verdict(options: Options, waiting: Waiting) -> str:
        """Whether its dependencies are "met", may still be ("unmet"), or can never be ("impossible")."""
        if options.after_count == "any" and options.after:
            return "met" if waiting.met else "unmet" if waiting.unmet else "impossible"
        return "impossible" if waiting.bar else "unmet" if waiting.unmet else "met"

    def _check_waiting(self, task: Task, now: float) -> None:
        """Release the task, or end it, if what it waits for allows or forbids it to run."""
        waiting = task.state
        if not isinstance(waiting, Waiting) or waiting.why == "recovering":
            return
        # A back-off came after the dependencies were met, once and for all.
        verdict = "met" if waiting.why == "retry" else self._verdict(task.options, waiting)
        if verdict == "impossible":
            self._end(task, "fail", Status.FAILED, now, error=ErrorInfo(Reason.DEPENDENCY, waiting.bar))
        elif verdict == "met" and now >= waiting.until:
            if self._barred and task.id in self._barred and self._is_held(task):
                waiting.until = now + LOOK_AGAIN
                self._set_timer(waiting.until, "release", task.id)
                return
            self._barred.discard(task.id)
            self.queue(task, "release", now)
        elif verdict == "met" and waiting.why == "dependencies":
            waiting.why = "delay"

    def _is_held(self, task: Task) -> bool:
        """Whether a runtime still has an attempt of it, which it was told to stop."""
        return any(key[0] == task.id for runtime in self.state.runtimes.values() for key in runtime.held)

    def note_void(self, task_id: TaskId, attempt: int) -> None:
        """An attempt that counts for nothing, of a task that is not known (yet, or any more).

        If the task is submitted once more, what a runtime still says of this attempt must not be taken for its word on the
        next one.
        """
        if not 0 < attempt <= MOST_VOID:
            return
        if len(self._void) >= REMEMBERED_ENDS:
            self._void.clear()
        self._void[task_id] = max(attempt, self._void.get(task_id, 0))

    def queue(self, task: Task, event: str, now: float) -> None:
        """Give the task to the scheduler."""
        self.change(task, event, Queued(now), now)
        self.scheduler.enqueue(task.id, task.options, now)

    def change(self, task: Task, event: str, state: State, now: float) -> None:
        """Move the task along the table, and tell those who follow it."""
        move(task, event, state)
        if self.state.topics:
            self.news.on_task(task, now + self.wall_offset)

    # ------------------------------------------------------------------------------------------- attempts

    def on_attempt_ended(self, task: Task, ended: AttemptEnded, result: Value, now: float) -> None:
        """The runtime's word on the present attempt. The caller has fenced older ones and freed the runtime."""
        if ended.end == AttemptEnd.SUCCEEDED:
            self._end(task, "succeed", Status.SUCCEEDED, now, result=result, seconds=ended.seconds)
        elif task.cancelling:
            self._end(task, "cancel", Status.CANCELLED, now, error=ErrorInfo(Reason.CANCELLED, "cancelled"))
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

    def requeue(self, task: Task, event: str, now: float) -> None:
        """Back into the queue, for another attempt."""
        self.state.counters["attempts.requeued"] += 1
        self.queue(task, event, now)

    def withdraw(self, task: Task) -> None:
        """Take a queued task back from the scheduler, because a runtime turns out to have it or it ends."""
        if isinstance(task.state, Queued):
            self.scheduler.remove(task.id, task.options)

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
            self._set_timer(until, "release", task.id)
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
            )
        )
        due.ended.append(task)
        self.state.counters[COUNTER_OF[status]] += 1
        if task.id in self.state.dependents:
            self._release_dependents(task.id, status, now)

    def _release_dependents(self, task_id: TaskId, status: Status | None, now: float) -> None:
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
            self._note_parent(child.options, child.state, parent, status)
            self._check_waiting(child, now)

    def forget(self, task: Task) -> None:
        """The end is stored: from now on only the store knows the task, and memory its status for a while."""
        if self.state.tasks.pop(task.id, None) is not None:
            owner = owner_of(task.client)
            self.state.per_client[owner] -= 1
            if not self.state.per_client[owner]:
                del self.state.per_client[owner]
        if self._barred:
            self._barred.discard(task.id)
        self.recent[task.id] = status_of(task)
        if len(self.recent) > REMEMBERED_ENDS:
            self.recent.popitem(last=False)
        name = task.options.job
        if name and (job := self.state.jobs.get(name)) is not None:
            job.tasks.pop(task.id, None)
            if not job.tasks:
                del self.state.jobs[name]

    def discard(self, tasks: Iterable[Task], now: float) -> None:
        """Undo an admission that could not be stored."""
        for task in tasks:
            self.withdraw(task)
            if self.state.tasks.get(task.id) is not task:
                continue
            self.forget(task)
            self.recent.pop(task.id, None)
            self._barred.discard(task.id)
            self.note_void(task.id, max(task.attempt, task.highest))
            if task.id in self.state.dependents:
                self._release_dependents(task.id, None, now)

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
                self._on_release_time(task, now)
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

    def _on_release_time(self, task: Task, now: float) -> None:
        waiting = task.state
        if not isinstance(waiting, Waiting):
            return
        if waiting.why == "recovering":
            until = max(waiting.until, self.recovering_until)
            if now < until:
                self._set_timer(min(until, now + LOOK_LATER), "release", task.id)
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

    def _set_timer(self, when: float, kind: str, task_id: TaskId) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, kind, task_id))

    def _tell(self, task: Task, status: str, reason: str, now: float) -> None:
        """Add to the task's story what its other fields will not tell once the next attempt overwrites them."""
        story = task.story = task.story if task.story is not None else []
        if task.started and isinstance(task.state, Running):
            story.append(Transition(task.started, "running", "", task.runtime, task.attempt))
        story.append(Transition(now + self.wall_offset, status, reason, task.runtime, task.attempt))
