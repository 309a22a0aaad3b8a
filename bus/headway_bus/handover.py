"""Numbered batches that are repeated until they are acknowledged.

Every hand-over on the bus works the same way: submissions from client to controller, assignments from controller to
runtime, reports from runtime to controller, ends from controller to client. The sender keeps a batch until the receiver
says that it has it, and sends it again when the connection was renewed or the answer is overdue. So the receiver may get
a batch twice and must treat the second as harmless; and the sender's memory is bounded by refusing to add beyond a
weight, which is what pushes back on whoever produces.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Content = TypeVar("Content")


RETRY_AFTER = 5.0
"""Seconds without an acknowledgement after which a batch is due again, unless its owner knows better."""


@dataclass(slots=True)
class Batch(Generic[Content]):
    """One unacknowledged batch. ``sent``: when it last left, by the caller's clock; None: not yet."""

    number: int
    content: Content
    weight: int
    sent: float | None = None
    times: int = 0


@dataclass(slots=True)
class Outbox(Generic[Content]):
    """The batches on their way to one receiver, oldest first. Time is an argument; nothing here sends."""

    retry_after: float = RETRY_AFTER
    """Seconds without an acknowledgement after which a batch is due again."""

    first: int = field(default_factory=lambda: secrets.randbits(48) + 1)
    """The number of the next batch. It begins anywhere, so that an acknowledgement meant for an earlier process of the
    same name, which may still be on its way, matches nothing here."""

    _begin: int = 0
    _batches: dict[int, Batch[Content]] = field(default_factory=dict)
    _weight: int = 0
    repeats: int = 0
    """Times that any batch was sent beyond its first."""

    def __post_init__(self) -> None:
        self._begin = self.first

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def weight(self) -> int:
        """The sum of the weights of what is not acknowledged."""
        return self._weight

    @property
    def contents(self) -> list[Content]:
        """What is not acknowledged, oldest first."""
        return [batch.content for batch in self._batches.values()]

    @property
    def unacknowledged(self) -> list[Batch[Content]]:
        return list(self._batches.values())

    @property
    def oldest_number(self) -> int:
        """The number of the oldest unacknowledged batch, or of the next one if there is none."""
        return next(iter(self._batches), self.first)

    @property
    def last_number(self) -> int:
        """The number given last; before any, one less than the first."""
        return self.first - 1

    def add(self, content: Content, weight: int = 1) -> Batch[Content]:
        """A new batch, not yet sent."""
        batch = Batch(self.first, content, weight)
        self.first += 1
        self._batches[batch.number] = batch
        self._weight += weight
        return batch

    def sent(self, batch: Batch[Content], now: float) -> None:
        """Note that the batch left at ``now``."""
        batch.sent = now
        batch.times += 1
        if batch.times > 1:
            self.repeats += 1

    def acknowledge(self, numbers: Iterable[int]) -> list[Content]:
        """Forget these batches; unknown numbers (an acknowledgement that came twice) are passed over."""
        released = []
        for number in numbers:
            batch = self._batches.pop(number, None)
            if batch is not None:
                self._weight -= batch.weight
                released.append(batch.content)
        return released

    def acknowledge_through(self, number: int) -> list[Content]:
        """Forget every batch up to and including ``number``; a number that was never given out means none."""
        if not self._begin <= number < self.first:
            return []
        return self.acknowledge([each for each in self._batches if each <= number])

    def due(self, now: float) -> list[Batch[Content]]:
        """Batches that were never sent, or so long ago that they must go again."""
        limit = now - self.retry_after
        return [batch for batch in self._batches.values() if batch.sent is None or batch.sent <= limit]

    def renew(self) -> None:
        """The connection is new: everything not acknowledged is due."""
        for batch in self._batches.values():
            batch.sent = None

    def next_due(self) -> float | None:
        """When the next batch is due if nothing happens; None if nothing is on its way."""
        times = [0.0 if batch.sent is None else batch.sent + self.retry_after for batch in self._batches.values()]
        return min(times) if times else None

    def clear(self) -> list[Content]:
        """Drop everything, because the receiver has lost its memory and will be told afresh."""
        contents = self.contents
        self._batches.clear()
        self._weight = 0
        return contents
