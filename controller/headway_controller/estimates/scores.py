"""How well estimates held: the program scores itself, per target and overall, over a window that fades."""

from __future__ import annotations

from typing import Any

WINDOW = 1000
"""Observations after which one counts 1/e."""
OVERALL = ""
WAITED = "*"
"""The name of the row of those alone that could not start at once: the others are easily told."""
MAX_TARGETS = 1000


class Score:
    """Fading means over one target's estimates."""

    __slots__ = ("absolute", "bias", "covered50", "covered90", "seen", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.covered50 = 0.0
        self.covered90 = 0.0
        self.bias = 0.0
        self.absolute = 0.0
        self.seen = 0.0

    def observe(self, seen: float, expectation: float, p50: float, p90: float) -> None:
        self.weight = min(self.weight + 1.0, WINDOW)
        gain = 1.0 / self.weight
        self.covered50 += gain * ((seen <= p50) - self.covered50)
        self.covered90 += gain * ((seen <= p90) - self.covered90)
        self.bias += gain * (expectation - seen - self.bias)
        self.absolute += gain * (abs(expectation - seen) - self.absolute)
        self.seen += gain * (seen - self.seen)

    def as_dict(self) -> dict[str, float]:
        """Shares between 0 and 1; ``bias`` (above 0: said too long), ``error`` and ``mean`` in seconds."""
        return {
            "count": self.weight,
            "p50": self.covered50,
            "p90": self.covered90,
            "bias": self.bias,
            "error": self.absolute,
            "mean": self.seen,
        }


class Scores:
    """One :class:`Score` per target, and under the names above one for all, and one for all that had to wait."""

    __slots__ = ("_by_target",)

    def __init__(self) -> None:
        self._by_target: dict[str, Score] = {OVERALL: Score(), WAITED: Score()}

    def observe(
        self, target: str, seen: float, expectation: float, p50: float, p90: float, immediate: bool = False
    ) -> None:
        """Seconds that something took, and what had been said of it."""
        self._by_target[OVERALL].observe(seen, expectation, p50, p90)
        if not immediate:
            self._by_target[WAITED].observe(seen, expectation, p50, p90)
        score = self._by_target.get(target)
        if score is None:
            if len(self._by_target) > MAX_TARGETS:
                return
            score = self._by_target[target] = Score()
        score.observe(seen, expectation, p50, p90)

    def as_dict(self) -> dict[str, dict[str, float]]:
        return {target: score.as_dict() for target, score in self._by_target.items() if score.weight}

    def to_state(self) -> dict[str, Any]:
        return {
            target: [s.weight, s.covered50, s.covered90, s.bias, s.absolute, s.seen]
            for target, s in self._by_target.items()
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Scores:
        """Raises TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        for target, values in state.items():
            s = made._by_target.setdefault(str(target), Score())
            s.weight, s.covered50, s.covered90, s.bias, s.absolute, s.seen = (float(value) for value in values)
        return made
