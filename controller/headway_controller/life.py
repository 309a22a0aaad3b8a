"""Tasks: submission, dependencies, delays, ends, retries, cancels, time limits. Pure.

Every change of a task's state goes through ``transitions.move``; every end goes through ``_end``.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
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
    status_of,
)
from headway_controller.store.protocol import EndTask, StoredTask, UpdateTask
from headway_controller.story import decode_story, encode_story
from headway_controller.transitions import move
from headway_controller.turn import Turn

REMEMBERED_OPTIONS = 10_000
REMEMBERED_ENDS = 100_000
"""Ended tasks whose status is kept in memory, for those that come after them and for repeated submissions."""


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
        self.recent: OrderedDict[TaskId, Status] = OrderedDict()
        self._timers: list[tuple[float, int, str, TaskId]] = []
        self._timer_count = 0
        self._random = random.Random(seed)

    # ------------------------------------------------------------------------------------------- submission

    def admit(self, task: Task, now: float) -> bool:
        """Take in a new task that was checked. True if it may be queued at once; the caller queues it in bulk."""
        options = task.options
        self.state.tasks[task.id] = task
        if options.job:
            self.state.jobs.setdefault(options.job, Job()).tasks[task.id] = None
        if options.timeout_start:
            self._set_timer(now + options.timeout_start, "expire", task.id)
        if not options.after and not options.delay:
            return True
        self._wait(task, now, now + options.delay)
        return False

    def intern(self, options: Options) -> Options:
        """The one record for equal options: memory holds it once, and the scheduler knows it by its identity."""
        key = _encode(options)
        known = self._options.get(key)
        if known is None:
            if len(self._options) >= REMEMBERED_OPTIONS:
                self._options.clear()
            known = self._options[key] = options
        return known

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
        options = self.intern(stored.options)
        task = Task(
            stored.task,
            options,
            stored.payload,
            stored.client,
            stored.submitted,
            Waiting(now, until, set(), "recovering"),
            # Which numbers the earlier controller gave out is not known beyond the last that failed or was lost, but
            # it was at most one more (see docs/design.md): whoever holds that one may still report it.
            attempt=stored.attempt + 1,
            failures=stored.failures,
            losses=stored.losses,
            story=decode_story(stored.story),
        )
        self.state.tasks[task.id] = task
        if options.job:
            self.state.jobs.setdefault(options.job, Job()).tasks[task.id] = None
        self.turn.store(self._update(task))
        submitted = stored.submitted - self.wall_offset
        not_before = max(submitted + options.delay, stored.not_before - self.wall_offset)
        if any(statuses.get(parent) not in ENDS for parent in options.after):
            self._wait(task, now, not_before)
        else:
            self._set_timer(max(until, not_before), "release", task.id)
            task.state = Waiting(now, max(until, not_before), set(), "recovering")
        if options.timeout_start:
            self._set_timer(max(now, submitted + options.timeout_start), "expire", task.id)

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
        )
        self._tell(task, "revived", f"was {end.status}", now)
        self.recent.pop(task.id, None)
        self.state.tasks[task.id] = task
        if options.job:
            self.state.jobs.setdefault(options.job, Job()).tasks[task.id] = None
        story = encode_story(task.story or [])
        self.turn.store(UpdateTask(task.id, task.attempt, 0, 0, 0.0, story, True))
        self.queue(task, "revive", now)

    def _wait(self, task: Task, now: float, until: float) -> None:
        options = task.options
        unmet = set()
        for parent in options.after:
            if self.status(parent) not in ENDS:
                unmet.add(parent)
                self.state.dependents.setdefault(parent, []).append(task.id)
        task.state = Waiting(now, until, unmet, "dependencies" if unmet else "delay")
        if until > now:
            self._set_timer(until, "release", task.id)
        self._check_waiting(task, now)

    def _check_waiting(self, task: Task, now: float) -> None:
        """Release the task, or end it, if what it waits for allows or forbids it to run."""
        waiting = task.state
        if not isinstance(waiting, Waiting) or waiting.why == "recovering":
            return
        verdict = self._dependencies(task, waiting)
        if verdict == "impossible":
            parent = next(each for each in task.options.after if self.status(each) in ENDS - {Status.SUCCEEDED})
            text = f"it comes after {short_text(parent)}, which {self.status(parent)}"
            self._end(task, "fail", Status.FAILED, now, error=ErrorInfo(Reason.DEPENDENCY, text))
        elif verdict == "met" and now >= waiting.until:
            self.queue(task, "release", now)
        elif verdict == "met":
            waiting.why = "delay"

    def _dependencies(self, task: Task, waiting: Waiting) -> str:
        options = task.options
        if not options.after:
            return "met"
        any_one, any_end = options.after_count == "any", options.after_end == "always"
        ended = [self.status(parent) for parent in options.after if parent not in waiting.unmet]
        good = len(ended) if any_end else sum(status == Status.SUCCEEDED for status in ended)
        needed = 1 if any_one else len(options.after)
        if good >= needed:
            return "met"
        possible = good + len(waiting.unmet) >= needed
        return "unmet" if possible else "impossible"

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
        elif task.cancelling or ended.end == AttemptEnd.CANCELLED:
            self._end(task, "cancel", Status.CANCELLED, now, error=ErrorInfo(Reason.CANCELLED, "cancelled"))
        elif task.expiring and ended.end == AttemptEnd.RETURNED:
            self._expire(task, now)
        elif ended.end == AttemptEnd.RETURNED:
            self._tell(task, "returned", "given back unstarted", now)
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
            self.turn.store(self._update(task))
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
            self.turn.store(self._update(task, until))
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
        self.withdraw(task)
        waited = max(0.0, task.started - task.submitted) if task.started else now + self.wall_offset - task.submitted
        outcome = Outcome(
            task.id,
            status,
            task.attempt,
            result,  # type: ignore[arg-type]  # a view of a received frame serves as bytes
            error,
            task.options.by_value,
            task.runtime,
            waited,
            seconds,
            task.predicted,
        )
        self.change(task, event, Ended(outcome, now), now)
        ended_at = now + self.wall_offset
        keep = task.options.retention
        self.turn.store(
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
        self.turn.due.ended.append(task)
        self.state.counters[f"tasks.{status}"] += 1
        if task.id in self.state.dependents:
            self._release_dependents(task, now)

    def _release_dependents(self, task: Task, now: float) -> None:
        for child_id in self.state.dependents.pop(task.id):
            child = self.state.tasks.get(child_id)
            if child is not None and isinstance(child.state, Waiting):
                child.state.unmet.discard(task.id)
                self._check_waiting(child, now)

    def forget(self, task: Task) -> None:
        """The end is stored: from now on only the store knows the task, and memory its status for a while."""
        self.state.tasks.pop(task.id, None)
        self.recent[task.id] = status_of(task)
        if len(self.recent) > REMEMBERED_ENDS:
            self.recent.popitem(last=False)
        name = task.options.job
        if name and (job := self.state.jobs.get(name)) is not None:
            job.tasks.pop(task.id, None)
            if not job.tasks:
                del self.state.jobs[name]

    def discard(self, tasks: Iterable[Task]) -> None:
        """Undo an admission that could not be stored."""
        for task in tasks:
            self.withdraw(task)
            if self.state.tasks.get(task.id) is task:
                self.forget(task)
                self.recent.pop(task.id, None)

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
        if not isinstance(waiting, Waiting) or now < waiting.until:
            return
        if waiting.why == "recovering":
            waiting.why = "delay"
        if not waiting.unmet:
            self._check_waiting(task, now)

    def _update(self, task: Task, until: float = 0.0) -> UpdateTask:
        not_before = until + self.wall_offset if until else 0.0
        story = encode_story(task.story) if task.story else b""
        return UpdateTask(task.id, task.attempt, task.failures, task.losses, not_before, story)

    def _set_timer(self, when: float, kind: str, task_id: TaskId) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, kind, task_id))

    def _tell(self, task: Task, status: str, reason: str, now: float) -> None:
        """Add to the task's story what its other fields will not tell once the next attempt overwrites them."""
        story = task.story = task.story if task.story is not None else []
        if task.started and isinstance(task.state, Running):
            story.append(Transition(task.started, "running", "", task.runtime, task.attempt))
        story.append(Transition(now + self.wall_offset, status, reason, task.runtime, task.attempt))
