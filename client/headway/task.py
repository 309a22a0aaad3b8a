"""A task as its client holds it: await it for its value, ask it how it is, cancel it.

Light, because a ``map`` makes a million of them: no future and no decoded value until somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from headway_bus import ids, messages, payloads
from headway_bus.endpoint import Frame
from headway_bus.errors import (
    BusError,
    PayloadError,
    Refused,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskLost,
)
from headway_bus.ids import TaskId
from headway_bus.records import Blob, Estimate, LogRecord, Options, Outcome, Reason, Status, TaskInfo

if TYPE_CHECKING:
    from headway.connection import Connection
    from headway.outputs import Output

Watcher = Callable[["Task"], None]


class Prediction(NamedTuple):
    """Where a task will run, and the seconds from now until it starts and ends; ``known`` says whether they are known."""

    runtime: str
    starts: Estimate
    ends: Estimate


class Task:
    """One task on the bus. ``await`` it for its value; cancelling that wait does not cancel the task, ``cancel()`` does."""

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_connection",
        "_data",
        "_heeded",
        "_is_whole",
        "_outcome",
        "_status",
        "_value",
        "_watchers",
        "options",
        "task_id",
    )

    def __init__(
        self,
        task_id: TaskId,
        connection: Connection,
        options: Options,
        status: Status | None = None,
        heeded: bool = True,
    ) -> None:
        self.task_id = task_id
        self.options = options
        self._connection = connection
        self._accepted: messages.Accepted | None = None
        self._heeded = heeded  # whether its end will be told us
        self._status = status
        self._outcome: Outcome | None = None
        self._data: Frame | Blob | None = None
        self._value: Any = None
        self._watchers: list[Watcher] | None = None
        self._is_whole = False  # the files beside the value have been put into it

    # ------------------------------------------------------------------------------------------------ what is known here

    @property
    def id(self) -> str:
        """The id as text, 26 letters and digits. The first eight are enough for ``bus.task()``."""
        return ids.text_of(self.task_id)

    @property
    def target(self) -> str:
        return self.options.target

    @property
    def status(self) -> Status:
        """The last that is known here, without asking: an end once it was heard. ``info()`` asks."""
        if self._outcome is not None:
            return self._outcome.status
        if self._status is not None:
            return self._status
        return Status.WAITING if self.options.after or self.options.delay else Status.QUEUED

    @property
    def done(self) -> bool:
        """Whether the end was heard here."""
        return self._outcome is not None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended: status, error, runtime, seconds waited and run. None until the end was heard here."""
        return self._outcome

    @property
    def first_estimate(self) -> Estimate | None:
        """Seconds until it starts, as the acceptance said; of tasks accepted together, until the first of them does."""
        return self._accepted.starts if self._accepted is not None else None

    def __repr__(self) -> str:
        return f"<headway task {ids.short_text(self.task_id)} {self.options.target} {self.status}>"

    # ------------------------------------------------------------------------------------------------ waiting

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> Any:
        """The value. Raises TaskFailed, TaskCancelled, TaskExpired, TaskLost; TimeoutError after ``timeout`` seconds."""
        if self._outcome is None:
            await self.wait(timeout)
        error = self._error()
        if error is not None:
            raise error
        assert self._outcome is not None
        value = await self._own_value()
        if self._outcome.files and not self._is_whole:
            from headway.outputs import with_files

            value = self._value = await with_files(self._connection, value, self._outcome.files)
            self._is_whole = True
        return value

    async def _own_value(self) -> Any:
        """The value without the files that lie beside it."""
        if isinstance(self._data, Blob):
            from headway.blobs import fetch

            self._data = await fetch(self._connection, self._data)
        return self._decoded()

    async def outputs(self, timeout: float | None = None) -> dict[str, Output]:
        """The files that it left, by their path; one that is a call's result has the path "". Large ones are not fetched.

        Raises what :meth:`result` raises about the task.
        """
        from headway.outputs import outputs_of

        if (error := await self.exception(timeout)) is not None:
            raise error
        assert self._outcome is not None
        return outputs_of(await self._own_value(), [] if self._is_whole else self._outcome.files)

    async def save(self, target: str | Path, timeout: float | None = None) -> list[Path]:
        """Write the files that it left into a folder, or the one that a call returned to that path; where they lie now.

        They are never in memory as a whole, and each is there whole or not at all; a call that is broken off by a cut goes
        on, when made again, where it stopped. Raises what :meth:`result` raises about the task, PayloadError if it left no
        files, OSError.
        """
        from headway.outputs import save

        return await save(self._connection, await self.outputs(timeout), Path(target))

    async def exception(self, timeout: float | None = None) -> TaskError | None:
        """What :meth:`result` would raise about the task itself, or None."""
        if self._outcome is None:
            await self.wait(timeout)
        return self._error()

    async def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, whatever it is. Raises TimeoutError after ``timeout`` seconds; the task goes on."""
        if self._outcome is not None:
            return
        self._connection.check()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_task: Task) -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.watch(wake)
        try:
            await self._connection.until(waiter, timeout)
        except TimeoutError:
            raise TimeoutError(f"{self!r} has not ended within {timeout:g} s; it goes on") from None
        finally:
            self.unwatch(wake)

    def watch(self, watcher: Watcher) -> None:
        """Call ``watcher(task)`` at the end, from the event loop; at once if it has been."""
        if self._outcome is not None:
            watcher(self)
            return
        if not self._heeded:
            self._heeded = True
            self._connection.watch(self)
        if self._watchers is None:
            self._watchers = [watcher]
        else:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        if self._watchers is not None and watcher in self._watchers:
            self._watchers.remove(watcher)

    # ------------------------------------------------------------------------------------------------ verbs

    async def info(self, timeout: float | None = 30.0) -> TaskInfo:
        """All that the bus knows of it now: status, attempt, runtime, times, progress, estimates, its story."""
        found: messages.TaskFound
        found, _ = await self._connection.ask(lambda number: messages.AskTask(number, self.id), timeout=timeout)
        self._status = found.task.status
        return found.task

    async def cancel(self, timeout: float | None = 60.0) -> bool:
        """Cancel it; a running one gets TERM, and after its ``grace`` KILL. Returns when it is over: True if this ended it."""
        changed: messages.Changed
        changed, _ = await self._connection.ask(lambda number: messages.Cancel(number, [self.task_id]), timeout=timeout)
        return changed.count > 0

    async def retry(self, timeout: float | None = 30.0) -> None:
        """Run it again after its end, with a fresh count of attempts. Raises Refused if it has not ended."""
        changed: messages.Changed
        changed, _ = await self._connection.ask(
            lambda number: messages.RetryTasks(number, [self.task_id]), safe=False, timeout=timeout
        )
        if changed.refused:
            raise Refused("state", f"{self!r} cannot be run again: {changed.refused[0][1]}")
        self._forget_end()

    async def describe(self, text: str, timeout: float | None = 30.0) -> None:
        """Give it another description, whatever its status; nothing else of it changes. Returns when that is stored."""
        from headway.questions import Questions

        await Questions(self._connection).describe(self, text, timeout=timeout)

    async def estimate(self, timeout: float | None = 30.0) -> Prediction:
        """Where it will run, and when it starts and ends by what is known now."""
        info = await self.info(timeout)
        unknown = Estimate(0.0, 0.0, known=False, why=f"the task is {info.status}")
        return Prediction(
            info.start_runtime or info.runtime, info.start_estimate or unknown, info.end_estimate or unknown
        )

    async def explain(self, timeout: float | None = 30.0) -> dict[str, Any]:
        """Why it is where it is: candidates, their estimates, what was chosen; for one that waits, what it lacks."""
        answer: messages.Explained
        answer, _ = await self._connection.ask(
            lambda number: messages.AskExplain(number, self.task_id), timeout=timeout
        )
        return answer.story

    def logs(self, follow: bool = False, attempt: int = 0) -> AsyncIterator[LogRecord]:
        """Its output and log records in order. ``follow``: go on until it has ended and all have come.

        ``attempt``: only that attempt's, counted from 1; 0: all.
        """
        from headway.logs import records_of

        return records_of(self._connection, self, follow, attempt)

    # ------------------------------------------------------------------------------------------------ inside

    def _end(self, outcome: Outcome, data: Frame | Blob) -> None:
        """The end was heard."""
        if self._outcome is not None:
            return
        self._outcome = outcome
        self._data = data
        watchers, self._watchers = self._watchers, None
        for watcher in watchers or ():
            watcher(self)

    def _forget_end(self) -> None:
        """It runs again: from now on wait for the next end."""
        self._outcome = self._data = self._value = None
        self._is_whole = False
        self._status = Status.QUEUED
        self._heeded = False
        if self._watchers:
            self._heeded = True
            self._connection.watch(self)

    def _abandon(self, error: BusError) -> None:
        """The end will not be heard on this connection; whoever waits is told by the connection."""

    def _decoded(self) -> Any:
        """The value; decoded once, and the bytes let go."""
        data, outcome = self._data, self._outcome
        if data is not None and outcome is not None and not isinstance(data, Blob):
            self._value = value_of(outcome, data, self.options.by_value or self._connection.by_value)
            self._data = None
        return self._value

    def _error(self) -> TaskError | None:
        assert self._outcome is not None
        return error_of(self._outcome, self.options.target)


def value_of(outcome: Outcome, data: Frame, by_value: bool) -> Any:
    """The value in these bytes. ``by_value``: pickled ones may be opened. Raises PayloadError."""
    if not outcome.by_value:
        return payloads.decode(data) if len(data) else None
    if by_value:
        return payloads.decode_result_by_value(data)
    raise PayloadError(
        f"the result of task {ids.short_text(outcome.task)} came by value (pickled), which this client does not open: "
        "headway.connect(by_value=True) allows it, if you trust whoever runs the task"
    )


def error_of(outcome: Outcome, target: str) -> TaskError | None:
    """The error that this end stands for, with the remote traceback in its text; None for a success."""
    if outcome.status == Status.SUCCEEDED:
        return None
    task = ids.text_of(outcome.task)
    details = outcome.error
    head = f"task {task[: ids.SHORT_CHARACTERS]} ({target})"
    if outcome.status == Status.CANCELLED:
        why = f": {details.message}" if details and details.message else ""
        return TaskCancelled(f"{head} was cancelled{why}", task, details)
    if details is None:
        return TaskFailed(f"{head} {outcome.status}", task)
    if outcome.status == Status.EXPIRED:
        return TaskExpired(f"{head} expired: {details.message}", task, details)
    kind = details.type.removeprefix("builtins.")
    text = f"{head} failed: {kind + ': ' if kind else ''}{details.message}"
    if details.traceback:
        text += f"\n\nOn {outcome.runtime or 'the runtime'}, attempt {outcome.attempt}:\n{details.traceback.rstrip()}"
    return (TaskLost if details.reason == Reason.LOST else TaskFailed)(text, task, details)
