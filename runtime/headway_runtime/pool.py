"""Which attempt goes into which child process, and when. Pure.

Children are fed by expected time: several short attempts at once, so that a pipe is written once for many, and exactly one
that is long or unknown. A guess that turns out wrong is mended by recalling what waits behind it. A child occupies the
slots that its attempts need while it has any; all attempts in one queue need the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from headway_bus.ids import AttemptKey
from headway_bus.records import Ended
from headway_runtime.effects import Effect, Feed, FlushChild, Recall, RetireChild, StartChild
from headway_runtime.state import (
    CHILD_ATTEMPTS,
    CHILD_WORK_SECONDS,
    RECALL_SECONDS,
    SLOT_ROUNDING,
    START_DELAY,
    STUCK_SECONDS,
    UNANSWERED_SECONDS,
    Attempt,
    ChildState,
    Phase,
)

LEAST_SECONDS = 5e-6
"""What an attempt counts for at least, in a child's work."""


def recall(child: ChildState, now: float) -> Recall:
    """Ask a child what it has not begun. Until it answers it is not fed."""
    child.recalled = True
    child.recalled_at = now
    return Recall(child.number)


class Pool:
    """Slots, the attempts that are ready, and the children. ``slots``: how many may be busy at once."""

    def __init__(self, slots: float, max_children: int) -> None:
        self.slots = slots
        self.free = slots
        self.ready: deque[Attempt] = deque()
        self.children: dict[int, ChildState] = {}
        self._max_children = max_children
        self._idle: dict[int, ChildState] = {}
        self._busy: dict[int, ChildState] = {}
        self._last_number = 0

    @property
    def busy(self) -> Iterable[ChildState]:
        return self._busy.values()

    def fits(self, slots: float) -> bool:
        """Whether that many slots are free."""
        return slots <= self.free + SLOT_ROUNDING

    def add_child(self) -> ChildState:
        """A new child, idle; the caller makes the process."""
        self._last_number += 1
        child = ChildState(self._last_number)
        self.children[child.number] = self._idle[child.number] = child
        return child

    def prepare(self, most: int) -> list[Effect]:
        """Make a child for each slot, but not more than ``most``."""
        count = min(most, int(self.slots + SLOT_ROUNDING) or 1) - len(self.children)
        return [StartChild(self.add_child().number) for _ in range(count)]

    def next_ready(self) -> Attempt | None:
        """The attempt that is next in order, without taking it. Those that ended while they waited are passed over."""
        ready = self.ready
        while ready and ready[0].phase is not Phase.READY:
            ready.popleft()
        return ready[0] if ready else None

    def feed(self, now: float) -> list[Effect]:
        """Give the first ready attempts, as far as they are for children, to children that have room."""
        effects: list[Effect] = []
        while (attempt := self.next_ready()) is not None and attempt.spec.is_pooled:
            slots = attempt.spec.options.requirements.slots
            child = self._choose(slots, attempt.spec.is_short, effects)
            if child is None:
                break
            attempts = self._fill(child, slots, now)
            effects.append(Feed(child.number, attempts))
        return effects

    def _choose(self, slots: float, is_short: bool, effects: list[Effect]) -> ChildState | None:
        if self.fits(slots):
            if not self._idle and len(self.children) < self._max_children:
                effects.append(StartChild(self.add_child().number))
            if self._idle:
                return next(reversed(self._idle.values()))  # the one used last: its caches are warm
        if not is_short:
            return None
        best = None
        for child in self._busy.values():
            if (
                child.slots == slots
                and child.work * 2 <= CHILD_WORK_SECONDS
                and len(child.queue) * 2 <= CHILD_ATTEMPTS
                and not child.ending
                and not child.recalled
                and (best is None or child.work < best.work)
            ):
                best = child
        return best

    def _fill(self, child: ChildState, slots: float, now: float) -> list[Attempt]:
        """Move attempts from the ready queue into a child, at least one."""
        if not child.queue:
            self._idle.pop(child.number, None)
            self._busy[child.number] = child
            child.slots = slots
            self.free -= slots
            child.head_since = now
            child.announced = False
        room = self._share(slots, child)
        fed: list[Attempt] = []
        while (attempt := self.next_ready()) is not None:
            spec = attempt.spec
            expected = max(spec.seconds, LEAST_SECONDS) if spec.seen else CHILD_WORK_SECONDS
            if not spec.is_pooled or spec.options.requirements.slots != slots:
                break
            if child.queue and (not spec.is_short or len(fed) >= room or child.work + expected > CHILD_WORK_SECONDS):
                break
            self.ready.popleft()
            attempt.phase = Phase.FED
            attempt.child = child
            attempt.expected = expected
            child.queue[attempt.key] = attempt
            child.work += expected
            fed.append(attempt)
        return fed

    def _share(self, slots: float, child: ChildState) -> int:
        """How many attempts this child may get now: a fair share, if other children could run some at once."""
        others = len(self._idle) + self._max_children - len(self.children)
        others = min(others, int((self.free + SLOT_ROUNDING) / slots) if slots > 0 else len(self._idle))
        most = CHILD_ATTEMPTS - len(child.queue)
        return max(1, min(most, -(-len(self.ready) // (others + 1))))

    def take_ended(self, child: ChildState, ended: Iterable[Ended], now: float) -> list[tuple[Attempt, Ended]]:
        """What a child says has ended; attempts it does not have are passed over."""
        found = []
        queue = child.queue
        for record in ended:
            attempt = queue.pop((record.task, record.attempt), None)
            if attempt is None:
                continue
            spec = attempt.spec
            child.work -= attempt.expected
            spec.observe(record.seconds)
            found.append((attempt, record))
        if found:
            self._moved_on(child, now)
        return found

    def remove(self, child: ChildState, key: AttemptKey, now: float) -> Attempt | None:
        """Take one attempt out of a child's books."""
        attempt = child.queue.pop(key, None)
        if attempt is not None:
            attempt.child = None
            child.work -= attempt.expected
            self._moved_on(child, now)
        return attempt

    def give_back(self, child: ChildState, keys: Iterable[AttemptKey], now: float) -> list[Attempt]:
        """A child has not begun these; they are ready again, before all others and in their order."""
        attempts = [attempt for key in keys if (attempt := child.queue.pop(key, None)) is not None]
        for attempt in reversed(attempts):
            attempt.phase = Phase.READY
            attempt.child = None
            child.work -= attempt.expected
            self.ready.appendleft(attempt)
        child.recalled = False
        if attempts and not child.queue:
            self._moved_on(child, now)
        return attempts

    def drop_child(self, child: ChildState) -> None:
        """The process is gone; its queue has been emptied by the caller."""
        self.children.pop(child.number, None)
        self._idle.pop(child.number, None)
        if self._busy.pop(child.number, None) is not None:
            self.free += child.slots

    def _moved_on(self, child: ChildState, now: float) -> None:
        child.head_since = now
        child.announced = False
        if child.queue:
            return
        child.work = 0.0  # exactly, so that rounding does not add up
        if child.ending:
            return  # its slots are free when its process tree is gone
        self._busy.pop(child.number, None)
        self._idle[child.number] = child
        self.free += child.slots
        child.slots = 0.0

    def retire(self) -> list[Effect]:
        """Let children go that fractional slots made necessary for a time."""
        effects: list[Effect] = []
        keep = max(1, int(self.slots + 0.999))
        while len(self.children) > keep and self._idle:
            _, child = self._idle.popitem()
            del self.children[child.number]
            effects.append(RetireChild(child.number))
        return effects

    def look_at_children(self, now: float) -> tuple[list[Effect], list[Attempt]]:
        """Recall what waits behind a long attempt. Returns also the heads whose start is worth telling now."""
        effects: list[Effect] = []
        started: list[Attempt] = []
        for child in self._busy.values():
            stays = now - child.head_since
            head = child.head()
            if head is None:
                continue
            is_stuck = len(child.queue) > 1 and stays >= STUCK_SECONDS
            if now - child.recalled_at >= RECALL_SECONDS if child.recalled else is_stuck:
                effects.append(recall(child, now))
            if stays >= (UNANSWERED_SECONDS if child.recalled else START_DELAY):
                if not child.announced:
                    child.announced = True
                    head.since = child.head_since
                    started.append(head)
                effects.append(FlushChild(child.number))
        return effects, started
