"""What the broker knows: its peers, the topics they follow, and how often what happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from headway_broker.limits import Allowance, allowance
from headway_bus.namespaces import Scope, vouched


@dataclass(slots=True)
class Peer:
    """Somebody who has said hello. ``route`` changes when it connects anew; ``name`` stays."""

    name: bytes
    role: str
    route: bytes
    instance: bytes
    since: float
    heard: float
    software: str = ""
    rights: str = ""
    """By which permissions it is judged: its role, but for those who come without a key."""

    key: str = ""
    """The public key by which its connection was made; empty: made without."""

    scope: Scope = None
    """The namespaces that it may see; None: all."""

    vouched: bytes = b""
    """As whom the controller is told of it: its name, and its namespaces if it has not all."""

    heartbeat: float = 0.0
    """Seconds between its signs of life, where it asked for fewer; 0: as everybody's."""

    is_uninformed: bool = False
    """It could not be told which controller there is now."""

    allowance: Allowance = field(default_factory=lambda: allowance(0, 0, 0.0))
    topics: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.vouched = vouched(self.name, self.scope)


@dataclass(slots=True)
class BrokerState:
    """The tables, each kept consistent with the others by the core alone."""

    instance: bytes
    started: float
    by_route: dict[bytes, Peer] = field(default_factory=dict)
    by_name: dict[bytes, Peer] = field(default_factory=dict)
    topics: dict[str, dict[bytes, Peer]] = field(default_factory=dict)  # topic → subscribers by name
    controller: Peer | None = None
    counters: Counter[str] = field(default_factory=Counter)

    def validate(self) -> None:
        """Raise AssertionError where two tables disagree."""
        assert set(self.by_name) == {peer.name for peer in self.by_route.values()}, "names and routes differ"
        for route, peer in self.by_route.items():
            assert peer.route == route and self.by_name[peer.name] is peer, f"peer {peer.name!r} is filed wrongly"
            assert all(peer.name in self.topics[topic] for topic in peer.topics), f"{peer.name!r} misses a topic"
        for topic, subscribers in self.topics.items():
            assert subscribers, f"topic {topic!r} is kept without a subscriber"
            assert all(topic in peer.topics for peer in subscribers.values()), f"topic {topic!r} has a stranger"
        assert self.controller is None or self.by_route[self.controller.route] is self.controller
