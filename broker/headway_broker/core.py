"""The broker's decisions. Pure: a message and the time go in, deliveries come out.

The common case, a message from one peer to another, is two dictionary look-ups, one table look-up and one delivery;
neither its header nor its payload is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from headway_broker.identity import Refusal, identify, is_still
from headway_broker.limits import Limits, allowance
from headway_broker.permissions import ALLOWED, ASK_BROKER, CLIENT_ROLES, MAY_PUBLISH, ROLES, TO_BROKER, rights_of
from headway_broker.state import BrokerState, Peer
from headway_bus.codec import MAX_HEADER_BYTES, Decoder, for_broker, name_of, request_of
from headway_bus.endpoint import Frame
from headway_bus.errors import ProtocolError
from headway_bus.keyring import Authorized
from headway_bus.link import BROKER, CONTROLLER, TOPIC
from headway_bus.messages import (
    PROTOCOL_VERSION,
    AskBroker,
    Bye,
    ControllerChanged,
    Hello,
    Message,
    PeerChanged,
    Peers,
    Ping,
    Pong,
    Rejected,
    Subscribe,
    TopicsChanged,
    Undeliverable,
    Unsubscribe,
    Welcome,
)
from headway_bus.messages import BrokerState as BrokerStateMessage
from headway_bus.namespaces import SEPARATOR, Scope, topic_in
from headway_bus.records import Code

SILENT_HEARTBEATS = 3
"""Heartbeats without a word after which a peer is taken for gone."""

MOST_HEARTBEAT = 3_600.0
"""Seconds between signs of life that an edge may ask for."""

NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_TOPIC_CHARACTERS = 200

SHARED_TOPICS = frozenset({"runtimes", "queues"})
"""What concerns everybody, whatever namespaces they have."""

TELL_AGAIN = 1.0
"""Seconds between two words to a peer that it sends too much. More would be another flood, of our own."""


class Deliver(NamedTuple):
    """Hand a message to whoever is behind ``route``. A header that the broker made itself is not yet bytes."""

    route: bytes
    source: bytes
    header: bytes | Message
    frames: Sequence[Frame] = ()


class Broker:
    """The hub's mind. ``on_…`` methods take an event and the time and return what to deliver."""

    def __init__(
        self,
        instance: bytes,
        now: float,
        *,
        heartbeat: float = 2.0,
        max_message: int = 64 * 1024 * 1024,
        max_peers: int = 10_000,
        limits: Limits = Limits(),  # noqa: B008  # immutable
    ) -> None:
        self.state = BrokerState(instance, now)
        self.limits = limits
        self.authorized: Mapping[str, Authorized] | None = None
        """Who may come, by public key; None: this bus works without keys."""

        self._strangers = allowance(limits.strangers_per_second, 0, now)
        self.heartbeat = heartbeat
        self.max_message = max_message
        self.max_peers = max_peers
        self._decoder: Decoder = for_broker()
        self._names = 0

    # ------------------------------------------------------------------------------------------- events

    def on_message(self, frames: list[Frame], now: float, key: str = "") -> list[Deliver]:
        """A message from a socket: ``[route, target, header, payload …]``, and the public key of its connection."""
        route = bytes(frames[0])
        if len(frames) < 3:
            return self._reject(route, Code.MALFORMED, "expected the frames target, header, payload …")
        target, header = bytes(frames[1]), bytes(frames[2])
        if len(header) > MAX_HEADER_BYTES:
            text = f"a header of {len(header)} bytes; at most {MAX_HEADER_BYTES} are accepted"
            return self._reject(route, Code.TOO_LARGE, text, request_of(header[:64]))
        payload = frames[3:]
        size = len(header)
        if payload and (size := size + sum(map(len, payload))) > self.max_message:
            text = f"a message of {size} bytes; at most {self.max_message} are accepted (setting bus.max_message)"
            return self._reject(route, Code.TOO_LARGE, text, request_of(header))
        peer = self.state.by_route.get(route)
        if peer is None:
            return self._on_stranger(route, target, header, now, key)
        if peer.key != key:
            # A peer can choose its connection's routing id, but no other's key: it took over the id of one that is cut.
            return self._reject(route, Code.FORBIDDEN, "this connection's key is not that of the peer it speaks as")
        peer.heard = now
        if exceeded := peer.allowance.take(size, now):
            return self._refuse_flood(peer, exceeded, header, now)
        if target == BROKER:
            return self._on_own(peer, header, now)
        if peer.is_uninformed:
            return [*self._inform(peer), *self._forward(peer, target, header, payload)]
        return self._forward(peer, target, header, payload)

    def on_local_peer(self, name: bytes, role: str, route: bytes, instance: bytes, now: float) -> list[Deliver]:
        """A peer in this process: it needs no hello, because nobody else can be at its place."""
        return self._welcome(Peer(name, role, route, instance, now, now, "in this process", role), now)

    def on_authorized(self, authorized: Mapping[str, Authorized], now: float) -> list[Deliver]:
        """The list of those who may come has changed: whoever is connected and not (so) on it is cut off."""
        self.authorized = authorized
        out: list[Deliver] = []
        for peer in list(self.state.by_route.values()):
            if self._is_local(peer):
                continue
            who = authorized.get(peer.key)
            if who is not None and is_still(who, peer.name.decode(), peer.role, peer.scope):
                continue
            # Not greeted any more: it says hello, and hears then that there is no place for it.
            out += self._reject(peer.route, Code.NOT_GREETED, "its key was revoked, has expired, or means another now")
            out += self._remove(peer, "revoked")
        return out

    def on_unreachable(self, route: bytes, now: float) -> list[Deliver]:
        """A delivery failed because nobody is behind the route any more."""
        self.state.counters["unreachable"] += 1
        peer = self.state.by_route.get(route)
        return self._remove(peer, "gone") if peer is not None else []

    def on_full(self, delivery: Deliver, now: float) -> list[Deliver]:
        """A delivery failed because the receiver takes nothing: say so to the sender, whose hand-over repeats it."""
        self.state.counters["refused.full"] += 1
        peer = self.state.by_route.get(delivery.route)
        sender = self.state.by_name.get(delivery.source.partition(b"\0")[0])
        if peer is not None and isinstance(delivery.header, ControllerChanged):
            peer.is_uninformed = True
        if peer is None or sender is None or not isinstance(delivery.header, bytes):
            return []
        return self._undeliverable(sender, peer.name, delivery.header, Code.OVERLOADED, "its queue is full")

    def on_tick(self, now: float) -> list[Deliver]:
        """Look for peers that have fallen silent. Call about once per heartbeat."""
        silent = [
            peer
            for peer in self.state.by_route.values()
            if peer.heard < now - (peer.heartbeat or self.heartbeat) * SILENT_HEARTBEATS and not self._is_local(peer)
        ]
        out: list[Deliver] = []
        for peer in silent:
            self.state.counters["peers.silent"] += 1
            out += self._remove(peer, "gone")
        return out

    def on_stood_still(self, now: float) -> None:
        """This process was suspended: nobody's silence during that time says anything."""
        for peer in self.state.by_route.values():
            peer.heard = now

    # ------------------------------------------------------------------------------------------- forwarding

    def _forward(self, peer: Peer, target: bytes, header: bytes, payload: Sequence[Frame]) -> list[Deliver]:
        if target[:1] == TOPIC:
            return self._publish(peer, target, header, payload)
        name = name_of(header)
        receiver = self.state.controller if target == CONTROLLER else self.state.by_name.get(target)
        if receiver is None:
            missing = Code.NO_CONTROLLER if target == CONTROLLER else Code.UNKNOWN_TARGET
            return self._undeliverable(peer, target, header, missing, "nobody of that name is connected")
        if name not in ALLOWED.get((peer.rights, receiver.role), ()):
            return self._forbid(peer, target, name, header)
        self.state.counters["forwarded"] += 1
        source = peer.vouched if receiver is self.state.controller else peer.name
        return [Deliver(receiver.route, source, header, payload)]

    def _publish(self, peer: Peer, target: bytes, header: bytes, payload: Sequence[Frame]) -> list[Deliver]:
        if peer.rights not in MAY_PUBLISH:
            return self._forbid(peer, target, name_of(header), header)
        subscribers = self.state.topics.get(target[1:].decode("utf-8", "replace"), {})
        self.state.counters["published"] += len(subscribers)
        return [Deliver(each.route, peer.name, header, payload) for each in subscribers.values()]

    def _undeliverable(self, sender: Peer, target: bytes, header: bytes, code: Code, text: str) -> list[Deliver]:
        self.state.counters[f"undeliverable.{code}"] += 1
        answer = Undeliverable(target.decode("utf-8", "replace"), name_of(header), code, text)
        return [Deliver(sender.route, BROKER, answer)]

    def _forbid(self, peer: Peer, target: bytes, name: str, header: bytes) -> list[Deliver]:
        shown = target[:80].decode("utf-8", "replace") or "the broker"
        text = f"a peer with the role {peer.rights!r} may not send {name or 'this'!r} to {shown!r}"
        return self._reject(peer.route, Code.FORBIDDEN, text, request_of(header))

    def _reject(self, route: bytes, code: Code, text: str, request: int = 0) -> list[Deliver]:
        self.state.counters[f"rejected.{code}"] += 1
        return [Deliver(route, BROKER, Rejected(code, text, request))]

    # ------------------------------------------------------------------------------------------- for the broker itself

    def _on_stranger(self, route: bytes, target: bytes, header: bytes, now: float, key: str) -> list[Deliver]:
        if self._strangers.take(0, now):
            self.state.counters["strangers.unanswered"] += 1
            return []
        if target != BROKER or name_of(header) != "hello":
            return self._reject(route, Code.NOT_GREETED, "say hello first", request_of(header))
        try:
            message = self._decoder.decode(header)
        except ProtocolError as error:
            return self._reject(route, Code.MALFORMED, str(error))
        assert isinstance(message, Hello)
        return self._on_hello(route, message, now, key)

    def _refuse_flood(self, peer: Peer, exceeded: str, header: bytes, now: float) -> list[Deliver]:
        self.state.counters[f"refused.{exceeded}-per-second"] += 1
        if now - peer.allowance.told < TELL_AGAIN:
            return []
        peer.allowance.told = now
        rate = getattr(self.limits, f"{exceeded}_per_second")
        text = f"more than {rate} {exceeded} a second; the rest is dropped (setting broker.{exceeded}_per_second)"
        return self._reject(peer.route, Code.OVERLOADED, text, request_of(header))

    def _on_own(self, peer: Peer, header: bytes, now: float) -> list[Deliver]:
        name = name_of(header)
        if name in ASK_BROKER and name not in TO_BROKER[peer.rights]:
            return self._forbid(peer, BROKER, name, header)
        try:
            message = self._decoder.decode(header)
        except ProtocolError as error:
            return self._reject(peer.route, Code.UNKNOWN_MESSAGE, str(error), request_of(header))
        match message:
            case Ping(sent):
                return [Deliver(peer.route, BROKER, Pong(sent)), *self._inform(peer)]
            case Bye():
                return self._remove(peer, "bye")
            case Subscribe(topics) if any(SEPARATOR in topic for topic in topics):
                return self._reject(peer.route, Code.MALFORMED, "a topic with a NUL in its name", request_of(header))
            case Subscribe(topics):
                return self._subscribe(peer, topics)
            case Unsubscribe(topics):
                mine = [each for wished in topics for each in _topics_for(peer, wished)]
                return self._tell_topics([], self._unsubscribe(peer, mine))
            case AskBroker(request):
                return [Deliver(peer.route, BROKER, self._describe(peer, request, now))]
            case _:
                return self._reject(peer.route, Code.STATE, f"already greeted as {peer.name.decode()!r}")

    def _on_hello(self, route: bytes, hello: Hello, now: float, key: str) -> list[Deliver]:
        if hello.version != PROTOCOL_VERSION:
            newer = "the broker" if hello.version > PROTOCOL_VERSION else "this peer"
            text = f"speaks version {hello.version}, the broker {PROTOCOL_VERSION}: upgrade {newer} (pip install -U headway)"
            return self._reject(route, Code.VERSION, text)
        if hello.role not in ROLES:
            return self._reject(
                route, Code.MALFORMED, f"role {hello.role[:80]!r}; expected one of {', '.join(sorted(ROLES))}"
            )
        role, name = hello.role, hello.name.encode() or self._make_name(hello.role)
        scope: Scope = None
        if self.authorized is not None:
            found = identify(self.authorized, key, hello, self._instance_of, self.limits.per_key)
            if isinstance(found, Refusal):
                return self._reject(route, *found)
            role, name, scope = found.role, found.name.encode(), found.scope
        if not NAME.fullmatch(name) or (name == CONTROLLER) != (role == "controller"):
            text = f"name {hello.name[:80]!r}; expected up to 64 letters, digits, '.', '_', '-', and 'controller' only for it"
            return self._reject(route, Code.MALFORMED, text)
        earlier = self.state.by_name.get(name)
        if earlier is not None and self._is_another(earlier, hello.instance, role, key):
            # The earlier one may be dead without our knowing. A word to it finds out: if nobody is behind its route,
            # the delivery fails, it is removed, and the newcomer's next attempt succeeds.
            probe = Deliver(earlier.route, BROKER, Pong(0.0))
            text = f"the name {name.decode()!r} is taken by a peer that is connected"
            return [probe, *self._reject(route, Code.NAME_TAKEN, text)]
        if earlier is None and len(self.state.by_route) >= self.max_peers:
            return self._reject(route, Code.LIMIT, f"{self.max_peers} peers are connected (setting broker.max_peers)")
        rights = rights_of(role, has_key=self.authorized is not None)
        peer = Peer(name, role, route, hello.instance, now, now, hello.software[:100], rights, key, scope)
        if role == "edge" and self.heartbeat < hello.heartbeat <= MOST_HEARTBEAT:
            peer.heartbeat = hello.heartbeat  # each sign of life costs an edge money
        if role != "controller":  # it answers everybody
            limits = self.limits
            peer.allowance = allowance(limits.messages_per_second, limits.bytes_per_second, now, self.max_message)
        return self._welcome(peer, now)

    def _welcome(self, peer: Peer, now: float) -> list[Deliver]:
        state = self.state
        earlier = state.by_name.get(peer.name)
        topics: list[str] = []
        if earlier is not None:  # the same instance on a new connection
            state.counters["peers.resumed"] += 1
            topics = sorted(earlier.topics)
            self._unsubscribe(earlier, topics)
            del state.by_route[earlier.route]
        state.by_route[peer.route] = state.by_name[peer.name] = peer
        state.counters["peers.welcomed"] += 1
        for topic in topics:
            peer.topics.add(topic)
            state.topics.setdefault(topic, {})[peer.name] = peer
        if peer.role == "controller":
            return self._welcome_controller(peer)
        out = [Deliver(peer.route, BROKER, self._make_welcome(peer))]
        if state.controller is not None:
            out.append(Deliver(state.controller.route, BROKER, self._changed(peer, "up")))
        return out

    def _welcome_controller(self, peer: Peer) -> list[Deliver]:
        state = self.state
        state.controller = peer
        others = [each for each in state.by_route.values() if each is not peer]
        out = [
            Deliver(peer.route, BROKER, self._make_welcome(peer)),
            Deliver(peer.route, BROKER, Peers([self._changed(each, "up") for each in others])),
            Deliver(peer.route, BROKER, TopicsChanged(sorted(state.topics), [])),
        ]
        return out + [Deliver(each.route, BROKER, ControllerChanged(peer.instance)) for each in others]

    def _inform(self, peer: Peer) -> list[Deliver]:
        """Repeat who the controller is, if the peer took nothing when it was told: otherwise it waits for one for ever.

        When it speaks, whatever it says: those that speak anyway ping rarely.
        """
        if not peer.is_uninformed:
            return []
        peer.is_uninformed = False
        controller = self.state.controller
        return [Deliver(peer.route, BROKER, ControllerChanged(controller.instance if controller is not None else b""))]

    def _make_welcome(self, peer: Peer) -> Welcome:
        controller = self.state.controller.instance if self.state.controller is not None else b""
        name = peer.name.decode()
        namespace = peer.scope[0] if peer.scope else ""
        heartbeat = peer.heartbeat or self.heartbeat
        return Welcome(PROTOCOL_VERSION, name, self.state.instance, heartbeat, self.max_message, controller, namespace)

    def _remove(self, peer: Peer, how: str) -> list[Deliver]:
        state = self.state
        lost = self._unsubscribe(peer, list(peer.topics))
        del state.by_route[peer.route]
        del state.by_name[peer.name]
        state.counters[f"peers.{how}"] += 1
        if peer is state.controller:
            state.controller = None
            return [Deliver(each.route, BROKER, ControllerChanged(b"")) for each in state.by_route.values()]
        if state.controller is None:
            return []
        return [Deliver(state.controller.route, BROKER, self._changed(peer, how)), *self._tell_topics([], lost)]

    def _subscribe(self, peer: Peer, topics: Iterable[str]) -> list[Deliver]:
        added: list[str] = []
        for wished, topic in [(each, scoped) for each in topics for scoped in _topics_for(peer, each)]:
            if len(peer.topics) >= self.limits.max_topics or len(wished) > MAX_TOPIC_CHARACTERS:
                text = f"at most {self.limits.max_topics} topics of {MAX_TOPIC_CHARACTERS} characters (setting broker.max_topics)"
                return [*self._tell_topics(added, []), *self._reject(peer.route, Code.LIMIT, text)]
            if topic not in self.state.topics:
                added.append(topic)
            peer.topics.add(topic)
            self.state.topics.setdefault(topic, {})[peer.name] = peer
        return self._tell_topics(added, [])

    def _unsubscribe(self, peer: Peer, topics: Iterable[str]) -> list[str]:
        """Returns the topics that nobody follows any more."""
        ended = []
        for topic in topics:
            peer.topics.discard(topic)
            subscribers = self.state.topics.get(topic)
            if subscribers is not None and subscribers.pop(peer.name, None) is not None and not subscribers:
                del self.state.topics[topic]
                ended.append(topic)
        return ended

    def _tell_topics(self, added: list[str], removed: list[str]) -> list[Deliver]:
        if self.state.controller is None or not (added or removed):
            return []
        return [Deliver(self.state.controller.route, BROKER, TopicsChanged(added, removed))]

    def _describe(self, asker: Peer, request: int, now: float) -> BrokerStateMessage:
        """To those who have not all namespaces: who serves them, and who shares theirs."""
        peers = [
            {"name": peer.name.decode(), "role": peer.role, "connected": now - peer.since, "heard": now - peer.heard,
             "software": peer.software}
            for peer in self.state.by_route.values()
            if asker.scope is None or peer.role not in CLIENT_ROLES or not set(asker.scope).isdisjoint(peer.scope or ())
        ]  # fmt: skip
        counters = dict(self.state.counters) if asker.scope is None else {}
        return BrokerStateMessage(request, now - self.state.started, peers, counters)

    def _changed(self, peer: Peer, how: str) -> PeerChanged:
        who = self.authorized.get(peer.key) if self.authorized is not None else None
        labels = dict(who.labels) if who is not None else {}
        return PeerChanged(peer.name.decode(), peer.role, peer.instance, how, labels)

    def _make_name(self, role: str) -> bytes:
        self._names += 1
        return f"{role}-{self.state.instance.hex()[:6]}-{self._names}".encode()[:64]

    def _instance_of(self, name: str) -> bytes | None:
        """Who is connected under that name."""
        peer = self.state.by_name.get(name.encode())
        return peer.instance if peer is not None else None

    def _is_another(self, earlier: Peer, instance: bytes, role: str, key: str) -> bool:
        """Whether somebody else has the name. The instance alone proves nothing: others are told the controller's."""
        return self._is_local(earlier) or (earlier.instance, earlier.role, earlier.key) != (instance, role, key)

    def _is_local(self, peer: Peer) -> bool:
        return peer.route[:1] == b"\xff"  # ZeroMQ's own routes begin with a zero byte


def _topics_for(peer: Peer, wished: str) -> list[str]:
    """What a peer follows that asks for this topic: those that are told of its namespaces alone, if it has not all."""
    if peer.scope is None or wished in SHARED_TOPICS:
        return [wished]
    return [topic_in(namespace, wished) for namespace in peer.scope]
