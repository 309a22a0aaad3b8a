"""What the runtime says of itself: registration and heartbeats. Pure."""

from __future__ import annotations

import random

from msgspec.structs import replace

from headway_bus.messages import Heartbeat, Register, Welcome
from headway_bus.records import Held, RuntimeInfo

PATIENCE_HEARTBEATS = 2
"""Heartbeats without an answer after which the register message is sent again."""


class Presence:
    """Who the runtime is, and what it knows of broker and controller."""

    def __init__(self, info: RuntimeInfo, instance: bytes) -> None:
        self.info = info
        self.heartbeat = 2.0
        """Seconds between signs of life."""

        self.next_heartbeat = 0.0
        self.round_trip = 0.0
        self.wishes = False
        """The heartbeat's interval is this runtime's own wish, of which the controller must know."""

        self.unpacks: list[str] = []
        """Forms of packed messages that this runtime can read."""

        self.load: dict[str, float] = {}
        """Numbers that go with every heartbeat."""

        self._instance = instance
        self._is_up = False
        self._controller = b""
        self._last_controller = b""
        """The one that it was registered with last, though it may have gone since."""

        self._assigned = 0
        self._begin = 1
        """The first number of the sequence that ``_assigned`` is of."""

        self._in_order = False
        """Whether an assign batch was taken in since the last register message; the controller may number afresh after one."""

        self._unanswered_since: float | None = None
        """When the last register message left, while its answer is out."""

        self._random = random.Random(instance)

    @property
    def is_registered(self) -> bool:
        """Whether there is a controller and a way to it."""
        return self._is_up and bool(self._controller)

    def up(self, welcome: Welcome, now: float) -> None:
        self._is_up = True
        self.heartbeat = welcome.heartbeat
        # A thousand runtimes that were cut at once must not beat at once for ever after.
        self.next_heartbeat = now + self._random.uniform(0.0, welcome.heartbeat)
        if welcome.name != self.info.name:
            self.info = replace(self.info, name=welcome.name)

    @property
    def assigned(self) -> tuple[bytes, int]:
        """The last assign batch that was taken in, and whose it was."""
        return self._last_controller, self._assigned

    def resume(self, controller: bytes, assigned: int) -> None:
        """Go on where an earlier process stopped."""
        self._last_controller, self._assigned, self._begin = controller, assigned, assigned + 1

    @property
    def asked_since(self) -> float | None:
        """When the register message left that the controller has not answered: what of all that is held it still wants."""
        return self._unanswered_since

    def down(self) -> None:
        self._is_up = False
        self._controller = b""

    def change_controller(self, controller: bytes) -> None:
        """Another controller, or (empty) none."""
        if controller and controller != self._last_controller:
            self._last_controller = controller
            self._begin, self._assigned = 1, 0  # another controller numbers its batches afresh
        self._controller = controller

    def register(self, held: list[Held], draining: bool, now: float) -> Register:
        """The message that says who we are and what we hold."""
        self._unanswered_since = now
        heartbeat = self.heartbeat if self.wishes else 0.0
        return Register(self.info, self._instance, held, self._assigned, draining, heartbeat, self.unpacks)

    def answered(self, first: int = 0) -> None:
        """The controller has taken in the last register message: what it assigns from now on, it assigns knowing that.

        ``first``: the number of the batch that comes next; 0: it was not said, and whichever comes is taken for it.

        It may be one more answer, to an earlier register message that was said twice: what came behind the first one has been
        taken in, may be over and settled, and must not be taken for new when it is repeated. Or it is the one that counts,
        behind an answer to an earlier process of this name: then its number is of another sequence.
        """
        self._unanswered_since = None
        self._in_order = first > 0
        if first and not self._begin <= first <= self._assigned + 1:
            self._begin, self._assigned = first, first - 1

    def must_register_again(self, now: float) -> bool:
        """Whether the register message, or its answer, seems to be lost."""
        since = self._unanswered_since
        return since is not None and now - since >= PATIENCE_HEARTBEATS * self.heartbeat

    def is_new(self, batch: int) -> bool:
        """Whether an assign batch is to be taken in: seen for the first time; then it counts as taken in.

        What comes between a register message and its answer may be the repetition of a batch whose attempts ended and
        were settled long ago, sent before that message was read. The controller sends all that is open after its answer.
        """
        if self._unanswered_since is not None:
            return False
        # The next in order, or nothing: a batch that the broker could not deliver comes again, and so do those behind it.
        # Were they taken in before it, the number that stands for all up to it would be wrong in either direction.
        if self._in_order and batch != self._assigned + 1:
            return False
        if not self._in_order:
            self._begin = batch
        self._in_order = True
        self._assigned = batch
        return True

    def is_heartbeat_due(self, now: float) -> bool:
        return now >= self.next_heartbeat

    def beat(self, now: float, held: int, digest: int, free: float) -> Heartbeat:
        """A sign of life, and the time of the next."""
        self.next_heartbeat = max(now, self.next_heartbeat + self.heartbeat)
        return Heartbeat(now, self._assigned, held, digest, free, self.round_trip, self.load)
