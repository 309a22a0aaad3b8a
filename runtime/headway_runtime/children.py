"""The runtime's end of one child process: feeding it, reading it, and finding out how it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey, TaskId
from headway_bus.records import Blob, Ended, ErrorInfo, LogRecord, Payload, Reason
from headway_runtime import journal as journals
from headway_runtime import processes
from headway_runtime.keeper import Keeper
from headway_runtime.orders import Answer, ChildSpec, Order, Work
from headway_runtime.output import Lines
from headway_runtime.pipes import Parcel, Reader, Writer, pack
from headway_runtime.state import Attempt, Spec

MOST_SPECS = 1000
"""Specs that a child remembers; then it is told to forget them all."""

SOCKET_BYTES = 1024 * 1024
INLINE_PAYLOAD = 4096
"""Arguments up to this go within the message to the child; longer ones follow it as frames."""

LAST_LINES = 20
_decode_ends = msgspec.msgpack.Decoder(list[Ended]).decode
_decode_logs = msgspec.msgpack.Decoder(list[LogRecord]).decode
_decode_answer = msgspec.msgpack.Decoder(Answer).decode
_encode = msgspec.msgpack.Encoder().encode


class ChildListener(Protocol):
    """What a child process calls, from the event loop."""

    def on_child_said(
        self, number: int, ended: list[Ended], frames: Sequence[Frame], logs: list[LogRecord], answer: Answer | None
    ) -> None: ...
    def on_child_gone(self, number: int, cause: ErrorInfo, was_running: bool) -> None: ...


class ChildProcess:
    """One child. Make it inside a running loop; it may be fed at once.

    :param number: what the core calls it.
    :param output_bytes: kept per attempt where its options do not say.
    :param models: factories of the models that are served, by name.
    """

    def __init__(
        self, number: int, keeper: Keeper, listener: ChildListener, output_bytes: int, models: dict[str, str]
    ) -> None:
        self.number = number
        self.pid = 0
        self._keeper = keeper
        self._listener = listener
        self._output_bytes = output_bytes
        self._models = models
        self._loop = asyncio.get_running_loop()
        self._specs: set[int] = set()
        self._ended_count = 0
        self._last_ends = b""
        self._cause = ErrorInfo(Reason.EXIT, "the child process left")
        self._memory_kills = processes.memory_kills()
        self._is_closed = False
        self._is_paused = False
        self._asked_to_flush = False
        self._data, data = socket.socketpair()
        self._control, control = socket.socketpair(type=socket.SOCK_SEQPACKET)
        for end in (self._data, data):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self._data.setblocking(False)
        self._control.setblocking(False)
        descriptor = journals.make_file()
        self._journal = journals.Journal(descriptor)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        self._outputs = {"stdout": os.dup(out_read), "stderr": os.dup(err_read)}
        self._reader = Reader(self._data)
        self._writer = Writer(self._data)
        self._loop.add_reader(self._data.fileno(), self._on_readable)
        descriptors = [data.detach(), control.detach(), descriptor, out_read, out_write, err_read, err_write]
        self._tree = keeper.want_child(self, descriptors)

    # -------------------------------------------------------------------------------------- to the child

    def feed(self, attempts: Sequence[Attempt]) -> None:
        """Hand attempts over, in this order."""
        specs: list[ChildSpec] = []
        groups: list[tuple[int, list[tuple[TaskId, int, Payload]]]] = []
        frames: list[Frame] = []
        forget = len(self._specs) > MOST_SPECS
        if forget:
            self._specs.clear()
        last: Spec | None = None
        for attempt in attempts:
            spec = attempt.spec
            if spec is not last:
                last = spec
                group: list[tuple[TaskId, int, Payload]] = []
                groups.append((spec.number, group))
                if spec.number not in self._specs:
                    self._specs.add(spec.number)
                    specs.append(self._describe(spec))
            payload = attempt.payload  # kept by the attempt: the child may give it back
            if isinstance(payload, Blob) or len(payload) <= INLINE_PAYLOAD:
                group.append((*attempt.key, payload))  # type: ignore[arg-type]  # a short memoryview is encoded as bytes are
            else:
                group.append((*attempt.key, len(frames)))
                frames.append(payload)
        self._write(pack(_encode(Work(specs, groups, forget)), frames=frames))

    def _describe(self, spec: Spec) -> ChildSpec:
        options = spec.options
        target = self._models.get(options.target, options.target) if options.kind == "model" else options.target
        return ChildSpec(
            spec.number,
            options.kind,
            target,
            options.name,
            options.job,
            options.by_value,
            options.requirements.memory,
            options.output_limit or self._output_bytes,
            spec.devices,
            [(file.path, file.content.hash) for file in options.files],
        )

    def _write(self, buffers: Sequence[Frame]) -> None:
        waited = self._writer.is_waiting
        with suppress(OSError):  # it has died: what it was fed is taken back when that is known
            self._writer.write(buffers)
        if self._writer.is_waiting and not waited and not self._is_closed:
            self._loop.add_writer(self._data.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._writer.flush()
        except OSError:
            self._loop.remove_writer(self._data.fileno())
            return
        if not self._writer.is_waiting:
            self._loop.remove_writer(self._data.fileno())

    def order(self, verb: str, key: AttemptKey | None = None) -> None:
        """Speak to its listening thread."""
        with suppress(OSError):
            self._control.send(_encode(Order(verb, key)))

    def flush(self) -> None:
        """Let it hand over what it has written down, if there is any."""
        if not self._is_closed and not self._asked_to_flush and not self._journal.is_empty:
            self._asked_to_flush = True  # once: what does not answer must not have its ear filled
            self.order("flush")

    def send_signal(self, number: int) -> None:
        """To the child and all its descendants. TERM spares the child itself: there it means to stop an attempt, and the
        child takes it as such only from its own thread."""
        self._keeper.send_signal(self._tree, number)

    def retire(self) -> None:
        """Let it leave: it has nothing to do."""
        with suppress(OSError):
            self._data.shutdown(socket.SHUT_WR)

    def pause(self, stop: bool) -> None:
        """Stop or resume reading what it says."""
        if self._is_closed or stop == self._is_paused:
            return
        self._is_paused = stop
        if stop:
            self._loop.remove_reader(self._data.fileno())
        else:
            self._loop.add_reader(self._data.fileno(), self._on_readable)

    # -------------------------------------------------------------------------------------- from the child

    def _on_readable(self) -> None:
        try:
            parcels = self._reader.read()
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._loop.remove_reader(self._data.fileno())
            return
        for parcel in parcels:
            self._on_parcel(parcel)

    def _on_parcel(self, parcel: Parcel) -> None:
        ended = _decode_ends(parcel.first) if parcel.first else []
        logs = _decode_logs(parcel.second) if parcel.second else []
        answer = _decode_answer(parcel.third) if parcel.third else None
        self._ended_count += len(ended)
        self._last_ends = parcel.first
        self._asked_to_flush = False
        self._listener.on_child_said(self.number, ended, parcel.frames, logs, answer)

    # -------------------------------------------------------------------------------------- its end

    def on_started(self, pid: int) -> None:
        self.pid = pid

    def on_not_started(self, reason: str) -> None:
        self._close()
        self._listener.on_child_gone(self.number, ErrorInfo(Reason.START, reason), False)

    def on_exited(self, status: int, most_memory: int, left: bool) -> None:
        self._cause = cause_of(status, processes.memory_kills() > self._memory_kills)
        if left:
            self.send_signal(signal.SIGKILL)  # whoever is to be asked politely was asked before the child ended

    def on_gone(self) -> None:
        """Hear out what it said and wrote down before it died, then tell."""
        while True:
            try:
                for parcel in self._reader.read():
                    self._on_parcel(parcel)
            except (OSError, EOFError):
                break
        was_running = self._read_journal()
        cause = self._with_last_words(self._cause)
        self._close()
        self._listener.on_child_gone(self.number, cause, was_running)

    def _read_journal(self) -> bool:
        """Hand over what was never sent. Returns whether it died in the middle of an attempt."""
        ends, logs = (bytes(section) for section in self._journal.sections())
        if ends and ends == self._last_ends:
            ends = b""  # it was sent, and the child was killed before it could clear it
        # A result that was to follow as a frame did not: that attempt has not ended.
        known = [record for record in (_decode_ends(ends) if ends else []) if not isinstance(record.result, int)]
        self._ended_count += len(known)
        self._listener.on_child_said(self.number, known, [], _decode_logs(logs) if logs else [], None)
        return self._journal.begun > self._ended_count

    def _with_last_words(self, cause: ErrorInfo) -> ErrorInfo:
        """The cause, and what the process wrote past Python just before: an abort's message, a faulthandler's stack."""
        lines = Lines()
        found: list[str] = []
        os.set_blocking(self._outputs["stderr"], False)
        with suppress(OSError):
            while data := os.read(self._outputs["stderr"], 65536):
                found += lines.feed(data)
        found += lines.end()
        if not found:
            return cause
        text = "\n".join(found[-LAST_LINES:])
        return msgspec.structs.replace(cause, traceback=text)

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._data.fileno())
        self._loop.remove_writer(self._data.fileno())
        self._data.close()
        self._control.close()
        self._journal.close()
        for descriptor in self._outputs.values():
            os.close(descriptor)

    def discard(self) -> None:
        """The nursery is gone, and every process with it."""
        self._close()


def cause_of(status: int, out_of_memory: bool = False) -> ErrorInfo:
    """What a status of wait(2) says about a child that was to stay.

    ``out_of_memory``: the system has killed processes for want of memory while it ran.
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unknown"
        text = f"the process was killed by signal {number} ({name})"
        if number == signal.SIGKILL and out_of_memory:
            text += ": the system was out of memory"
            return ErrorInfo(Reason.MEMORY, text, signal=number)
        return ErrorInfo(Reason.SIGNAL, text, signal=number)
    code = os.WEXITSTATUS(status)
    return ErrorInfo(Reason.EXIT, f"the process left with exit code {code}", exit_code=code)
