"""The broker's socket and timer: the only file here that knows of either."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import zmq

from headway_broker.core import Broker, Deliver
from headway_bus.codec import Decoder, encode
from headway_bus.config import Settings
from headway_bus.endpoint import Endpoint, Frame
from headway_bus.errors import BusError
from headway_bus.link import BROKER, Listener, LocalLink
from headway_bus.logs import get_logger
from headway_bus.messages import Rejected, Welcome
from headway_bus.records import Code

SEND_HIGH_WATER = 20_000
"""Messages that may wait for one peer. The hand-overs keep far fewer on their way; what is beyond is refused, not dropped."""

LOCAL_ROUTE = b"\xff"

log = get_logger("headway.broker")


def check_bind(url: str) -> None:
    """Raise BusError unless the address can be reached from this machine only.

    Other addresses need encryption and keys for every peer, which this version does not have.
    """
    parts = urlsplit(url)
    if parts.scheme in ("ipc", "inproc"):
        return
    host = parts.hostname or ""
    if parts.scheme != "tcp" or not host:
        raise BusError(f"cannot bind {url!r}: expected tcp://127.0.0.1:PORT or ipc:///path/of/socket")
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BusError(
            f"refusing to bind {url!r}: beyond this machine a bus needs keys, and this version has none; "
            "bind tcp://127.0.0.1:PORT and reach it through an SSH tunnel"
        )


class BrokerService:
    """A broker on one address. ``start()`` inside a running loop; ``url`` then says where it is."""

    def __init__(
        self,
        bind: str,
        *,
        heartbeat: float = 2.0,
        max_message: int = 64 * 1024 * 1024,
        max_peers: int = 10_000,
        high_water_mark: int = SEND_HIGH_WATER,
    ) -> None:
        check_bind(bind)
        self.bind = bind
        self.url = bind
        self._high_water_mark = high_water_mark
        self.core = Broker(
            os.urandom(8), time.monotonic(), heartbeat=heartbeat, max_message=max_message, max_peers=max_peers
        )
        self._endpoint: Endpoint | None = None
        self._local: dict[bytes, LocalLink] = {}
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked = time.monotonic()

    @classmethod
    def from_settings(cls, settings: Settings) -> BrokerService:
        """A broker as the settings say."""
        own, bus = settings.broker, settings.bus
        return cls(
            own.bind or bus.url,
            heartbeat=bus.heartbeat,
            max_message=bus.max_message,
            max_peers=own.max_peers,
            high_water_mark=own.high_water_mark,
        )

    def start(self) -> None:
        """Bind. Raises BusError when the address cannot be had, with who is to blame as far as it can be known."""
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.ROUTER_MANDATORY, 1)  # a delivery to nobody, or to a full queue, is an error and not a drop
        socket.set(zmq.SNDHWM, self._high_water_mark)
        socket.set(zmq.RCVHWM, self._high_water_mark)
        socket.set(zmq.MAXMSGSIZE, self.core.max_message)
        socket.set(zmq.BACKLOG, 4096)  # a whole plant may come back at once
        try:
            socket.bind(self.bind)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise BusError(
                f"cannot bind {self.bind!r}: {error.strerror or error}; is a bus running there already?"
            ) from None
        self.url = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._endpoint = Endpoint(socket, self._on_raw, head=3)
        self._tick()
        log.info("broker serves", url=self.url)

    def attach(self, name: str, role: str, instance: bytes, decoder: Decoder, listener: Listener) -> LocalLink:
        """Take in a peer that lives in this process."""
        route = LOCAL_ROUTE + name.encode()

        def forward(target: bytes, header: bytes, frames: Sequence[Frame]) -> None:
            self._perform(self.core.on_message([route, target, header, *frames], time.monotonic()))

        link = LocalLink(name, instance, decoder, listener, forward)
        self._local[route] = link
        self._perform(self.core.on_local_peer(name.encode(), role, route, instance, time.monotonic()))
        return link

    async def close(self) -> None:
        """Let go of the address."""
        if self._ticker is not None:
            self._ticker.cancel()
        if self._endpoint is not None:
            self._endpoint.close(linger=200)
            self._endpoint = None

    def _on_raw(self, raw: list[list[Any]]) -> None:
        now = time.monotonic()
        on_message, perform = self.core.on_message, self._perform
        for frames in raw:
            if frames[0][:1] == LOCAL_ROUTE:
                self._refuse_route(frames[0])
                continue
            try:
                perform(on_message(frames, now))
            except Exception:
                # A defect of ours, met by one message: the others of this wake-up must not pay for it.
                self.core.state.counters["messages.failed"] += 1
                log.exception("a message could not be handled", route=frames[0].hex())

    def _refuse_route(self, route: bytes) -> None:
        """A socket that chose for itself a routing id of those that stand for peers in this process."""
        self.core.state.counters[f"rejected.{Code.FORBIDDEN}"] += 1
        text = "a routing id that begins with the byte 255 is the broker's own; choose none"
        try:
            if self._endpoint is not None:
                self._endpoint.send([route, BROKER, encode(Rejected(Code.FORBIDDEN, text))])
        except zmq.ZMQError:
            self.core.state.counters["unreachable"] += 1

    def _perform(self, deliveries: Iterable[Deliver]) -> None:
        endpoint = self._endpoint
        if endpoint is None:
            return
        for delivery in deliveries:
            route, source, header, frames = delivery
            if route[:1] == LOCAL_ROUTE:
                self._deliver_local(delivery)
                continue
            try:
                endpoint.send([route, source, header if isinstance(header, bytes) else encode(header), *frames])
            except zmq.Again:
                self._perform(self.core.on_full(delivery, time.monotonic()))
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._perform(self.core.on_unreachable(route, time.monotonic()))

    def _deliver_local(self, delivery: Deliver) -> None:
        link = self._local[delivery.route]
        if delivery.source == BROKER and isinstance(delivery.header, Welcome):
            # Not now: whoever attaches has not yet got the link that it will want to answer with.
            asyncio.get_running_loop().call_soon(link.up, delivery.header)
        else:
            link.deliver(delivery.source, delivery.header, list(delivery.frames))

    def _tick(self) -> None:
        now = time.monotonic()
        interval = self.core.heartbeat / 2
        if now - self._ticked > self.core.heartbeat:
            self.core.on_stood_still(now)
        self._ticked = now
        self._perform(self.core.on_tick(now))
        self._ticker = asyncio.get_running_loop().call_later(interval, self._tick)
