"""A token bucket: so many bytes a second, so many at once. Pure."""

from __future__ import annotations

LEAST_BURST = 16 * 1024
"""Bytes that may always go at once: below it the overhead of small messages is more than what they carry."""

ROUNDING = 0.5
"""Of a byte: who has waited as long as ``wait`` said finds that it was enough."""


class Bucket:
    """:param rate: bytes a second; 0: no limit.

    It may be overdrawn by one message of any size, which is paid for before the next: so a message larger than the bucket
    goes too, and the mean over time is kept all the same.
    """

    def __init__(self, rate: float, now: float = 0.0) -> None:
        self.rate = rate
        self.burst = max(rate, LEAST_BURST)
        self._level = float(self.burst)
        self._at = now

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
            self._at = now

    def take(self, count: int, now: float) -> bool:
        """Whether that many bytes may go now; if so they are taken."""
        if not self.rate:
            return True
        self._refill(now)
        if self._level + ROUNDING < min(count, self.burst):
            return False
        self._level -= count
        return True

    def wait(self, count: int, now: float) -> float:
        """Seconds until that many bytes may go."""
        if not self.rate:
            return 0.0
        self._refill(now)
        return max(0.0, (min(count, self.burst) - self._level) / self.rate)
