"""What runs inside a child process: two threads, one that runs attempts and one that listens.

The main thread takes attempts from a queue and runs them. The other one answers the runtime while the main thread is busy:
it gives back what has not begun, hands over what has been said, stops an attempt, and reads what the user's code or its
libraries write past Python to descriptors 1 and 2. Whatever both touch is touched under one lock. An attempt is taken from
the queue under that lock, so that each is either begun or given back, never both.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import msgspec

from headway_bus import task_context
from headway_bus.endpoint import Frame
from headway_bus.ids import TaskId, text_of
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, LogRecord, Reason
from headway_runtime.capture import Capture
from headway_runtime.journal import Journal
from headway_runtime.orders import Answer, ChildSettings, ChildSpec, Key, Order, Work
from headway_runtime.output import STOPPED, Allowance, Lines
from headway_runtime.pipes import Reader, pack, write_all
from headway_runtime.processes import has_children, live_children
from headway_runtime.running import AttemptStopped, Runner

FLUSH_SECONDS = 0.001
"""Ends wait at most this long for company, while short attempts follow one another."""

FLUSH_ENDS = 32
"""Ends handed over at once: few enough that the child is fed again before it runs dry."""

LOG_FLUSH_SECONDS = 0.02
FORK_SECONDS = 0.00005
"""An attempt that was over sooner cannot have started a process: that alone takes longer."""

LEFTOVER_LOOK_SECONDS = 0.01
READ_BYTES = 64 * 1024

Item = tuple[ChildSpec, TaskId, int, Frame | Blob]


class Child:
    """The child's side of its pipes, and its loop."""

    def __init__(
        self,
        data: socket.socket,
        control: socket.socket,
        journal: Journal,
        outputs: tuple[int, int],
        settings: ChildSettings,
    ) -> None:
        self.settings = settings
        self.runner = Runner(settings)
        self.current: Item | None = None
        self.should_stop = False
        self._data, self._control, self._journal = data, control, journal
        self._reader = Reader(data)
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._queue: deque[Item] = deque()
        self._specs: dict[int, ChildSpec] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode_work = msgspec.msgpack.Decoder(Work).decode
        self._decode_order = msgspec.msgpack.Decoder(Order).decode
        self._flushed = monotonic()
        self._dropped: dict[bytes, int] = {}
        self._sequence = 0
        self._last: tuple[TaskId, int] | None = None
        self._allowance = Allowance(0)
        # Stopping: see _on_term.
        self._stop_key: Key | None = None
        self._interruptible: Key | None = None
        self._shielded = False
        self._deferred = False
        self._handler = self._on_term
        self._is_copy = False
        self._main = threading.get_ident()
        self._folder = os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._outputs = {outputs[0]: ("stdout", Lines()), outputs[1]: ("stderr", Lines())}
        self._output_poll = select.poll()
        for descriptor in outputs:
            os.set_blocking(descriptor, False)
            self._output_poll.register(descriptor, select.POLLIN)
        self.stdout = Capture(1, "stdout", self.emit)
        self.stderr = Capture(2, "stderr", self.emit)

    # -------------------------------------------------------------------------------------- the main thread

    def serve(self) -> None:
        """Run attempts until the runtime closes the pipe."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._handler)
        os.register_at_fork(after_in_child=self._on_forked)
        threading.Thread(target=self._listen, name="headway-control", daemon=True).start()
        with suppress(EOFError, ConnectionError), _Context(self):
            while True:
                item = self._next()
                if item is not None:
                    self._run(item)
                elif not self._receive():
                    return

    def _next(self) -> Item | None:
        """Take the next attempt; None: there is none, and everything has been said."""
        with self._lock:
            if self._queue:
                self.current = item = self._queue.popleft()
                self._journal.begun += 1
                return item
            self._flush()
            return None

    def _receive(self) -> bool:
        with self._reading:
            self._take_in()
        return True

    def _take_in(self) -> None:
        """Read once from the runtime and queue the attempts that are complete. The caller holds ``_reading``."""
        for parcel in self._reader.read():
            work = self._decode_work(parcel.first)
            if work.forget:
                self._specs.clear()
                self.runner.forget()
            for spec in work.specs:
                self._specs[spec.number] = spec
            frames = parcel.frames
            for number, attempts in work.groups:
                spec = self._specs[number]
                for task, attempt, payload in attempts:
                    content = frames[payload] if isinstance(payload, int) else payload
                    self._queue.append((spec, task, attempt, content))

    def _run(self, item: Item) -> None:
        spec, task, attempt, payload = item
        key = (task, attempt)
        sys.stdout, sys.stderr = self.stdout, self.stderr
        os.fchdir(self._folder)
        self._sequence = 0
        self._last = key
        self.should_stop = False
        self._allowance = Allowance(spec.output_bytes)
        limit = _limit_memory(spec.memory) if spec.memory else None
        begun = monotonic()
        frame: Frame | None = None
        torn = False
        try:
            self._interruptible = key
            if self._stop_key == key:
                raise AttemptStopped
            record, frame = self.runner.run(spec, task, attempt, payload)
            self._interruptible = None
        except AttemptStopped as stopped:
            self._interruptible = None
            torn = was_importing(stopped)
            error = ErrorInfo(Reason.CANCELLED, "it was stopped while it ran")
            record = Ended(task, attempt, AttemptEnd.CANCELLED, monotonic() - begun, b"", error)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, limit)
        left = monotonic() - begun > FORK_SECONDS and self._look_at_process()
        self._end(record, frame, left or torn)

    def _look_at_process(self) -> bool:
        """After all but the shortest attempts: whether processes are left behind. Takes TERM back if it was taken."""
        if signal.getsignal(signal.SIGTERM) is not self._handler:
            signal.signal(signal.SIGTERM, self._handler)
        return has_children() and live_children()

    def _end_output(self) -> None:
        """Everything the attempt has written is its own, the last line without a newline as well."""
        self.stdout.end_line()
        self.stderr.end_line()
        if self._output_poll.poll(0):
            self._read_outputs()
        for stream, lines in self._outputs.values():
            if lines.is_open:
                with self._lock:
                    for line in lines.end():
                        self._add_log(stream, line, {})

    def _end(self, record: Ended, frame: Frame | None, left: bool) -> None:
        self._end_output()
        with self._lock:
            if self._allowance.dropped:
                self._dropped[record.task] = self._dropped.get(record.task, 0) + self._allowance.dropped
            encoded = self._encode(record)
            if not self._journal.add_end(encoded):
                self._flush()
                self._journal.add_end(encoded)
            self.current = None
            if left:
                self._flush([frame] if frame is not None else [], Answer(left=True))
            elif frame is not None:
                self._flush([frame])
            elif self._journal.ended_count >= FLUSH_ENDS or monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush()
        if left:
            self._await_end()

    def _await_end(self) -> None:
        """The attempt left processes behind, which the runtime ends, or a module half imported: a fresh child takes over."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while live_children():
            sleep(LEFTOVER_LOOK_SECONDS)
        os._exit(0)

    # -------------------------------------------------------------------------------------- what both threads do

    def _flush(self, frames: list[Frame] | None = None, answer: Answer | None = None) -> None:
        """Hand over what has been written down. The caller holds the lock."""
        if self._dropped:
            answer = answer or Answer()
            answer.dropped, self._dropped = self._dropped, {}
        self._flushed = monotonic()
        if answer is None and not frames and self._journal.is_empty:
            return
        ends, logs = self._journal.sections()
        write_all(self._data, pack(ends, logs, self._encode(answer) if answer is not None else b"", frames or ()))
        self._journal.clear()

    def emit(self, stream: str, text: str, fields: dict[str, Any] | None = None) -> None:
        """Write down a log record of the attempt that runs. From any thread of the user's code."""
        if self._is_copy:
            self._emit_from_copy(stream, text)
            return
        is_main = threading.get_ident() == self._main
        if is_main:
            self._shielded = True
        try:
            with self._lock:
                self._add_log(stream, text, fields or {})
                if monotonic() - self._flushed > LOG_FLUSH_SECONDS:
                    self._flush()
        finally:
            if is_main:
                self._shielded = False
                if self._deferred:
                    self._deferred = False
                    self._on_term()

    def _on_forked(self) -> None:
        """In a process that the user's code has forked: it is no child of ours. TERM must end it, and the journal and the
        pipe to the runtime, which it has inherited, must not hear from two processes."""
        self._is_copy = True
        self.stdout.renew_lock()
        self.stderr.renew_lock()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _emit_from_copy(self, stream: str, text: str) -> None:
        """Lines go through the descriptors, like those of any other process below. There is no such way for records."""
        descriptor = {"stdout": 1, "stderr": 2}.get(stream)
        if descriptor is not None:
            with suppress(OSError):
                os.write(descriptor, text.encode("utf-8", "replace") + b"\n")

    def _add_log(self, stream: str, text: str, fields: dict[str, Any]) -> None:
        """The caller holds the lock."""
        if self._last is None or not self._allowance.takes(text):
            return
        task, attempt = self._last
        encoded = self._encode(LogRecord(task, attempt, self._sequence, stream, time(), text, fields))
        self._sequence += 1
        if not self._journal.add_log(encoded):
            self._flush()
            if not self._journal.add_log(encoded):
                self._dropped[task] = self._dropped.get(task, 0) + 1

    def _read_outputs(self) -> None:
        """What was written to descriptors 1 and 2, if anything."""
        with self._lock:
            for descriptor, (stream, lines) in self._outputs.items():
                with suppress(BlockingIOError):
                    while data := os.read(descriptor, READ_BYTES):
                        for line in lines.feed(data):
                            self._add_log(stream, line, {})

    # -------------------------------------------------------------------------------------- the listening thread

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        for descriptor in self._outputs:
            poll.register(descriptor, select.POLLIN)
        control = self._control.fileno()
        with suppress(OSError):
            while True:
                ready = [descriptor for descriptor, _ in poll.poll()]
                if control in ready:
                    data = self._control.recv(READ_BYTES)
                    if not data:
                        return
                    self._on_order(self._decode_order(data))
                if len(ready) > (control in ready):
                    self._read_outputs()

    def _on_order(self, order: Order) -> None:
        if order.verb == "recall":
            self._give_back()
        elif order.verb == "flush":
            with self._lock:
                self._flush()
        elif order.verb == "stop" and order.key is not None:
            self._stop(order.key)

    def _give_back(self) -> None:
        """Answer with everything that has not begun, including what still lies in the pipe."""
        if self._reading.acquire(blocking=False):
            # Free: the main thread runs an attempt, so nobody else reads. What it cannot take in now was not yet sent.
            try:
                while select.select([self._data], [], [], 0)[0]:
                    self._take_in()
            except (EOFError, OSError):
                return  # the main thread finds out as well
            finally:
                self._reading.release()
        with self._lock:
            given = [(task, attempt) for _, task, attempt, _ in self._queue]
            self._queue.clear()
            current = (self.current[1], self.current[2]) if self.current is not None else None
            self._flush(answer=Answer(given, current))

    def _stop(self, key: Key) -> None:
        with self._lock:
            if self.current is None or (self.current[1], self.current[2]) != key:
                return
            self.should_stop = True
            self._stop_key = key
            self._add_log("system", STOPPED, {})
        loop, task = self.runner.loop, self.runner.running_task
        if loop is not None and task is not None:
            loop.call_soon_threadsafe(task.cancel)
        else:
            signal.pthread_kill(self._main, signal.SIGTERM)

    def _on_term(self, *_: object) -> None:
        """SIGTERM, in the main thread between two instructions. Only the attempt that is meant is stopped, and only while
        it is the user's code that runs; a TERM from elsewhere is not for us: the runtime decides when we end."""
        if self._interruptible is None or self._interruptible != self._stop_key:
            return
        if self._shielded:
            self._deferred = True
            return
        self._interruptible = None
        raise AttemptStopped


def was_importing(stopped: BaseException) -> bool:
    """Whether a module was being imported when this was raised. What is written in C, as numpy is, can often not be imported
    a second time in the same process: every later attempt that needs it would fail there."""
    trace = stopped.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        trace = trace.tb_next
    return False


class _Context(task_context.TaskContext):
    """What the attempt that runs knows of itself. One for the life of the child: most attempts never look, and making the
    text of an id costs more than running them."""

    def __init__(self, child: Child) -> None:
        self._child = child
        super().__init__(emit=child.emit)

    @property
    def id(self) -> str:
        item = self._child.current
        return text_of(item[1]) if item is not None else ""

    @id.setter
    def id(self, _: str) -> None: ...

    @property
    def attempt(self) -> int:
        item = self._child.current
        return item[2] if item is not None else 0

    @attempt.setter
    def attempt(self, _: int) -> None: ...

    @property
    def job(self) -> str:
        item = self._child.current
        return item[0].job if item is not None else ""

    @job.setter
    def job(self, _: str) -> None: ...

    @property
    def name(self) -> str:
        item = self._child.current
        return item[0].name if item is not None else ""

    @name.setter
    def name(self, _: str) -> None: ...

    @property
    def files(self) -> Mapping[str, Path]:
        item = self._child.current
        folder = Path(self._child.settings.blobs)
        return {name: folder / content.hex() for name, content in item[0].files} if item is not None else {}

    @property
    def should_stop(self) -> bool:
        return self._child.should_stop


def _limit_memory(limit: int) -> tuple[int, int] | None:
    """Let this process allocate ``limit`` bytes beyond what it has. Returns the limit to be restored.

    RLIMIT_DATA and not RLIMIT_AS: numerical libraries and GPU drivers reserve address space by the dozen GiB, which costs
    nothing and must not count. The runtime watches the whole tree's resident memory as well, since a limit of one process
    says nothing about its children.
    """
    earlier = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - on the path of every attempt with a limit
            pages = int(file.read().split()[5])
        most = pages * resource.getpagesize() + limit
        if earlier[1] != resource.RLIM_INFINITY:
            most = min(most, earlier[1])
        resource.setrlimit(resource.RLIMIT_DATA, (most, earlier[1]))
    except (OSError, ValueError, IndexError):
        return None
    return earlier
