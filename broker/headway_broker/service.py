"""The broker's socket and timer: the only file here that knows of either."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq

from headway_broker.authentication import POLL, Door
from headway_broker.connections import Connections
from headway_broker.core import Broker, Deliver
from headway_broker.limits import Limits, allow_descriptors
from headway_broker.watch import Watch
from headway_bus import nearby
from headway_bus.codec import Decoder, encode
from headway_bus.config import Broker as BrokerSettings
from headway_bus.config import Settings
from headway_bus.endpoint import Endpoint, Frame
from headway_bus.errors import BusError, ConfigError
from headway_bus.keyring import Authorized, Keyring
from headway_bus.keys import is_local
from headway_bus.link import BROKER, Listener, LocalLink
from headway_bus.logs import get_logger
from headway_bus.messages import Enrolled, Rejected, Welcome
from headway_bus.records import Code

SEND_HIGH_WATER = 20_000
"""Messages that may wait for one peer. The hand-overs keep far fewer on their way; what is beyond is refused, not dropped."""

LOCAL_ROUTE = b"\xff"

LAST_WORDS = 0.5
"""Seconds in which a revoked peer may still hear why, before its connection is cut."""

log = get_logger("headway.broker")


def check_bind(url: str, with_keys: bool = False) -> None:
    """Raise BusError unless the address can be reached from this machine only, or everybody needs a key there."""
    if not is_local(url) and not with_keys:
        raise BusError(
            f"refusing to bind {url!r}: beyond this machine a bus needs keys, and there are none here. Make them with "
            "`headway keys init` (and name their folder, if it is another: keys under [broker]), then start again"
        )


def find_keys(own: BrokerSettings, bind: str) -> Keyring | None:
    """The keys that a broker at this address works with; None: it needs none and uses none."""
    if is_local(bind) and not own.require_keys:
        return None
    keyring = Keyring(own.keys)
    if not keyring.exists:
        check_bind(bind)
        raise ConfigError(
            f"require_keys under [broker], but there are no keys in {keyring.folder}; do: headway keys init"
        )
    return keyring


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
        limits: Limits = Limits(),  # noqa: B008  # immutable
        keyring: Keyring | None = None,
        handshake_timeout: float = 10.0,
    ) -> None:
        check_bind(bind, keyring is not None)
        self.keyring = keyring
        self.bind = bind
        self.url = bind
        self._high_water_mark = high_water_mark
        self._handshake_timeout = handshake_timeout
        self.core = Broker(
            os.urandom(8),
            time.monotonic(),
            heartbeat=heartbeat,
            max_message=max_message,
            max_peers=max_peers,
            limits=limits,
        )
        self._door = Door(keyring, self.core.state.counters) if keyring is not None else None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._looker: asyncio.TimerHandle | None = None
        self._endpoint: Endpoint | None = None
        self._watch: Watch | None = None
        self._nearby: Path | None = None
        self._local: dict[bytes, LocalLink] = {}
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked = self._listened = time.monotonic()

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
            limits=Limits(
                own.messages_per_second, own.bytes_per_second, own.max_topics, max_half_open=own.max_half_open
            ),
            keyring=find_keys(own, own.bind or bus.url),
            handshake_timeout=own.handshake_timeout,
        )

    def start(self) -> None:
        """Bind. Raises BusError when the address cannot be had, with who is to blame as far as it can be known."""
        most_half_open = self.core.limits.max_half_open
        allow_descriptors(self.core.max_peers + most_half_open)
        socket: zmq.Socket[bytes] = self._make_context().socket(zmq.ROUTER)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.ROUTER_MANDATORY, 1)  # a delivery to nobody, or to a full queue, is an error and not a drop
        socket.set(zmq.SNDHWM, self._high_water_mark)
        socket.set(zmq.RCVHWM, self._high_water_mark)
        socket.set(zmq.MAXMSGSIZE, self.core.max_message)
        socket.set(zmq.BACKLOG, 4096)  # a whole plant may come back at once
        socket.set(zmq.HANDSHAKE_IVL, round(self._handshake_timeout * 1000))
        if self._door is not None:
            self._door.prepare(socket)
        peers = self.core.state.by_route
        self._watch = Watch(Connections(most_half_open), peers, self.core.state.counters)
        self._watch.start(socket)
        try:
            socket.bind(self.bind)
        except zmq.ZMQError as error:
            self._watch.close()
            socket.close(linger=0)
            raise BusError(
                f"cannot bind {self.bind!r}: {error.strerror or error}; is a bus running there already?"
            ) from None
        self.url = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._serve_nearby(socket)
        self._endpoint = Endpoint(socket, self._on_raw, head=3, with_keys=self._door is not None, known=peers)
        self._tick()
        self._look()
        log.info("broker serves", url=self.url)

    def _serve_nearby(self, socket: zmq.Socket[bytes]) -> None:
        """The shorter way for peers on this machine. A convenience: without it, they take the port."""
        offered = nearby.offer(self.url) if self._door is None else None
        if offered is not None:
            address, path = offered
            try:
                socket.bind(address)
                path.chmod(0o600)
                self._nearby = path
            except (zmq.ZMQError, OSError) as error:
                log.debug("no socket beside the port", address=address, reason=str(error))

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
        for timer in (self._ticker, self._looker):
            if timer is not None:
                timer.cancel()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._nearby is not None:
            nearby.withdraw(self._nearby)  # before the port is another's
            self._nearby = None
        if self._endpoint is not None:
            self._endpoint.close(linger=200)
            self._endpoint = None
        if self._door is not None:
            self._door.close()
        if self._context is not None:
            # It waits for what is still being sent.
            await asyncio.get_running_loop().run_in_executor(None, self._context.term)
            self._context = None

    def _make_context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """Where the sockets live. A door is that of a whole context, so a broker with keys has a context to itself."""
        if self._door is None:
            return zmq.Context.instance()
        self._context = zmq.Context()
        self._door.start(self._context)
        return self._context

    def _look(self) -> None:
        """See whether the list of those who may come has changed."""
        if self._door is None:
            return
        if self._looker is not None:
            self._looker.cancel()
        if self._door.look() or self.core.authorized is None:
            self._on_authorized(self._door.authorized)
        self._looker = asyncio.get_running_loop().call_later(POLL, self._look)

    def _on_authorized(self, authorized: Mapping[str, Authorized]) -> None:
        before = {route: peer.key for route, peer in self.core.state.by_route.items()}
        self._perform(self.core.on_authorized(authorized, time.monotonic()))
        routes = [route for route, key in before.items() if key and key not in authorized]
        if routes:
            # What it sends would still have to be taken in, and what it has not ended sending would lie in memory.
            asyncio.get_running_loop().call_later(LAST_WORDS, self._cut, routes)

    def _cut(self, routes: list[bytes]) -> None:
        if self._watch is not None:
            self._watch.cut(self._watch.connections.of(routes), "revoked")

    def _on_identified(self, raw: list[list[Any]], door: Door, keys: list[str]) -> None:
        now = time.monotonic()
        for frames, key in zip(raw, keys, strict=True):
            if frames[0][:1] == LOCAL_ROUTE:
                self._refuse_route(frames[0])
            elif key in door.authorized:
                self._handle(frames, now, key)
            elif len(frames) >= 3 and (answer := door.on_unknown(key, frames[1], frames[2], now)) is not None:
                if isinstance(answer, Enrolled):
                    self._look()
                self._perform([Deliver(frames[0], BROKER, answer)])

    def _handle(self, frames: list[Any], now: float, key: str) -> None:
        try:
            self._perform(self.core.on_message(frames, now, key))
        except Exception:
            # A defect of ours, met by one message: the others of this wake-up must not pay for it.
            self.core.state.counters["messages.failed"] += 1
            log.exception("a message could not be handled", route=frames[0].hex())

    def _on_raw(self, raw: list[list[Any]]) -> None:
        endpoint = self._endpoint
        assert endpoint is not None
        now = time.monotonic()
        if endpoint.strangers and self._watch is not None:
            self._watch.on_spoken(endpoint.strangers, now)
            endpoint.strangers.clear()
        # Peers in this process get all that this wake-up has found as one batch.
        for link in self._local.values():
            link.gather()
        try:
            if self._door is not None:
                assert endpoint.keys is not None
                self._on_identified(raw, self._door, endpoint.keys)
            else:
                self._on_unidentified(raw, now)
        finally:
            for link in list(self._local.values()):
                link.hand_over()

    def _on_unidentified(self, raw: list[list[Any]], now: float) -> None:
        for frames in raw:
            if frames[0][:1] == LOCAL_ROUTE:
                self._refuse_route(frames[0])
                continue
            self._handle(frames, now, "")

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
        assert self._watch is not None
        now = time.monotonic()
        interval = self.core.heartbeat / 2
        if now - self._ticked > self.core.heartbeat:
            self.core.on_stood_still(now)
            self._watch.connections.forget_silence()
        self._ticked = now
        self._perform(self.core.on_tick(now))
        self._watch.look_for_strangers(self._handshake_timeout)
        if now - self._listened >= self.core.heartbeat:
            self._listened = now
            self._watch.look_for_endless(self.core.max_message)
        self._ticker = asyncio.get_running_loop().call_later(interval, self._tick)
