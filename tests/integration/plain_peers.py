"""A hub in a thread, and peers that are nothing but a socket and the codec: they say what they are told to, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from headway_broker.service import BrokerService
from headway_bus import messages as m
from headway_bus.codec import Decoder, encode, for_client, for_controller, for_runtime
from headway_bus.ids import AttemptKey, TaskId, digest_of, new_task_ids
from headway_bus.keys import Prepare
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.records import AttemptEnd, Ended, ErrorInfo, Kind, LogRecord, Options, RuntimeInfo, Started
from headway_controller.service import ControllerService

PATIENCE = 20.0
"""Seconds after which something that should happen is taken for not happening."""

Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Hub:
    """Broker, and controller if there is a folder for its store, in a thread of their own."""

    def __init__(self, url: str = "tcp://127.0.0.1:0", state: Path | None = None, **settings: Any) -> None:
        self._bind = url
        self._state = state
        self._settings = settings
        self._controller_settings: dict[str, Any] = {"heartbeat": settings.get("heartbeat", 2.0)}
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop
        self.broker: BrokerService
        self.controller: ControllerService
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    def with_controller(self, **settings: Any) -> Self:
        """Other settings of the controller."""
        self._controller_settings |= settings
        return self

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the hub does not begin"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the hub does not end"
        if self._failure is not None and error is None:
            raise self._failure

    @property
    def url(self) -> str:
        return self.broker.url

    @property
    def counters(self) -> dict[str, int]:
        """The broker's."""
        return dict(self.broker.core.state.counters)

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run something in the hub's loop and wait for it."""

        async def work() -> Result:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(PATIENCE)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is true of the hub's insides, as its loop sees them."""
        wait_until(lambda: self.call(condition))

    def _note_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something was raised that nobody awaited: the loop would only write it to its log."""
        self._failure = self._failure or context.get("exception") or RuntimeError(context["message"])

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(self._note_failure)
        self._stop = asyncio.Event()
        self.broker = BrokerService(self._bind, **self._settings)
        self.broker.start()
        if self._state is not None:
            self.controller = ControllerService(self._state, **self._controller_settings)
            await self.controller.open()
            link = self.broker.attach(
                "controller", "controller", self.controller.instance, for_controller(), self.controller
            )
            self.controller.attach(link)
        self._ready.set()
        await self._stop.wait()
        if self._state is not None:
            await self.controller.close()
        await self.broker.close()


def wait_until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Look again and again, without haste, until it is true."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it does not become true"
        pause.wait(0.005)


class Peer:
    """One DEALER. ``hello`` makes it a peer of the bus; everything can be said without."""

    def __init__(
        self, url: str, decoder: Decoder | None = None, identity: bytes = b"", prepare: Prepare | None = None
    ) -> None:
        self._context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVTIMEO, int(PATIENCE * 1000))
        if identity:
            self.socket.set(zmq.ROUTING_ID, identity)
        if prepare is not None:
            prepare(self.socket)
        self.socket.connect(url)
        self._decoder = decoder or for_client()
        self._request = 0
        self.frames: list[bytes] = []
        self.name = ""
        self.controller = b""
        """As the broker said last."""

        self.waiting: list[tuple[bytes, m.Message, list[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close(0)
        self._context.term()

    # -------------------------------------------------------------------------------------- the wire

    def raw(self, *frames: bytes) -> None:
        """These frames, whatever they are."""
        self.socket.send_multipart(frames)

    def say(self, target: bytes, message: m.Message, *frames: bytes) -> None:
        self.raw(target, encode(message), *frames)

    def hear(self) -> tuple[bytes, m.Message, list[bytes]]:
        """The next message: from whom, what, its payload."""
        source, header, *frames = self.socket.recv_multipart()
        message = self._decoder.decode(header)
        if isinstance(message, m.Welcome | m.ControllerChanged):
            self.controller = message.controller
        return source, message, frames

    def next(self, kind: type[Answer]) -> Answer:
        """The next message of this kind; others are kept for later."""
        for index, (_, message, frames) in enumerate(self.waiting):
            if isinstance(message, kind):
                del self.waiting[index]
                self.frames = frames
                return message
        while True:
            arrived = self.hear()
            if isinstance(arrived[1], kind):
                self.frames = arrived[2]
                return arrived[1]
            self.waiting.append(arrived)

    def hello(self, role: str, name: str = "", instance: bytes = b"instance") -> m.Welcome:
        self.say(BROKER, m.Hello(m.PROTOCOL_VERSION, role, name, instance, "a plain peer"))
        welcome = self.next(m.Welcome)
        self.name = welcome.name
        return welcome

    def await_controller(self, there: bool = True) -> None:
        """Until the broker has said that there is a controller, or that there is none."""
        while bool(self.controller) is not there:
            self.waiting.append(self.hear())

    # -------------------------------------------------------------------------------------- asking

    def request(self) -> int:
        self._request += 1
        return self._request

    def ask(self, make: Callable[[int], m.Message], kind: type[Answer], *frames: bytes) -> Answer:
        """Ask the controller; the answer to this request, which must be of that kind."""
        request = self.request()
        self.say(CONTROLLER, make(request), *frames)
        while True:
            source, message, payload = self.hear()
            if getattr(message, "request", None) == request:
                assert isinstance(message, kind), f"expected {kind.__name__}, got {message}"
                self.frames = payload
                return message
            self.waiting.append((source, message, payload))


class PlainClient(Peer):
    """A client."""

    def __init__(self, url: str, name: str = "", prepare: Prepare | None = None) -> None:
        super().__init__(url, for_client(), prepare=prepare)
        self.hello("client", name, new_task_ids(1)[0][:8])

    def submit(self, count: int = 1, payload: bytes = b"", watch: bool = True, **fields: Any) -> list[TaskId]:
        """So many tasks of these options, accepted."""
        tasks = new_task_ids(count)
        fields.setdefault("kind", Kind.CALL)
        fields.setdefault("target", "a:f")
        group = m.Group(Options(**fields), [(task, payload) for task in tasks])
        accepted = self.ask(lambda request: m.Submit(request, [group], watch), m.Accepted)
        assert accepted.count == count
        return tasks

    def ends(self, count: int) -> dict[TaskId, Any]:
        """So many ends, acknowledged."""
        found: dict[TaskId, Any] = {}
        while len(found) < count:
            batch = self.next(m.TasksEnded)
            found.update((outcome.task, outcome) for outcome in batch.outcomes)
            self.say(CONTROLLER, m.Received([batch.batch]))
        return found


class PlainRuntime(Peer):
    """A runtime that runs nothing: tests say what becomes of its attempts."""

    def __init__(self, url: str, name: str = "plain", slots: float = 1.0, prepare: Prepare | None = None) -> None:
        super().__init__(url, for_runtime(), prepare=prepare)
        self.hello("runtime", name, new_task_ids(1)[0][:8])
        self.attempts: dict[TaskId, int] = {}
        self._batch = 0
        self._assigned = 0
        self.say(CONTROLLER, m.Register(RuntimeInfo(name, slots), b"instance", []))
        self.next(m.Registered)

    def take(self, count: int = 1) -> list[AttemptKey]:
        """So many attempts that were assigned."""
        found: list[AttemptKey] = []
        while len(found) < count:
            assign = self.next(m.Assign)
            self._assigned = assign.batch
            for group in assign.groups:
                for task, attempt, _ in group.attempts:
                    self.attempts[task] = attempt
                    found.append((task, attempt))
        return found

    def beat(self) -> None:
        digest = 0
        for key in self.attempts.items():
            digest ^= digest_of(*key)
        self.say(CONTROLLER, m.Heartbeat(1.0, self._assigned, len(self.attempts), digest))

    def report(self, *frames: bytes, **content: Any) -> int:
        """Say it; the batch's number."""
        self._batch += 1
        self.say(CONTROLLER, m.Report(self._batch, **content), *frames)
        return self._batch

    def start(self, *tasks: TaskId) -> None:
        self.report(started=[Started(task, self.attempts[task], 0.0) for task in tasks])

    def log(self, task: TaskId, *texts: str, first: int = 0, stream: str = "stdout") -> None:
        records = [
            LogRecord(task, self.attempts[task], first + place, stream, 1.0, text) for place, text in enumerate(texts)
        ]
        self.report(logs=records)

    def end(
        self, *tasks: TaskId, end: AttemptEnd = AttemptEnd.SUCCEEDED, error: ErrorInfo | None = None, result: Any = b"",
        frames: Sequence[bytes] = (), seconds: float = 0.01,
    ) -> None:  # fmt: skip
        records = [Ended(task, self.attempts.pop(task), end, seconds, result, error) for task in tasks]
        self.report(*frames, ended=records)


class Brain:
    """A controller in a thread of its own that reaches the broker over a socket."""

    def __init__(self, url: str, state: Path, **settings: Any) -> None:
        self._url = url
        self._state = state
        self._settings = {"heartbeat": 60.0, **settings}
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.recovered = 0
        self.refused = ""
        self.service: ControllerService
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="brain", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the controller does not begin"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended by itself, and its loop with it
            self.loop.call_soon_threadsafe(self.service.stop)
        self.join()
        if self._failure is not None and error is None:
            raise self._failure

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the controller does not end"

    def _note_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something was raised that nobody awaited: the loop would only write it to its log."""
        self._failure = self._failure or context.get("exception") or RuntimeError(context["message"])

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(self._note_failure)
        self.service = ControllerService(self._state, **self._settings)
        self.recovered = await self.service.open()
        link = self.service.connect(self._url)
        link.session.name_patience = 0.2
        self._ready.set()
        self.refused = await self.service.until_stopped()
        await self.service.close()
