"""What is known of one kind of task: the regression of its log time on the numbers in ``meta``, and the residuals.

    time = exp(β·x) · R / speed of the runtime,   x = [1, log1p a, 0.1·log1p² a, log1p b, …]

Logarithms, because times are positive and errors are factors; the square, because few times follow one power exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from headway_controller.estimates.meta import logarithm
from headway_controller.estimates.regression import Regression
from headway_controller.estimates.residuals import Residuals

MAX_FEATURES = 4
"""Numbers of ``meta`` that a model looks at, those met most often: fifty observations can bear nine unknowns."""
MAX_COUNTED = 64
KNOWN_AFTER = 3
"""Observations until an estimate is more than a guess."""
SOLVE_EVERY = 8
SHORTEST, LONGEST = 1e-6, 3.2e8
"""Seconds that are believed: a microsecond to ten years."""
LOG_LIMITS = (math.log(SHORTEST), math.log(LONGEST))
BATCH_WEIGHT = 16
"""A batch from one runtime counts as at most so many observations: it must not wipe out what the others showed."""


class Model:
    """``version`` changes whenever predictions may have changed."""

    __slots__ = (
        "_counts",
        "_pending",
        "_solved",
        "features",
        "observations",
        "regression",
        "residuals",
        "square",
        "version",
    )

    def __init__(self) -> None:
        self.features: list[str] = []
        self.regression = Regression()
        self.residuals = Residuals()
        self.observations = 0
        self.square = 1.0
        """The running mean of the squared residual of log time."""
        self.version = 0
        self._pending = 0
        self._solved = 0
        """The observations when it was solved last."""
        self._counts: dict[str, int] = {}

    @property
    def known(self) -> bool:
        return self.observations >= KNOWN_AFTER

    @property
    def spread(self) -> float:
        """The standard deviation of log time around the prediction."""
        return math.sqrt(self.square)

    def vector(self, numbers: Sequence[tuple[str, float]]) -> list[float]:
        """The features of a task whose numbers are these."""
        x = [1.0] + [0.0] * (2 * len(self.features))
        if self.features:
            for name, value in numbers:
                if name in self.features:
                    at = 2 * self.features.index(name) + 1
                    log = logarithm(value)
                    x[at] = log
                    x[at + 1] = 0.1 * log * log
        return x

    def log_scale(self, x: Sequence[float]) -> float:
        """log of the time at speed 1, without the residual. A vector made before a feature was added is too short."""
        value = self.regression.predict(x)
        return min(max(value, LOG_LIMITS[0]), LOG_LIMITS[1])

    def observe(self, numbers: Sequence[tuple[str, float]], logs: Sequence[float], log_speed: float) -> float:
        """Fold in log seconds at one runtime. Returns the mean of log(seen / expected there), for its speed."""
        if numbers:
            self._meet(numbers, len(logs))
        x = self.vector(numbers)
        count = len(logs)
        known = self.known
        mean = logs[0] if count == 1 else sum(logs) / count
        # The first have nothing to be compared with but themselves.
        expected = self.log_scale(x) if self.observations else mean + log_speed
        shift = expected - log_speed
        residual = mean - shift
        self.residuals.observe_logs([log - shift for log in logs] if known or count > 1 else ())
        if self.observations:
            gain = max(0.01, 1.0 / (self.observations + 2.0))
            self.square += gain * (min(residual * residual, 25.0) - self.square)
        self.regression.observe(x, mean + log_speed, min(count, BATCH_WEIGHT))
        self.observations += count
        self._pending += 1
        if self._pending >= SOLVE_EVERY or self.observations < 4 * SOLVE_EVERY or self.observations >= 2 * self._solved:
            self.solve()
        return residual if known else 0.0

    def solve(self) -> None:
        self.regression.solve()
        self.residuals.refresh()
        self._pending = 0
        self._solved = self.observations
        self.version += 1

    def _meet(self, numbers: Sequence[tuple[str, float]], count: int) -> None:
        """Choose the features: the numbers met most often, in the order in which room was found for them."""
        counts = self._counts
        for name, _ in numbers:
            if name in counts:
                counts[name] += count
            elif len(counts) < MAX_COUNTED:
                counts[name] = count
            if name not in self.features:
                self._admit(name)

    def _admit(self, name: str) -> None:
        if len(self.features) < MAX_FEATURES:
            self.features.append(name)
            self.regression.grow(1 + 2 * len(self.features))
            return
        counts = self._counts
        rarest = min(self.features, key=lambda feature: counts.get(feature, 0))
        if counts.get(name, 0) > 2 * counts.get(rarest, 0) + 50:
            at = self.features.index(rarest)
            self.features[at] = name
            self._forget_slope(2 * at + 1)
            self._forget_slope(2 * at + 2)

    def _forget_slope(self, at: int) -> None:
        regression = self.regression
        regression.c[at] = regression.beta[at] = 0.0
        for i in range(regression.size):
            regression.matrix[i][at] = regression.matrix[at][i] = 0.0

    def to_state(self) -> dict[str, object]:
        return {
            "features": list(self.features),
            "regression": self.regression.to_state(),
            "residuals": self.residuals.to_state(),
            "observations": self.observations,
            "square": self.square,
        }

    @classmethod
    def from_state(cls, state: dict[str, object]) -> Model:
        """Raises KeyError, TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        features, regression, residuals = state["features"], state["regression"], state["residuals"]
        if not isinstance(features, list) or not isinstance(regression, dict) or not isinstance(residuals, dict):
            raise TypeError("a model is stored as a list of features and two maps")
        made.features = [str(name) for name in features][:MAX_FEATURES]
        made._counts = dict.fromkeys(made.features, 1)
        made.regression = Regression.from_state(regression)
        made.residuals = Residuals.from_state(residuals)
        made.observations = int(state["observations"])  # type: ignore[call-overload]
        made.square = float(state["square"])  # type: ignore[arg-type]
        if made.regression.size != 1 + 2 * len(made.features):
            raise ValueError("the regression of a model does not fit its features")
        return made
