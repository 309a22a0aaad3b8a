"""A task as the blocking client holds it: a ``concurrent.futures.Future`` with the verbs of a task.

A ``Future`` of the standard library carries a condition with a lock and a queue, over a kilobyte, which a ``map`` of a
million cannot afford. Here they are made when somebody first waits; a task whose end comes before that never has them.
Code of the standard library that works on futures (``wait``, ``as_completed``, ``asyncio.wrap_future``) reaches them by
the names it knows, ``_condition``, ``_waiters``, ``_done_callbacks``; a test holds that against each Python version.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.logs import call_back
from headway.task import Prediction, Task, error_of, value_of
from headway_bus import ids
from headway_bus.endpoint import Frame
from headway_bus.errors import TaskCancelled, TaskError
from headway_bus.ids import TaskId
from headway_bus.messages import Accepted
from headway_bus.records import Blob, Estimate, LogRecord, Options, Outcome, Status, TaskInfo

if TYPE_CHECKING:
    from headway.engine import Engine
    from headway.outputs import Output

_PENDING = "PENDING"
_FINISHED = "FINISHED"
_making = threading.Lock()
"""Held while a condition is made, or while an end is noted without one: so that one of the two sees the other."""


class CancelledTaskError(TaskCancelled, CancelledError):
    """The task was cancelled: a TaskCancelled as everywhere, and what users of futures catch."""


class ClientTask(Future[Any]):
    """One task on the bus. ``result()`` waits for its value; ``cancel()`` cancels it wherever it is."""

    _state: str = _PENDING
    _result: Any = None
    _exception: BaseException | None = None

    def __init__(
        self, task_id: TaskId, engine: Engine, options: Options, status: Status | None = None, heeded: bool = True
    ) -> None:
        # Future.__init__ is not called: it makes what this class makes late.
        self.task_id = task_id
        self.options = options
        self._engine = engine
        self._heeded = heeded
        self._known = status
        self._accepted: Accepted | None = None
        self._outcome: Outcome | None = None
        self._data: Frame | Blob | None = None
        self._value: Any = None
        self._made: threading.Condition | None = None

    # ------------------------------------------------------------------------------------------------ a future's insides

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        made = self._made
        if made is None:
            with _making:
                made = self._made = self._made or threading.Condition()
            self._heed()
        return made

    @cached_property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return []

    @cached_property
    def _done_callbacks(self) -> list[Callable[[Future[Any]], Any]]:
        return []

    def _heed(self) -> None:
        """Be told of the end: a task that another client submitted is only followed when somebody cares."""
        if not self._heeded and not self._engine.closed:
            self._heeded = True
            self._engine.call_soon(lambda: self._engine.connection.watch(self))

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
        return self._light().status

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

    # ------------------------------------------------------------------------------------------------ a future's verbs

    def done(self) -> bool:
        self._heed()
        return self._state == _FINISHED

    def running(self) -> bool:
        """Whether it runs, by what is known here: ``info()`` asks."""
        return self._state != _FINISHED and self._known == Status.RUNNING

    def cancelled(self) -> bool:
        return self._outcome is not None and self._outcome.status == Status.CANCELLED

    def cancel(self, timeout: float | None = 60.0) -> bool:
        """Cancel it; a running one gets TERM, and after its ``grace`` KILL. Returns when it is over: True if this ended it."""
        if self._state == _FINISHED:
            return self.cancelled()
        return self._engine.run(self._light().cancel(timeout))

    def result(self, timeout: float | None = None) -> Any:
        """The value. Raises TaskFailed, TaskCancelled, TaskExpired, TaskLost; TimeoutError after ``timeout`` seconds."""
        error = self.exception(timeout)
        if error is not None:
            raise error
        data = self._data
        if data is not None and self._outcome is not None:
            if isinstance(data, Blob) or self._outcome.files:
                self._value = self._engine.run(self._light().result())
            else:
                self._value = value_of(self._outcome, data, self.options.by_value or self._engine.connection.by_value)
            self._data = None
        return self._value

    def outputs(self, timeout: float | None = None) -> dict[str, Output]:
        """The files that it left, by their path; one that is a call's result has the path "". Large ones are not fetched.

        Raises what :meth:`result` raises about the task.
        """
        if (error := self.exception(timeout)) is not None:
            raise error
        return self._engine.run(self._light().outputs())

    def save(self, target: str | Path, timeout: float | None = None) -> list[Path]:
        """Write the files that it left into a folder, or the one that a call returned to that path; where they lie now.

        They are never in memory as a whole, and each is there whole or not at all; a call that is broken off by a cut goes
        on, when made again, where it stopped. Raises what :meth:`result` raises about the task, PayloadError if it left no
        files, OSError.
        """
        if (error := self.exception(timeout)) is not None:
            raise error
        return self._engine.run(self._light().save(target))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What :meth:`result` would raise about the task, or None. TimeoutError after ``timeout`` seconds."""
        if self._state != _FINISHED:
            self._wait(timeout)
        if self._exception is not None:
            return self._exception
        assert self._outcome is not None
        return _as_future_error(error_of(self._outcome, self.options.target))

    def set_result(self, result: Any) -> None:
        raise RuntimeError("the result of a task comes from the bus")

    def set_exception(self, exception: BaseException | None) -> None:
        raise RuntimeError("the exception of a task comes from the bus")

    # ------------------------------------------------------------------------------------------------ a task's verbs

    def info(self, timeout: float | None = 30.0) -> TaskInfo:
        """All that the bus knows of it now: status, attempt, runtime, times, progress, estimates, its story."""
        info = self._engine.run(self._light().info(timeout))
        self._known = info.status
        return info

    def estimate(self, timeout: float | None = 30.0) -> Prediction:
        """Where it will run, and when it starts and ends by what is known now."""
        return self._engine.run(self._light().estimate(timeout))

    def describe(self, text: str, timeout: float | None = 30.0) -> None:
        """Give it another description, whatever its status; nothing else of it changes. Returns when that is stored."""
        light = self._light()
        self._engine.run(light.describe(text, timeout))
        self.options = light.options

    def explain(self, timeout: float | None = 30.0) -> dict[str, Any]:
        """Why it is where it is: candidates, their estimates, what was chosen; for one that waits, what it lacks."""
        return self._engine.run(self._light().explain(timeout))

    def logs(self, follow: bool = False, attempt: int = 0) -> Iterator[LogRecord]:
        """Its output and log records in order. ``follow``: go on until it has ended and all have come."""
        records = self._light().logs(follow, attempt)

        async def following() -> LogRecord | None:
            return await anext(records, None)

        async def stop() -> None:
            await records.aclose()  # type: ignore[attr-defined]

        try:
            while (record := self._engine.run(following())) is not None:
                yield record
        except GeneratorExit:
            # The caller has had enough. An interrupted step needs none of this: it is cancelled, which ends the stream,
            # and closing that while it unwinds would be refused.
            if not self._engine.closed:
                self._engine.run(stop())
            raise

    # ------------------------------------------------------------------------------------------------ inside

    def _wait(self, timeout: float | None) -> None:
        self._engine.check()
        with self._condition:
            if not self._condition.wait_for(lambda: self._state == _FINISHED, timeout):
                raise TimeoutError(f"{self!r} has not ended within {timeout:g} s; it goes on")

    def _end(self, outcome: Outcome, data: Frame | Blob) -> None:
        """The end was heard. Called in the client's own thread."""
        self._outcome = outcome
        self._data = data
        self._finish()

    def _abandon(self, error: BaseException) -> None:
        """The end will not be heard on this connection."""
        self._exception = error
        self._finish()

    def _finish(self) -> None:
        with _making:
            if self._made is None:
                self._state = _FINISHED  # nobody waits, so nobody need be told
                return
        is_here = not (isinstance(self._data, Blob) or (self._outcome is not None and self._outcome.files))
        if self._done_callbacks and not is_here:
            # A callback may ask for the value, which the client's own thread would have to fetch.
            threading.Thread(target=self._tell, name="headway-callback", daemon=True).start()
        else:
            self._tell()

    def _tell(self) -> None:
        assert self._made is not None
        with self._made:
            self._state = _FINISHED
            for waiter in self._waiters:
                if self.cancelled():
                    waiter.add_cancelled(self)
                elif self.exception() is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            self._made.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def _light(self) -> Task:
        """The same task for the asynchronous verbs."""
        task = Task(self.task_id, self._engine.connection, self.options, self._known, heeded=False)
        task._outcome = self._outcome
        task._data = self._data
        if self._outcome is not None and self._data is None:  # it was asked for before
            task._value, task._is_whole = self._value, True
        return task

    def _call_back(self, callback: Callable[[LogRecord], object], accepted: Future[Any]) -> None:
        """Give each record to the caller's function, from the client's own thread, as soon as the task is accepted."""

        def begin() -> None:
            light = self._light()
            connection = self._engine.connection
            connection.accompany(
                call_back(connection, light, callback, asyncio.wrap_future(accepted)), lambda: light.done
            )

        self._engine.call_soon(begin)


def _as_future_error(error: TaskError | None) -> TaskError | None:
    """A cancelled task's error is one that users of futures catch as well."""
    if isinstance(error, TaskCancelled):
        return CancelledTaskError(str(error), error.task, error.error)
    return error
