"""What a running task knows of itself, and how it speaks: logs, progress, metrics.

The client package gives these to users as ``headway.context()``, ``headway.log`` …; a runtime sets them up:

- For a callable, the child process enters a :class:`TaskContext` around the call.
- For a script or a command, which is a process of its own, the runtime sets the variables that :func:`environment`
  makes. ``HEADWAY_REPORT_FD`` is then the writing end of a pipe; each emission is one msgpack array
  ``[stream, text, fields]`` of at most PIPE_BUF bytes, so that lines of several processes never mix.

Outside a task everything here does nothing: a function that logs its progress can be called anywhere.
"""

from __future__ import annotations

import contextvars
import json
import os
import select
import signal
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

import msgspec

from headway_bus.errors import HeadwayError

TASK_VARIABLE = "HEADWAY_TASK"
ATTEMPT_VARIABLE = "HEADWAY_ATTEMPT"
JOB_VARIABLE = "HEADWAY_JOB"
NAME_VARIABLE = "HEADWAY_NAME"
PARAMS_VARIABLE = "HEADWAY_PARAMS_FILE"
REPORT_VARIABLE = "HEADWAY_REPORT_FD"

MAX_TEXT = 2048
"""Characters of one text in an emission; what is longer is cut, and ends in :data:`CUT_MARK`."""

MAX_ITEMS = 100
MAX_DEPTH = 4
CUT_MARK = "… (cut)"

PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes in one piece; 512 is what POSIX promises at least."""

Emit = Callable[[str, str, dict[str, Any]], None]
"""``emit(stream, text, fields)`` with stream "log", "progress" or "metric"; fields are plain (:func:`plain`)."""


class Flag(Protocol):
    """Something like a ``threading.Event``."""

    def is_set(self) -> bool: ...


def _emit_nothing(stream: str, text: str, fields: dict[str, Any]) -> None:
    pass


class TaskContext:
    """A task, as its own code sees it. ``with TaskContext(…):`` makes it the :func:`current` one.

    ``id`` is the text that people see, ``attempt`` counts from 1. Outside a task: id "" and attempt 0.
    """

    def __init__(
        self,
        id: str = "",  # the word a user of context() looks for
        attempt: int = 0,
        job: str = "",
        name: str = "",
        params: Mapping[str, Any] | None = None,
        stop: Flag | None = None,
        emit: Emit = _emit_nothing,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.job = job
        self.name = name
        self.emit = emit
        self._params = params
        self._stop = stop
        self._tokens: list[contextvars.Token[TaskContext | None]] = []

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of a command or script; empty for a callable, which has arguments."""
        return {} if self._params is None else self._params

    @property
    def files(self) -> Mapping[str, Path]:
        """Where the files lie that were attached to a call, by their names: for reading only, since other tasks have the
        same. A script finds its files in its own folder, and this is empty there."""
        return {}

    @property
    def should_stop(self) -> bool:
        """Whether the task is being cancelled or ran out of time. A task that looks at it can end in its own way.

        In a script, the first look makes TERM set this flag, where it would otherwise end the process at once (unless
        the script has a handler of its own, or looks from a thread first). After the grace period comes KILL.
        """
        return self._stop is not None and self._stop.is_set()

    def __enter__(self) -> TaskContext:
        self._tokens.append(_current.set(self))
        _entered.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _entered.remove(self)
        _current.reset(self._tokens.pop())

    def __repr__(self) -> str:
        return f"TaskContext(id={self.id!r}, attempt={self.attempt}, job={self.job!r}, name={self.name!r})"


_current: contextvars.ContextVar[TaskContext | None] = contextvars.ContextVar("headway_task", default=None)
_entered: list[TaskContext] = []
"""Threads that a task starts do not inherit its context variables; the process's only task is theirs all the same."""

_nobody = TaskContext()
_of_environment: TaskContext | None = None


def current() -> TaskContext:
    """The running task's context; outside a task, an empty one that can be used all the same."""
    context = _current.get()
    if context is not None:
        return context
    if len(_entered) == 1:
        return _entered[0]
    return _from_environment()


def log(event: str, /, **fields: Any) -> None:
    """A structured record: a short phrase, and numbers or words."""
    current().emit("log", plain_text(event), plain(fields))


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """How far the task is: ``progress(3, 10)``."""
    fields = {"done": _number(done)} if total is None else {"done": _number(done), "total": _number(total)}
    current().emit("progress", plain_text(text), fields)


def metric(name: str, value: float, step: int | None = None) -> None:
    """A number to follow over time: ``metric("loss", 0.1, step=3)``."""
    fields: dict[str, Any] = {"value": _number(value)}
    if step is not None:
        fields["step"] = int(step)
    current().emit("metric", plain_text(name), fields)


def tell(value: Any) -> None:
    """A message to everybody who follows ``messages``: plain values, kept and delivered even where output is given up."""
    current().emit("message", "", plain({"value": value}))


# ------------------------------------------------------------------------------------------------------ plain fields


def _number(value: float) -> float:
    return value if type(value) in (int, float) else float(value)


def plain_text(text: Any, limit: int = MAX_TEXT) -> str:
    """Text that any peer can read, cut to ``limit`` characters."""
    text = str(text)
    if len(text) > limit:
        text = text[: max(0, limit - len(CUT_MARK))] + CUT_MARK
    readable: str = text.encode("utf-8", "replace").decode()
    return readable


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields reduced to what every peer can read: None, bool, int, float, text, and lists and maps of these."""
    return {plain_text(name): _plain(value, 1) for name, value in list(fields.items())[:MAX_ITEMS]}


def _plain(value: Any, depth: int) -> Any:
    if value is None or type(value) in (bool, float):
        return value
    if type(value) is int and -(2**63) <= value < 2**64:
        return value
    if type(value) is str:
        return plain_text(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        return {plain_text(key): _plain(inner, depth + 1) for key, inner in list(value.items())[:MAX_ITEMS]}
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        return [_plain(inner, depth + 1) for inner in value[:MAX_ITEMS]]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a scalar of numpy, without importing it
        return _plain(value.item(), MAX_DEPTH)
    return plain_text(value)


# ------------------------------------------------------------------------------------------------------ processes


def environment(
    id: str, attempt: int, job: str = "", name: str = "", params_file: str = "", report: int | None = None
) -> dict[str, str]:
    """The variables that give a process its context: what a runtime adds to the environment of a command or script.

    ``params_file``: a file with a JSON object. ``report``: the descriptor of a pipe's writing end, inherited under that
    number. Its inode goes with it, because grandchildren inherit the variable, but not always the descriptor.
    """
    variables = {TASK_VARIABLE: id, ATTEMPT_VARIABLE: str(attempt), JOB_VARIABLE: job, NAME_VARIABLE: name}
    if params_file:
        variables[PARAMS_VARIABLE] = params_file
    if report is not None:
        variables[REPORT_VARIABLE] = f"{report}:{os.fstat(report).st_ino}"
    return variables


def _from_environment() -> TaskContext:
    global _of_environment
    if TASK_VARIABLE not in os.environ:
        return _nobody
    if _of_environment is None:
        _of_environment = _ProcessContext(os.environ)
    return _of_environment


class _ProcessContext(TaskContext):
    """The context of a process that a runtime started for one attempt."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        attempt = variables.get(ATTEMPT_VARIABLE, "")
        super().__init__(
            id=variables.get(TASK_VARIABLE, ""),
            attempt=int(attempt) if attempt.isdecimal() else 0,
            job=variables.get(JOB_VARIABLE, ""),
            name=variables.get(NAME_VARIABLE, ""),
            emit=_Reporter.of(variables.get(REPORT_VARIABLE, "")),
        )
        self._params_file = variables.get(PARAMS_VARIABLE, "")
        self._term: _TermFlag | None = None

    @property
    def params(self) -> Mapping[str, Any]:
        if self._params is None:
            self._params = _read_params(self._params_file) if self._params_file else {}
        return self._params

    @property
    def should_stop(self) -> bool:
        if self._term is None:
            self._term = _TermFlag()
        return self._term.is_set()


def _read_params(file: str) -> Mapping[str, Any]:
    try:
        params = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadwayError(f"cannot read the task's parameters from {file} (${PARAMS_VARIABLE}): {error}") from error
    if not isinstance(params, dict):
        raise HeadwayError(f"the task's parameters in {file} (${PARAMS_VARIABLE}) are not a JSON object")
    return params


class _TermFlag:
    """Is set by TERM, from now on, if TERM would have ended the process."""

    def __init__(self) -> None:
        self._set = False
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_term)

    def is_set(self) -> bool:
        return self._set

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        self._set = True


class _Reporter:
    """Writes emissions into the runtime's pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        # A fork while another thread writes would leave the child's lock locked for ever.
        os.register_at_fork(after_in_child=self._renew_lock)

    @classmethod
    def of(cls, variable: str) -> Emit:
        """A reporter for what the variable names, or nothing where that is no longer the runtime's pipe."""
        descriptor, _, inode = variable.partition(":")
        try:
            status = os.fstat(int(descriptor))
        except (ValueError, OSError, OverflowError):
            return _emit_nothing
        is_ours = stat.S_ISFIFO(status.st_mode) and inode in ("", str(status.st_ino))
        return cls(int(descriptor)).emit if is_ours else _emit_nothing

    def emit(self, stream: str, text: str, fields: dict[str, Any]) -> None:
        """Write it, and wait while the pipe is full. A runtime that is gone is no error: the task's work goes on."""
        if self._descriptor < 0:
            return
        data = report_bytes(stream, text, fields)
        try:
            with self._lock:
                os.write(self._descriptor, data)
        except BlockingIOError:
            return
        except OSError:
            self._descriptor = -1

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


def report_bytes(stream: str, text: str, fields: dict[str, Any], limit: int = PIPE_BUF) -> bytes:
    """One emission as it goes through the pipe. Above ``limit`` bytes its texts are cut, then its fields left out."""
    data = msgspec.msgpack.encode([stream, text, fields])
    for length in (200, 50):
        if len(data) <= limit:
            return data
        data = msgspec.msgpack.encode([stream, plain_text(text, 1000), _shortened(fields, length)])
    if len(data) <= limit:
        return data
    return msgspec.msgpack.encode([stream, plain_text(text, 500), {"cut": True}])


def _shortened(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return plain_text(value, length)
    if isinstance(value, dict):
        return {plain_text(key, length): _shortened(inner, length) for key, inner in value.items()}
    return [_shortened(inner, length) for inner in value] if isinstance(value, list) else value
