"""A peer's connection to the broker: hello, signs of life, back-off. Pure: events and the time go in, effects come out.

::

    waiting ──retry time──▶ greeting ──welcome──▶ up ──cut, silence──▶ waiting
                               │ ▲                 │
                               │ └──not greeted────┘   (the broker forgot us: say hello again on the same connection)
                               └──refused for good──▶ over

One socket is one connection: when it breaks, it is closed and a new one is opened, so nothing that was written for the
old connection can arrive on the new one before the hello. What must not be lost is repeated by the hand-overs above.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from headway_bus.messages import PROTOCOL_VERSION, ControllerChanged, Hello, Message, Ping, Pong, Rejected, Welcome
from headway_bus.records import Code

FIRST_RETRY = 0.05
"""Seconds at most before the first attempt after a cut; each further attempt may wait twice as long."""

LAST_RETRY = 5.0
"""Seconds at most between attempts."""

CONTROLLER_RETRY = 0.5
"""The same for a controller: there is one, so its return is no storm, and everybody waits for it."""

SILENT_HEARTBEATS = 3
"""Heartbeats without a word from the broker after which the connection is given up."""

LONGEST_GREETING = 10.0
"""Seconds at most for which the answer to a hello is awaited: the broker passes over hellos when too many come at once, and an
edge's heartbeats are far apart."""

FADING = 0.8
"""What a heartbeat's age leaves of the weight of a measured round trip."""

TALKERS = frozenset({"runtime", "edge"})
"""Roles that say something to the controller every heartbeat, which answers: both ways are known to be whole without a ping."""

LIVELY = 1.25
"""Heartbeats within which such a peer has spoken and has been spoken to; else it pings."""

PINGS_APART = 4
"""Heartbeats between its pings even so: they measure the round trip."""

FATAL = frozenset({Code.VERSION, Code.FORBIDDEN, Code.MALFORMED})
"""Refusals of a hello that a repetition cannot mend."""


@dataclass(frozen=True, slots=True)
class Open:
    """Open a new socket and connect it."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this to the broker."""

    message: Message


@dataclass(frozen=True, slots=True)
class Up:
    """The broker has accepted us."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class Down:
    """The connection is gone; a new one will be tried."""

    reason: str


@dataclass(frozen=True, slots=True)
class ControllerSeen:
    """Another controller serves from now on; empty: none does."""

    controller: bytes


@dataclass(frozen=True, slots=True)
class Over:
    """The broker will not have us; nothing more is tried."""

    rejected: Rejected


Effect = Open | Close | Send | Up | Down | ControllerSeen | Over


@dataclass(slots=True)
class Session:
    """The state of one peer's connection."""

    role: str
    name: str
    instance: bytes
    software: str = ""
    heartbeat: float = 2.0
    wish: float = 0.0
    """Seconds between signs of life that are asked of the broker; 0: as it has them."""

    name_patience: float = 10.0
    """Seconds for which a taken name is asked for again: an earlier self may not have been noticed to be dead."""

    state: str = "waiting"
    welcome: Welcome | None = None
    controller: bytes = b""
    round_trip: float = 0.0
    """Seconds to the broker and back, smoothed."""

    attempts: int = 0
    """Attempts since the connection was last up."""

    retry_at: float = 0.0
    has_spoken: bool = False
    """Set by the link whenever it sends something that is not the session's own."""

    random: random.Random = field(default_factory=random.Random)
    _heard: float = 0.0
    _said: float = 0.0
    _pinged: float = 0.0
    _measured: float = 0.0
    _ticked: float = 0.0
    _greeting_since: float = 0.0
    _name_taken_since: float | None = None

    @property
    def is_up(self) -> bool:
        return self.state == "up"

    @property
    def _greeting_patience(self) -> float:
        return min(self.heartbeat * SILENT_HEARTBEATS, LONGEST_GREETING)

    def silence(self, now: float) -> float:
        """Seconds since the broker was last heard; 0 while there is no connection, of which ``on_down`` has told."""
        return max(0.0, now - self._heard) if self.is_up else 0.0

    def on_tick(self, now: float) -> list[Effect]:
        """Time has passed: connect, ask for a sign of life, or give up. Call a few times per heartbeat."""
        if self._ticked and now - self._ticked > self.heartbeat:
            # The process itself stood still (suspended, starved). What the broker said meanwhile may lie unread, so
            # its silence proves nothing yet: one more heartbeat's grace.
            self._heard = max(self._heard, now - self.heartbeat * (SILENT_HEARTBEATS - 1))
            spent = self._greeting_patience * (SILENT_HEARTBEATS - 1) / SILENT_HEARTBEATS
            self._greeting_since = max(self._greeting_since, now - spent)
        if self.has_spoken:
            self.has_spoken, self._said = False, self._ticked  # some time since then
        self._ticked = now
        if self.state == "waiting" and now >= self.retry_at:
            return self._open(now)
        if self.state == "greeting" and now - self._greeting_since > self._greeting_patience:
            return self._lose(now, "the broker did not answer the hello")
        if self.state == "up":
            return self._keep_alive(now)
        return []

    def on_disconnected(self, now: float, reason: str = "the connection was closed") -> list[Effect]:
        """The transport says that the connection is gone, or could not be made."""
        if self.state in ("waiting", "over"):
            return []
        return self._lose(now, reason)

    def on_heard(self, now: float) -> None:
        """Something arrived from the broker, whatever it was."""
        self._heard = now

    def on_message(self, message: Message, now: float) -> list[Effect]:
        """A message from the broker itself. Messages that are not the session's are passed over."""
        self._heard = now
        if isinstance(message, Welcome):
            return self._on_welcome(message)
        if isinstance(message, Pong):
            self._on_pong(message, now)
        elif isinstance(message, ControllerChanged):
            self.controller = message.controller
            return [ControllerSeen(message.controller)]
        elif isinstance(message, Rejected):
            return self._on_rejected(message, now)
        return []

    def on_stopped(self) -> list[Effect]:
        """The owner leaves for good."""
        self.state = "over"
        return [Close()]

    def _open(self, now: float) -> list[Effect]:
        self.state = "greeting"
        self.attempts += 1
        self._greeting_since = now
        return [Open(), Send(self.hello())]

    def hello(self) -> Hello:
        """Who we are: the first message on a connection."""
        return Hello(PROTOCOL_VERSION, self.role, self.name, self.instance, self.software, self.wish)

    def _lose(self, now: float, reason: str) -> list[Effect]:
        was_up = self.state == "up"
        self.state = "waiting"
        self.controller = b""
        if was_up:
            self.attempts = 0
        # Full jitter: a thousand peers cut at once must not return at once. The first attempt is nearly immediate.
        last = CONTROLLER_RETRY if self.role == "controller" else LAST_RETRY
        ceiling = min(last, FIRST_RETRY * 2 ** min(self.attempts, 10))
        self.retry_at = now + self.random.uniform(0.0, ceiling)
        return [Close(), Down(reason)] if was_up else [Close()]

    def _keep_alive(self, now: float) -> list[Effect]:
        silence = now - self._heard
        if silence > self.heartbeat * SILENT_HEARTBEATS:
            return self._lose(now, f"no word from the broker for {silence:.1f} s")
        # Not only when nothing was heard: the broker, too, must hear that a peer lives which only listens.
        since = now - self._pinged
        if since < self.heartbeat or (since < self.heartbeat * PINGS_APART and self._is_lively(now)):
            return []
        self._pinged = now
        return [Send(Ping(now))]

    def _is_lively(self, now: float) -> bool:
        """Whether it speaks with the controller, so that a ping would tell nobody anything."""
        return self.role in TALKERS and now - min(self._said, self._heard) < self.heartbeat * LIVELY

    def _on_welcome(self, welcome: Welcome) -> list[Effect]:
        if self.state not in ("greeting", "up"):
            return []
        self.state = "up"
        self.attempts = 0
        self.welcome = welcome
        self.name = welcome.name
        self.heartbeat = welcome.heartbeat
        self.controller = welcome.controller
        self._name_taken_since = None
        return [Up(welcome)]

    def _on_pong(self, pong: Pong, now: float) -> None:
        if not 0.0 < pong.sent <= now:
            return  # the broker's own word, by which it finds out whether we are still here
        sample = now - pong.sent
        kept = FADING ** max(1.0, (now - self._measured) / self.heartbeat)
        self.round_trip = sample if not self.round_trip else kept * self.round_trip + (1.0 - kept) * sample
        self._measured = now

    def _on_not_greeted(self, rejected: Rejected, now: float) -> list[Effect]:
        if self.state != "up":
            return []  # of something said before; the hello is on its way, and a second one would only be refused
        self.state = "greeting"
        self.controller = b""
        self._greeting_since = now
        return [Down("the broker has forgotten us: " + rejected.text), Send(self.hello())]

    def _on_rejected(self, rejected: Rejected, now: float) -> list[Effect]:
        if rejected.code == Code.NOT_GREETED:
            return self._on_not_greeted(rejected, now)
        if self.state != "greeting":
            return []  # one message was refused; whoever sent it is told by the link
        if rejected.code == Code.NAME_TAKEN:
            if self._name_taken_since is None:
                self._name_taken_since = now
            if now - self._name_taken_since < self.name_patience:
                return self._lose(now, rejected.text)
        elif rejected.code not in FATAL:
            return self._lose(now, rejected.text)
        self.state = "over"
        return [Close(), Over(rejected)]
