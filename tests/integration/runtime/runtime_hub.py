"""A hub of the tests' own: a real ROUTER socket that speaks the messages of broker and controller, and nothing else."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import zmq

from headway_bus import messages as m
from headway_bus.codec import encode
from headway_bus.ids import TaskId, digest_of, new_task_id
from headway_bus.payloads import encode_call
from headway_bus.records import Ended, Kind, LogRecord, Options, Started

DEADLINE = 30.0
_decode = msgspec.msgpack.Decoder(m.ToBroker | m.RuntimeToController).decode


class Hub:
    """Broker and controller in one, for one runtime. Everything it hears is kept.

    A thread owns the socket, so that the runtime is answered while a test is busy with something else.
    """

    def __init__(self, url: str = "tcp://127.0.0.1:0", heartbeat: float = 0.2) -> None:
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.RCVHWM, 0)
        self.socket.bind(url)
        self.url = self.socket.get(zmq.LAST_ENDPOINT).decode().rstrip("\0")
        self.instance = os.urandom(8)
        self.controller = os.urandom(8)
        self.heartbeat = heartbeat
        self.route = b""
        self.settles = True
        self.refusal: m.Rejected | None = None
        self.hellos: list[m.Hello] = []
        self.registers: list[m.Register] = []
        self.heartbeats: list[m.Heartbeat] = []
        self.reports: list[m.Report] = []
        self.others: list[Any] = []
        self.started: dict[tuple[TaskId, int], Started] = {}
        self.ended: dict[tuple[TaskId, int], Ended] = {}
        self.results: dict[tuple[TaskId, int], bytes] = {}
        self.repeated: list[Ended] = []
        self.logs: list[LogRecord] = []
        self.dropped: dict[bytes, int] = {}
        self.blobs: dict[bytes, bytes] = {}
        self.uploads: dict[bytes, bytearray] = {}
        self.digest = 0
        self.held = 0
        self.answers = True
        """False: it hears, and says nothing, as a hub behind a cut."""

        self.batch = 0
        self.mismatches: list[m.Heartbeat] = []
        """Heartbeats whose digest was another than that of what was assigned and has not ended."""

        self._seen_reports: set[int] = set()
        self._outgoing: deque[list[bytes]] = deque()
        self._heard = threading.Condition()
        self._closing = False
        self._wake_read, self._wake_end = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._wake()
        self._thread.join(DEADLINE)
        self.socket.close(0)
        assert not self.mismatches

    def send(self, message: m.Message, frames: Sequence[bytes] = (), source: bytes = b"controller") -> None:
        self.send_raw([source, encode(message), *frames])

    def send_raw(self, frames: list[bytes]) -> None:
        self._outgoing.append(frames)
        self._wake()

    def _wake(self) -> None:
        os.write(self._wake_end, b".")

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self._wake_read, zmq.POLLIN)
        while not self._closing:
            ready = dict(poller.poll())
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            if self.socket in ready:
                route, _, header, *frames = self.socket.recv_multipart()
                with self._heard:
                    self._on(route, _decode(header), frames)
                    self._heard.notify_all()
            while self._outgoing and self.answers:
                self.socket.send_multipart([self.route, *self._outgoing.popleft()])

    def until(self, condition: Callable[[], Any], what: str = "the condition") -> None:
        """Wait until the condition holds; it is looked at after every message, and now and then for what files say."""
        deadline = time.monotonic() + DEADLINE
        with self._heard:
            while not condition():
                assert time.monotonic() < deadline, f"waited {DEADLINE} s for {what}; heard {self.summary()}"
                self._heard.wait(0.02)

    def summary(self) -> str:
        return f"{len(self.registers)} registers, {len(self.ended)} ends, {len(self.logs)} log records"

    def _on(self, route: bytes, message: Any, frames: list[bytes]) -> None:
        match message:
            case m.Hello():
                self.route = route
                self.hellos.append(message)
                if self.refusal is not None:
                    self.send(self.refusal, source=b"")
                    return
                welcome = m.Welcome(1, message.name, self.instance, self.heartbeat, 2**26, self.controller)
                self.send(welcome, source=b"")
            case m.Ping(sent):
                self.send(m.Pong(sent), source=b"")
            case m.Register():
                self.registers.append(message)
                self.digest = 0
                for held in message.held:
                    self.digest ^= digest_of(held.task, held.attempt)
                self.held = len(message.held)
                self.send(m.Registered(self.controller))
            case m.Heartbeat():
                self.heartbeats.append(message)
                if message.assigned == self.batch and (message.held, message.digest) != (self.held, self.digest):
                    self.mismatches.append(message)
                self.send(m.HeartbeatSeen(message.sent))
            case m.Report():
                self._on_report(message, frames)
            case m.BlobGet():
                self._on_blob_get(message)
            case m.BlobPut():
                self._on_blob_put(message, frames)
            case _:
                self.others.append(message)

    def _on_report(self, report: m.Report, frames: list[bytes]) -> None:
        self.reports.append(report)
        if self.settles:
            self.send(m.Settled([report.batch]))
        if report.batch in self._seen_reports:
            self.repeated += report.ended
            return
        self._seen_reports.add(report.batch)
        for started in report.started:
            self.started[started.task, started.attempt] = started
        for ended in report.ended:
            key = (ended.task, ended.attempt)
            assert key not in self.ended, f"{key} ended twice"
            self.ended[key] = ended
            self.digest ^= digest_of(*key)
            self.held -= 1
            if isinstance(ended.result, int):
                self.results[key] = frames[ended.result]
            elif isinstance(ended.result, bytes):
                self.results[key] = ended.result
            else:
                self.results[key] = self.blobs[ended.result.hash]
        self.logs += report.logs
        for task, count in report.dropped.items():
            self.dropped[task] = self.dropped.get(task, 0) + count

    def _on_blob_get(self, message: m.BlobGet) -> None:
        content = self.blobs.get(message.blob.hash)
        if content is None:
            self.send(m.Denied(message.request, m.Code.NOT_FOUND, "no such blob"))
            return
        part = content[message.offset : message.offset + message.length]
        self.send(m.BlobPart(message.request, message.blob, message.offset), [part])

    def _on_blob_put(self, message: m.BlobPut, frames: list[bytes]) -> None:
        content = self.uploads.setdefault(message.blob.hash, bytearray())
        if message.offset == len(content):
            content += frames[0]
        if len(content) == message.blob.size:
            self.blobs[message.blob.hash] = bytes(content)
        self.send(m.BlobHave(message.request, message.blob, len(content)))

    # -------------------------------------------------------------------------------------- giving work

    def assign(
        self, options: Options, payloads: Sequence[Any], frames: Sequence[bytes] = ()
    ) -> list[tuple[TaskId, int]]:
        """Assign an attempt for each payload; returns their keys."""
        attempts = [(new_task_id(), 1, payload) for payload in payloads]
        self.assign_attempts(options, attempts, frames)
        return [(task, attempt) for task, attempt, _ in attempts]

    def assign_attempts(
        self, options: Options, attempts: list[tuple[TaskId, int, Any]], frames: Sequence[bytes] = ()
    ) -> None:
        with self._heard:
            for task, attempt, _ in attempts:
                self.digest ^= digest_of(task, attempt)
            self.held += len(attempts)
            self.batch += 1
            self.send(m.Assign(self.batch, [m.AssignGroup(options, attempts)]), frames)

    def call(self, target: str, *args: Any, **options: Any) -> tuple[TaskId, int]:
        return self.assign(Options(Kind.CALL, target, **options), [encode_call(args, {})])[0]

    def command(self, line: str, extras: dict[str, Any] | None = None, **options: Any) -> tuple[TaskId, int]:
        return self.assign(Options(Kind.COMMAND, line, **options), [encode_call([], {}, extras)])[0]

    def end_of(self, key: tuple[TaskId, int]) -> Ended:
        """Wait for the end of an attempt."""
        self.until(lambda: key in self.ended, f"the end of {key}")
        return self.ended[key]

    def text_of(self, key: tuple[TaskId, int], stream: str) -> list[str]:
        """The lines that an attempt said, in order."""
        records = [record for record in self.logs if (record.task, record.attempt) == key and record.stream == stream]
        return [record.text for record in sorted(records, key=lambda record: record.sequence)]
