"""Shell lines and scripts: what they are given, what they say, how they end."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic, time
from typing import Any, Protocol

import msgpack
import msgspec

from headway_bus.errors import CannotDecode
from headway_bus.ids import AttemptKey, TaskId, text_of
from headway_bus.payloads import decode_call
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, File, Kind, LogRecord, Reason
from headway_bus.task_context import REPORT_VARIABLE
from headway_bus.task_context import environment as task_environment
from headway_runtime.files import MARK, WorkFolder
from headway_runtime.keeper import Keeper
from headway_runtime.orders import DEVICES_VARIABLE
from headway_runtime.output import STOPPED, Allowance, Lines
from headway_runtime.outputs import check_pattern, collect
from headway_runtime.state import Attempt

SHELL = "/bin/sh"
READ_BYTES = 64 * 1024
LAST_LINES = 10
LAST_CHARACTERS = 2000
REPORTS = "reports"
REPORT_DESCRIPTOR = 3
REPORTED = ("log", "progress", "metric", "message")
MOST_RECORD_BYTES = 1024 * 1024
EXIT_STATUS_ZERO = b"\x00"
"""The result of a command that succeeded: the number 0, encoded."""

RESUMED_VARIABLE = "HEADWAY_RESUMED"
"""How often a resumable attempt was begun before: 0 the first time."""

PLACED_AT_ONCE = 4 * 1024 * 1024
"""Bytes of files that are copied on the event loop; more of them in a thread."""

SIGNALLED = 128
"""A shell's exit status for a program that was killed is this and the signal's number."""


class CommandListener(Protocol):
    """What a command calls, from the event loop."""

    def on_command_said(self, records: list[LogRecord]) -> None: ...
    def on_command_gone(self, key: AttemptKey, ended: Ended, dropped: int) -> None: ...


Given = tuple[list[str], dict[str, Any], dict[str, str], str]
"""Arguments, parameters, environment, working folder."""


class _CannotStartError(Exception):
    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


Said = tuple[str, str, dict[str, Any]]
"""Stream, text, fields."""


class _Text:
    """Output that is lines."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines = Lines()

    def feed(self, data: bytes) -> list[Said]:
        return [(self._name, line, {}) for line in self._lines.feed(data)]

    def end(self) -> list[Said]:
        return [(self._name, line, {}) for line in self._lines.end()]


class _Records:
    """What the process says through ``headway.log`` and its like. Whoever runs a command can write nonsense here: what is
    no record ends the reading of this pipe, and of no other."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=MOST_RECORD_BYTES)

    def feed(self, data: bytes) -> list[Said]:
        if self._unpacker is None:
            return []
        said: list[Said] = []
        try:
            self._unpacker.feed(data)
            said += (_record(each) for each in self._unpacker)
        except Exception as error:  # whatever hostile bytes make of an unpacker, it means the same
            self._unpacker = None
            said.append(("system", f"what came through ${REPORT_VARIABLE} is no record: {error}", {}))
        return said

    def end(self) -> list[Said]:
        return []


def _record(value: Any) -> Said:
    stream, text, fields = value
    if stream not in REPORTED or not isinstance(text, str) or not isinstance(fields, dict):
        raise ValueError(f"expected one of {', '.join(REPORTED)}, a text, and a map")
    return stream, text, msgspec.convert(fields, dict[str, Any])


class Command:
    """One command or script. ``start()`` it once; the listener hears of its end exactly once.

    :param mark: tells what belongs to it from everything else on this machine.
    :param file_limit: bytes of the largest file that the bus takes.
    """

    def __init__(
        self,
        attempt: Attempt,
        keeper: Keeper,
        folder: WorkFolder,
        listener: CommandListener,
        output_bytes: int,
        mark: str,
        file_limit: int = sys.maxsize,
    ) -> None:
        self.key = attempt.key
        self.spec = attempt.spec
        self.tree = 0
        self.pid = 0
        self._attempt = attempt
        self._keeper = keeper
        self._folder = folder
        self._listener = listener
        self._mark = mark
        self._file_limit = file_limit
        self._loop = asyncio.get_running_loop()
        self._allowance = Allowance(attempt.spec.options.output_limit or output_bytes)
        self._sequence = 0
        self._last_errors: deque[str] = deque(maxlen=LAST_LINES)
        self._streams: dict[int, _Text | _Records] = {}
        self._path = ""
        self._ran_in = ""
        self._begun = monotonic()
        self._seconds = 0.0
        self._status = 0
        self._is_paused = False
        self.collecting_since = math.inf
        """Unix time from which on its outputs are brought into the folder of large values, and nobody knows of them."""

        self._is_stopped = False
        """It is to end before it has begun: while its files are placed."""

        self._is_discarded = False
        self._listens = False

    def start(self, base: Mapping[str, str]) -> None:
        """Make everything it needs and start it. ``base``: the environment that its own is added to."""
        self._guarded(lambda: self._prepare(base))

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step towards the start; what keeps it from that is the attempt's end."""
        try:
            step()
        except _CannotStartError as error:
            self._fail(error.reason, str(error))
        except (OSError, ValueError) as error:
            self._fail(Reason.START, f"it cannot be started: {error}")

    def _prepare(self, base: Mapping[str, str]) -> None:
        given = self._decode()
        options = self.spec.options
        self._path = self._folder.own_folder(self.key) if options.resumable else self._folder.take_folder()
        for pattern in options.outputs:
            check_pattern(pattern)
        if options.kind is not Kind.SCRIPT:
            self._launch(base, *given)
            return
        if options.target not in [file.path for file in options.files]:
            raise _CannotStartError(Reason.START, f"the script {options.target!r} is not among its files")
        if sum(file.content.size for file in options.files) <= PLACED_AT_ONCE:
            self._place_files()
            self._launch(base, *given)
            return
        # In a thread: they may be gigabytes, and the runtime must go on beating.
        placing = self._loop.run_in_executor(None, self._place_files)
        placing.add_done_callback(lambda done: self._guarded(lambda: self._on_placed(done, base, given)))

    def _place_files(self) -> None:
        for file in self.spec.options.files:
            self._folder.place(file.content, self._path, file.path, lambda: self._is_stopped)

    def _on_placed(self, done: asyncio.Future[None], base: Mapping[str, str], given: Given) -> None:
        if self._is_discarded or done.cancelled():
            self._give_folder()
            return
        if self._is_stopped:
            raise _CannotStartError(Reason.CANCELLED, "it was stopped before it began")
        done.result()
        self._launch(base, *given)

    def _launch(
        self, base: Mapping[str, str], args: list[str], params: dict[str, Any], own: dict[str, str], cwd: str
    ) -> None:
        options = self.spec.options
        params_file = self._write_params(params) if params else ""
        if options.kind is Kind.SCRIPT:
            arguments = [sys.executable, "-u", os.path.join(self._path, options.target), *args]  # noqa: PTH118
        else:
            arguments = [SHELL, "-c", options.target, SHELL, *args]
        is_at_home = options.kind is Kind.SCRIPT or options.outputs or options.resumable
        folder = cwd or (self._path if is_at_home else os.curdir)
        self._ran_in = folder
        write_ends = self._open_pipes()
        environment = self._environment(base, own, params_file, write_ends[2])
        self._begun = monotonic()
        self.tree = self._keeper.want_command(
            self,
            arguments,
            environment,
            folder,
            f"{MARK}={self._mark}",
            options.requirements.memory,
            write_ends,
        )

    def _open_pipes(self) -> list[int]:
        """The pipes that it speaks through; returns the ends that it gets."""
        write_ends: list[int] = []
        try:
            for name in ("stdout", "stderr", REPORTS):
                read_end, write_end = os.pipe()
                write_ends.append(write_end)
                os.set_blocking(read_end, False)
                self._streams[read_end] = _Records() if name == REPORTS else _Text(name)
        except OSError:
            for write_end in write_ends:
                os.close(write_end)
            raise
        return write_ends

    def _decode(self) -> Given:
        payload = self._attempt.payload
        if isinstance(payload, Blob):
            payload = self._folder.blob_path(payload).read_bytes()
        try:
            args, _, extras = decode_call(payload)
        except CannotDecode as error:
            raise _CannotStartError(Reason.DECODE, f"the arguments cannot be decoded: {error}") from None
        params, own, cwd = extras.get("params") or {}, extras.get("env") or {}, extras.get("cwd") or ""
        if not (isinstance(params, dict) and isinstance(own, dict) and isinstance(cwd, str)):
            raise _CannotStartError(Reason.DECODE, "expected params and env to be maps and cwd to be text")
        for name, value in own.items():
            if not isinstance(value, str) or not name or "=" in name or "\0" in name + value:
                raise _CannotStartError(Reason.DECODE, f"the environment variable {name!r} is not a name and a text")
        if "\0" in cwd or "\0" in self.spec.options.target:
            raise _CannotStartError(Reason.DECODE, "a zero byte can stand neither in a line nor in a folder's name")
        return [str(each) for each in args], params, own, cwd

    def _environment(
        self, base: Mapping[str, str], own: Mapping[str, str], params_file: str, report: int
    ) -> dict[str, str]:
        task, number = self.key
        options = self.spec.options
        context = task_environment(text_of(task), number, options.job, options.name, params_file, report)
        # The pipe's writing end becomes the third descriptor beside standard output and error.
        inode = context[REPORT_VARIABLE].partition(":")[2]
        context[REPORT_VARIABLE] = f"{REPORT_DESCRIPTOR}:{inode}"
        devices = {DEVICES_VARIABLE: self.spec.devices} if self.spec.devices else {}
        resumed = {RESUMED_VARIABLE: str(self._attempt.starts)} if options.resumable else {}
        return {**base, "TMPDIR": self._path, **devices, **own, MARK: self._mark, **resumed, **context}

    def _write_params(self, params: dict[str, Any]) -> str:
        path = f"{self._path}/params.json"
        try:
            text = json.dumps(params, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise _CannotStartError(Reason.DECODE, f"the parameters cannot be written as JSON: {error}") from None
        with open(path, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
        return path

    # -------------------------------------------------------------------------------------- output

    def _on_readable(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._say(self._streams[descriptor].feed(data))
        else:
            self._end_stream(descriptor)

    def _end_stream(self, descriptor: int) -> None:
        stream = self._streams.pop(descriptor)
        if self._listens:
            self._loop.remove_reader(descriptor)
        os.close(descriptor)
        self._say(stream.end())

    def _say(self, said: list[Said]) -> None:
        if not said:
            return
        self._last_errors.extend(text for stream, text, _ in said if stream == "stderr")
        self._tell_records([each for each in said if self._allowance.takes(each[1])])

    def _tell_records(self, said: list[Said]) -> None:
        if not said:
            return
        task, number = self.key
        first, now = self._sequence, time()
        self._sequence += len(said)
        self._listener.on_command_said(
            [
                LogRecord(TaskId(task), number, sequence, stream, now, text, fields)
                for sequence, (stream, text, fields) in enumerate(said, first)
            ]
        )

    def pause(self, stop: bool) -> None:
        """Stop or resume reading its output: the pipe fills, and the command waits."""
        self._is_paused = stop
        self._listen()

    def _listen(self) -> None:
        """Read what it writes while it runs, from when it is known to have started. Most are over by then, and what they
        have written is read at once."""
        listens = bool(self.pid) and not self._is_paused
        if listens == self._listens:
            return
        self._listens = listens
        for descriptor in self._streams:
            if listens:
                self._loop.add_reader(descriptor, self._on_readable, descriptor)
            else:
                self._loop.remove_reader(descriptor)

    # -------------------------------------------------------------------------------------- its end

    def send_signal(self, number: int) -> None:
        """To its whole process tree. With TERM it is stopped, and its log says so, between what it said before and after."""
        if number == signal.SIGTERM:
            self._tell_records([("system", STOPPED, {})])
        if not self.tree:
            self._is_stopped = True
            return
        self._keeper.send_signal(self.tree, number)

    def on_started(self, pid: int) -> None:
        self.pid = pid
        self._loop.call_soon(self._listen)  # its end may be in the same message

    def on_not_started(self, reason: str) -> None:
        self._fail(Reason.START, reason)

    def on_exited(self, status: int, most_memory: int, left: bool) -> None:
        self._status = status
        self._seconds = monotonic() - self._begun
        if left:
            self._keeper.send_signal(self.tree, signal.SIGTERM)
            self._loop.call_later(self.spec.options.grace, self._keeper.send_signal, self.tree, signal.SIGKILL)

    def on_gone(self) -> None:
        self._read_rest()
        outcome = self._outcome()
        if outcome.end is AttemptEnd.SUCCEEDED and self.spec.options.outputs:
            # In a thread: they may be gigabytes, and the runtime must go on beating.
            self.collecting_since = time()
            take = self._ran_in == self._path and not self.spec.options.resumable
            collecting = self._loop.run_in_executor(
                None,
                lambda: collect(self._ran_in, self.spec.options.outputs, self._folder, self._file_limit, take=take),
            )
            collecting.add_done_callback(lambda done: self._on_collected(outcome, done))
        else:
            self._tell(outcome)

    def _on_collected(self, outcome: Ended, done: asyncio.Future[tuple[bytes | Blob, list[File]]]) -> None:
        if done.cancelled():
            return  # the runtime is closing
        error = done.exception()
        if error is None:
            result, files = done.result()
            self._tell(msgspec.structs.replace(outcome, result=result, files=files))
        else:
            told = ErrorInfo(Reason.ENCODE, f"its outputs cannot be kept: {error}")
            self._tell(msgspec.structs.replace(outcome, end=AttemptEnd.FAILED, result=b"", error=told))

    def _read_rest(self) -> None:
        for descriptor in list(self._streams):
            with suppress(BlockingIOError):
                while data := os.read(descriptor, READ_BYTES):
                    self._say(self._streams[descriptor].feed(data))
            self._end_stream(descriptor)

    def _outcome(self) -> Ended:
        task, number = TaskId(self.key[0]), self.key[1]
        status = self._status
        if status == 0:
            return Ended(task, number, AttemptEnd.SUCCEEDED, self._seconds, EXIT_STATUS_ZERO)
        if os.WIFSIGNALED(status):
            killed_by = os.WTERMSIG(status)
            error = ErrorInfo(
                Reason.SIGNAL, f"killed by {signal_text(killed_by)}{self._last_words()}", signal=killed_by
            )
        else:
            code = os.WEXITSTATUS(status)
            error = ErrorInfo(Reason.EXIT, f"{_exit_text(code)}{self._last_words()}", exit_code=code)
        return Ended(task, number, AttemptEnd.FAILED, self._seconds, b"", error)

    def _last_words(self) -> str:
        text = "\n".join(self._last_errors)
        if len(text) > LAST_CHARACTERS:
            text = "…" + text[-LAST_CHARACTERS:]
        return f"; the last it wrote to stderr:\n{text}" if text else ""

    def _fail(self, reason: Reason, text: str) -> None:
        for descriptor in list(self._streams):
            self._end_stream(descriptor)
        task, number = TaskId(self.key[0]), self.key[1]
        self._tell(Ended(task, number, AttemptEnd.FAILED, 0.0, b"", ErrorInfo(reason, text)))

    def _give_folder(self) -> None:
        if self._path:
            self._folder.give_folder(self._path)

    def _tell(self, ended: Ended) -> None:
        self._give_folder()
        self._listener.on_command_gone(self.key, ended, self._allowance.dropped)

    def discard(self, *, resumes: bool = False) -> None:
        """The nursery is gone, and every process with it: nothing is told. ``resumes``: a later process of this runtime will
        go on with what is resumable, in the folder that it has."""
        for descriptor in list(self._streams):
            if self._listens:
                self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._streams.clear()
        if resumes and self._folder.keep and self.spec.options.resumable:
            self._path = ""
        if self.tree:
            self._give_folder()
        else:  # a thread still writes into it, and stops soon
            self._is_discarded = self._is_stopped = True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def signal_text(number: int) -> str:
    """ "signal 11 (SIGSEGV)"."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _exit_text(code: int) -> str:
    if code > SIGNALLED:
        return f"it ended with exit status {code}: a program in it was killed by {signal_text(code - SIGNALLED)}"
    if code == SIGNALLED - 1:
        return f"it ended with exit status {code}: the shell did not find a program"
    return f"it ended with exit status {code}"
