"""Every connection that ZeroMQ has taken in: on which of them nobody has said hello, and which send without end.

ZeroMQ shows a broker peers that have spoken and nothing else. What it has accepted it tells by a socket's monitor, and by
the descriptor that every message came through; this file puts the two together. It decides; ``watch`` acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import takewhile

from headway_broker.state import Peer

UNHEARD_MESSAGES = 2
"""Largest messages that may have come from one of whom none was complete: one under way, and one not yet taken."""


@dataclass(slots=True, eq=False)
class Connection:
    """One that was accepted and has not ended."""

    since: float
    address: str = ""
    """The machine, or the network, that it comes from."""

    route: bytes | None = None
    """ZeroMQ's name for it, once something was said on it."""

    spoke: float = 0.0
    """When something was last said on it by one who had not said hello."""

    heard: float = -1.0
    """When something had last been heard from its peer, at the last look."""

    received: int | None = None
    """Bytes that had come when its peer was first found silent; None: it was not."""


@dataclass(slots=True)
class Connections:
    """``limit``: how many there may be on which nobody has said hello. Descriptors are the numbers of all its methods."""

    limit: int
    opened: dict[int, Connection] = field(default_factory=dict)
    silent: dict[int, Connection] = field(default_factory=dict)
    """Those on which nothing has been said, the oldest first: half-open handshakes, and those that wait after one."""

    def on_opened(self, number: int, now: float, address: str = "") -> None:
        self.on_closed(number)
        self.opened[number] = self.silent[number] = Connection(now, address)

    def on_closed(self, number: int) -> None:
        self.opened.pop(number, None)
        self.silent.pop(number, None)

    def on_spoken(self, number: int, route: bytes, now: float) -> None:
        """A message came whose sender is not a peer (yet)."""
        connection = self.opened.get(number)
        if connection is not None:
            self.silent.pop(number, None)
            connection.route, connection.spoke = route, now

    def beyond(self) -> list[int]:
        """Which of the silent ones to cut so that they are not more than the limit.

        Always the newest of the address that has the most: who fills the places fills them for itself. And not the oldest,
        or of many that come at once in good faith none would ever come to the end of its handshake.
        """
        excess = len(self.silent) - self.limit
        if excess <= 0:
            return []
        by_address: dict[str, list[tuple[int, int]]] = {}
        for place, (number, each) in enumerate(self.silent.items()):
            by_address.setdefault(each.address, []).append((place, number))
        most = [(-len(theirs), -theirs[-1][0], address) for address, theirs in by_address.items()]
        heapify(most)
        found = []
        for _ in range(excess):
            theirs = by_address[most[0][2]]
            found.append(theirs.pop()[1])
            if theirs:
                heapreplace(most, (-len(theirs), -theirs[-1][0], most[0][2]))
            else:
                heappop(most)
        return found

    def overdue(self, before: float) -> list[int]:
        """Those that were accepted before that time and have said nothing since."""
        return list(takewhile(lambda number: self.silent[number].since < before, self.silent))

    def beyond_with(self, greeted: Mapping[bytes, Peer]) -> list[int]:
        """Which to cut of those that have said something and are no peers, so that they and the silent ones are not more."""
        strangers = [
            number for number, each in self.opened.items() if each.route is not None and each.route not in greeted
        ]
        return strangers[: max(0, len(strangers) + len(self.silent) - self.limit)]

    def of(self, routes: Iterable[bytes]) -> list[int]:
        """The connections of these peers."""
        wanted = set(routes)
        return [number for number, each in self.opened.items() if each.route in wanted]

    def unheard(self, greeted: Mapping[bytes, Peer]) -> list[int]:
        """Those from which no whole message has come since the last call. One who sends without end is among them."""
        found = []
        for number, each in self.opened.items():
            peer = greeted.get(each.route) if each.route is not None else None
            heard = peer.heard if peer is not None else each.spoke
            if heard != each.heard:
                each.heard, each.received = heard, None
            else:
                found.append(number)
        return found

    def on_received(self, received: Mapping[int, int], most: int) -> list[int]:
        """So many bytes have come in all on connections that are unheard. Returns those that sent more than messages may have.

        ``most``: bytes of a message.
        """
        endless = []
        for number, count in received.items():
            connection = self.opened.get(number)
            if connection is None:
                continue
            if connection.received is None:
                connection.received = count
            elif count - connection.received > UNHEARD_MESSAGES * most:
                endless.append(number)
        return endless

    def forget_silence(self) -> None:
        """The broker itself was not there to listen."""
        for each in self.opened.values():
            each.received = None
