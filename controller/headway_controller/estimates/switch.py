"""Which predictor is in use: the learned one, or one chosen by name that is set aside the moment it raises.

The learned predictor goes on learning behind any other, so that it knows its trade when it has to take over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headway_controller.estimates.meta import Cleaned
from headway_controller.estimates.predictor import LearnedPredictor, Prediction, Predictor

DEFAULT = "learned"
FRESH = 64
"""Questions that one answer of a plain predictor serves before it is asked again."""


class PredictorSwitch:
    """``failed(name, text)`` is told when a predictor is set aside."""

    def __init__(self, learned: LearnedPredictor, failed: Callable[[str, str], None]) -> None:
        self.learned = learned
        self.name = DEFAULT
        self.other: Predictor | None = None
        self._failed = failed

    def use(self, name: str, predictor: Predictor | None) -> None:
        """From now on this one; None: the learned one, which is the only one known by its name alone.

        Raises ValueError for another name without a predictor.
        """
        if predictor is None and name not in ("", DEFAULT):
            raise ValueError(f"no predictor {name!r}; expected {DEFAULT!r}")
        self.name, self.other = (name, predictor) if predictor is not None else (DEFAULT, None)

    def prepare(self, target: str, meta: Mapping[str, Any], cleaned: Cleaned) -> Prediction | PlainPrediction:
        """What is expected of tasks of that target and ``meta``, which is also given in its clean form."""
        prediction = self.learned.prepare_cleaned(target, cleaned)
        return prediction if self.other is None else PlainPrediction(self, prediction, target, meta)

    def set_aside(self, error: Exception) -> None:
        name, self.name, self.other = self.name, DEFAULT, None
        self._failed(name, f"it raised {type(error).__name__}: {str(error)[:500]}; the learned one goes on")


class PlainPrediction:
    """A :class:`Prediction` made of the answers of somebody's :class:`Predictor`, asked rarely and believed cautiously."""

    __slots__ = ("_asked", "_behind", "_estimate", "_meta", "_switch", "doubt", "known", "mean", "target", "variance")

    def __init__(self, switch: PredictorSwitch, behind: Prediction, target: str, meta: Mapping[str, Any]) -> None:
        self._switch = switch
        self._behind = behind
        self._meta = meta
        self.target = target
        self._asked = 0
        self._estimate: Any = None
        self.mean, self.variance, self.known = behind.mean, behind.variance, behind.known
        self.doubt = behind.doubt
        self.refresh()

    def refresh(self) -> None:
        self._asked -= 1
        if self._asked > 0:
            return
        self._asked = FRESH
        self._behind.refresh()
        other = self._switch.other
        self._estimate = None
        if other is not None:
            try:
                estimate = other.predict(self.target, self._meta, "")
                mean, error = float(estimate.expectation), float(estimate.error)
                if not (math.isfinite(mean) and math.isfinite(error) and mean >= 0.0 and error >= 0.0):
                    raise ValueError(f"an expectation of {mean} ± {error} seconds")
                self.mean, self.variance, self.known = mean, error * error, bool(estimate.known)
                self.doubt = 0.0  # it states its error for each task; what it says of all is taken at its word
                self._estimate = estimate
                return
            except Exception as error:  # a user's code; whatever it raises must not stop placement
                self._switch.set_aside(error)
        self.mean, self.variance, self.known = self._behind.mean, self._behind.variance, self._behind.known
        self.doubt = self._behind.doubt

    def remaining(self, age: float) -> tuple[float, float]:
        other = self._switch.other
        if other is None or self._estimate is None:
            return self._behind.remaining(age)
        try:
            left = other.remaining(self._estimate, max(age, 0.0))
            mean, error = float(left.expectation), float(left.error)
        except Exception as error_raised:  # see above
            self._switch.set_aside(error_raised)
            return self._behind.remaining(age)
        if not (math.isfinite(mean) and math.isfinite(error)):
            return self._behind.remaining(age)
        return max(mean, 0.0), error * error

    def quantile(self, p: float, age: float = 0.0) -> float:
        if self._switch.other is None or self._estimate is None:
            return self._behind.quantile(p, age)
        try:
            return max(float(self._estimate.quantile(p)), age)
        except Exception as error:  # see above
            self._switch.set_aside(error)
            return self._behind.quantile(p, age)

    def observe_many(self, runtime: str, durations: Sequence[float]) -> None:
        self._behind.observe_many(runtime, durations)
        other = self._switch.other
        if other is None:
            return
        try:
            for seconds in durations:
                other.observe(self.target, self._meta, runtime, seconds)
        except Exception as error:  # see above
            self._switch.set_aside(error)
