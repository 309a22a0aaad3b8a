"""The shell around :mod:`headway.core`: owns the link, the timer and the futures of those who wait. One per client.

Everything here happens on one event loop. Nothing here decides anything: what to send, repeat or give up is the core's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headway import effects
from headway.core import Core
from headway.parcels import Unit
from headway_bus.codec import for_client
from headway_bus.endpoint import Frame
from headway_bus.errors import BusError, HeadwayError, NoBus
from headway_bus.ids import TaskId
from headway_bus.keys import Prepare
from headway_bus.link import CONTROLLER, Link
from headway_bus.link import Received as Arrived
from headway_bus.messages import Event, Message, Rejected, Welcome
from headway_bus.records import Blob, Outcome

TICK = 0.25
"""Seconds between looks at what is overdue."""

MOST_PARTS = 16
"""Parts of large values and files that are on their way at a time, however many of these there are."""

FLUSH_PATIENCE = 5.0
"""Seconds that leaving waits for submissions that the bus has not stored yet."""

ASK_PATIENCE = 30.0
"""Seconds that a question waits for its answer, the hub's restart included, where nobody said otherwise."""


class Handle(Protocol):
    """Who is told about the end of a task."""

    @property
    def task_id(self) -> TaskId: ...
    def _end(self, outcome: Outcome, data: Frame | Blob) -> None: ...
    def _abandon(self, error: BusError) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes that decide how a value travels; the settings of the same names in ``config.toml``, ``[bus]``."""

    inline: int
    frame: int
    blob_part: int
    payload_limit: int
    file_limit: int = 64 << 30


class Connection:
    """One client's connection. Make it inside a running loop; ``open`` and ``close`` it."""

    def __init__(
        self,
        url: str,
        limits: Limits,
        *,
        name: str = "",
        role: str = "client",
        by_value: bool = False,
        prepare: Prepare | None = None,
    ) -> None:
        self.url = url
        self.limits = limits
        self.by_value = by_value
        self.core = Core(limits.inline)
        self.closed = False
        self.namespace = ""
        """Where tasks go that name no other; it is part of what a caller's own key stands for."""

        self._loop = asyncio.get_running_loop()
        self._link = Link(url, role, for_client(), self, name=name, software="headway", prepare=prepare)
        self._flush_at_hand = False
        self._timer: asyncio.TimerHandle | None = None
        self.parts = asyncio.Semaphore(MOST_PARTS)
        """Held while a part of a large value or file is on its way, and so in memory."""

        self._room: deque[asyncio.Future[None]] = deque()
        self._listeners: dict[str, list[Callable[[Event], None]]] = {}
        self._companions: dict[asyncio.Task[None], Callable[[], bool]] = {}
        self._stored: asyncio.Future[None] | None = None
        self._waiters: set[asyncio.Future[Any]] = set()
        self._controller_changed = asyncio.Event()

    # ------------------------------------------------------------------------------------------------ opening, closing

    @property
    def name(self) -> str:
        """This client's name on the bus."""
        return self._link.name

    @property
    def round_trip(self) -> float:
        return self._link.round_trip

    async def open(self, timeout: float) -> None:
        """Connect. Raises NoBus if nobody answers within ``timeout`` seconds, Refused if the broker will not have us."""
        try:
            self._link.start()
            found = await self._link.until_up(timeout)
        except BaseException:
            await self._link.close()
            raise
        if not found:
            await self._link.close()
            self.closed = True
            if self.core.over is not None:
                raise self.core.over
            raise NoBus(no_bus_text(self.url, timeout, self._link.trouble))
        self._tick()

    async def until_served(self, timeout: float) -> None:
        """Wait for a controller behind the broker. Raises NoBus if there is none within ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self.core.controller:
                    self._controller_changed.clear()
                    await self._controller_changed.wait()
        except TimeoutError:
            raise self._no_answer(timeout) from None

    async def close(self, patience: float = FLUSH_PATIENCE) -> None:
        """Wait at most ``patience`` seconds until what was submitted is stored, then leave. Cancels no task."""
        if self.closed:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._until_stored()
                ending = [companion for companion, is_ending in self._companions.items() if is_ending()]
                if ending:
                    await asyncio.wait(ending)
        self.closed = True
        await self._stop_companions()
        if self._timer is not None:
            self._timer.cancel()
        error = BusError("this connection to the bus was closed. The tasks go on; connect again and use bus.task(id)")
        self._perform(self.core.acknowledge() + self.core.give_up(error))
        for waiter in [*self._waiters, *self._room]:
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # whoever waits sees it; if nobody does any more, that is no news
        self._abandon(error)
        await self._link.close()

    def check(self) -> None:
        """Raise what keeps this connection from being used, if anything does."""
        if self.closed:
            raise BusError("this connection to the bus is closed; make a new one with headway.connect()")
        if self.core.over is not None:
            raise self.core.over

    def accompany(self, work: Coroutine[Any, Any, None], is_ending: Callable[[], bool]) -> None:
        """Run something beside the caller. When the connection closes it is stopped, unless it ``is_ending`` by itself."""
        companion = self._loop.create_task(work)
        self._companions[companion] = is_ending
        companion.add_done_callback(self._companions.pop)

    async def _stop_companions(self) -> None:
        companions = list(self._companions)
        for companion in companions:
            companion.cancel()
        await asyncio.gather(*companions, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------ verbs

    def submit(self, unit: Unit) -> None:
        """Hand in a submission. What is handed in during one turn of the loop leaves as one message."""
        self.core.submit(unit)
        if not self._flush_at_hand:
            self._flush_at_hand = True
            self._loop.call_soon(self._flush)

    async def room(self) -> None:
        """Wait until another submission would not pile up: the push-back on whoever submits faster than the bus stores."""
        while not self.core.has_room:
            self.check()
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter
        self.check()

    async def ask(
        self,
        make: Callable[[int], Message],
        *,
        target: bytes = CONTROLLER,
        frames: Sequence[Frame] = (),
        safe: bool = True,
        timeout: float | None = ASK_PATIENCE,
    ) -> tuple[Any, list[Frame]]:
        """The answer and its payload frames. Raises Refused, NoBus or TimeoutError after ``timeout`` seconds."""
        self.check()
        waiter: asyncio.Future[tuple[Any, list[Frame]]] = self._loop.create_future()
        number, sending = self.core.ask(make, waiter, self._loop.time(), target=target, frames=frames, safe=safe)
        self._perform(sending)
        try:
            return await within(timeout, waiter)  # type: ignore[no-any-return]
        except TimeoutError:
            raise self._no_answer(timeout) from None
        finally:
            self.core.forget(number)

    def watch(self, task: Handle) -> None:
        """Wait for the end of a task that this connection did not submit."""
        self._perform(self.core.watch(task.task_id, task, self._loop.time()))

    async def until(self, waiter: asyncio.Future[Any], timeout: float | None = None) -> Any:
        """Wait for a future that must not outlive the connection. Raises TimeoutError after ``timeout`` seconds."""
        self._waiters.add(waiter)
        try:
            return await within(timeout, waiter)
        finally:
            self._waiters.discard(waiter)

    def listen(self, topic: str, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with each event on the topic, from now on."""
        self._listeners.setdefault(topic, []).append(listener)
        self._perform(self.core.subscribe(topic))

    def unlisten(self, topic: str, listener: Callable[[Event], None]) -> None:
        present = self._listeners.get(topic, [])
        if listener in present:
            present.remove(listener)
            if not present:
                del self._listeners[topic]
            self._perform(self.core.unsubscribe(topic))

    # ------------------------------------------------------------------------------------------------ the link's calls

    def on_up(self, welcome: Welcome) -> None:
        self.namespace = welcome.namespace
        self._perform(self.core.on_up(welcome.controller, self._loop.time()))

    def on_down(self, reason: str) -> None:
        self._perform(self.core.on_down())

    def on_controller(self, controller: bytes) -> None:
        self._perform(self.core.on_controller(controller, self._loop.time()))
        self._controller_changed.set()

    def on_messages(self, messages: list[Arrived]) -> None:
        self._perform(self.core.on_messages(messages, self._loop.time()))

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        self._perform(self.core.on_undecodable(request, text))

    def on_over(self, rejected: Rejected) -> None:
        self._perform(self.core.on_over(rejected))
        assert self.core.over is not None
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_exception(self.core.over)
        self._abandon(self.core.over)

    # ------------------------------------------------------------------------------------------------ inside

    def _flush(self) -> None:
        self._flush_at_hand = False
        self._perform(self.core.flush(self._loop.time()))

    def _tick(self) -> None:
        self._perform(self.core.on_tick(self._loop.time()))
        self._timer = self._loop.call_later(TICK, self._tick)

    def _perform(self, wanted: list[effects.Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Send(target, message, frames):
                    self._link.send(target, message, frames)
                case effects.Ended(ends):
                    for task, outcome, data in ends:
                        task._end(outcome, data)
                case effects.Admitted(units, accepted):
                    for unit in units:
                        for handle in unit.handles:
                            handle._accepted = accepted
                        _settle(unit.tag, accepted)
                case effects.NotAdmitted(unit, error):
                    _fail(unit.tag, error)
                case effects.Answered(handle, message, frames):
                    _settle(handle, (message, frames))
                case effects.Failed(handle, error):
                    _fail(handle, error)
                case effects.Published(event):
                    for listener in list(self._listeners.get(event.topic, ())):
                        listener(event)
        if self._stored is not None and not self.core.unaccepted:
            _settle(self._stored, None)
        if self._room and self.core.has_room:
            room, self._room = self._room, deque()
            for waiter in room:
                _settle(waiter, None)

    def _abandon(self, error: BusError) -> None:
        """Tell those who hold tasks that their ends will not be heard here."""
        for handles in list(self.core.awaited.values()):
            for handle in handles if isinstance(handles, list) else (handles,):
                handle._abandon(error)
        self.core.awaited.clear()

    async def _until_stored(self) -> None:
        """Wait until nothing that was handed in is unaccepted."""
        if self.core.unaccepted:
            self._stored = self._loop.create_future()
            await self._stored

    def _no_answer(self, timeout: float | None) -> HeadwayError | TimeoutError:
        if not self.core.up:
            return NoBus(no_bus_text(self.url, timeout))
        if not self.core.controller:
            return NoBus(
                f"the broker at {self.url} answers, but no controller is connected to it, for {timeout:g} s. Is "
                "`headway controller` running?"
            )
        return TimeoutError(f"the controller did not answer within {timeout:g} s")


def no_bus_text(url: str, timeout: float | None, trouble: str = "") -> str:
    """What a person needs who asked for a bus where there is none. ``trouble``: why the handshake failed, if it did."""
    if trouble:
        return f"no connection to the bus at {url}: {trouble}"
    within = "" if timeout is None else f" within {timeout:g} s"
    return (
        f"no bus answers at {url}{within}. Start one with `headway up`, or say where it is: headway.connect(url), "
        "--bus, $HEADWAY_BUS, or url under [bus] in config.toml"
    )


def _settle(waiter: asyncio.Future[Any] | None, value: Any) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(value)


def _fail(waiter: asyncio.Future[Any] | None, error: BaseException) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_exception(error)


async def within(timeout: float | None, waiter: asyncio.Future[Any]) -> Any:
    """The future's result. Raises TimeoutError after ``timeout`` seconds; None, the usual case, costs no timer."""
    if timeout is None:
        return await waiter
    async with asyncio.timeout(timeout):
        return await waiter
