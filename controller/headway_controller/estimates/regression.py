"""Ridge regression with forgetting, in the information form.

A ← λA + xxᵀ and c ← λc + xy are kept, and Aβ = c is solved when somebody asks after enough has changed. The covariance
form (recursive least squares) is cheaper by a constant but loses symmetry and diverges after about 30,000 updates; sums
of positive terms with forgetting cannot. Plain Python: the base install has no numpy, and with at most nine unknowns a
solve takes tens of microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

FORGETTING = 0.98
"""Half of what is known fades in 34 observations: a step of ×2.5 is learned within 100 to 300."""
INTERCEPT_RIDGE = 1e-6
SLOPE_RIDGE = 0.05
"""In observations: what a slope of zero weighs against the data."""


class Regression:
    """y ≈ β·x, where x[0] is always 1."""

    __slots__ = ("beta", "c", "matrix", "size", "weight")

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.matrix = [[0.0] * size for _ in range(size)]
        self.c = [0.0] * size
        self.beta = [0.0] * size
        self.weight = 0.0
        """Observations that are not forgotten yet."""

    def grow(self, size: int) -> None:
        """Room for more features; what was learned stays."""
        more = size - self.size
        for row in self.matrix:
            row.extend([0.0] * more)
        self.matrix.extend([0.0] * size for _ in range(more))
        self.c.extend([0.0] * more)
        self.beta.extend([0.0] * more)
        self.size = size

    def predict(self, x: Sequence[float]) -> float:
        if self.size == 1:
            return self.beta[0]
        return sum(map(float.__mul__, self.beta, x))

    def observe(self, x: Sequence[float], y: float, count: int = 1, forgetting: float = FORGETTING) -> None:
        """``count`` observations at the same ``x``, whose mean is ``y``."""
        if count == 1:
            keep, add = forgetting, 1.0
        else:
            keep = forgetting**count
            add = (1.0 - keep) / (1.0 - forgetting) if forgetting < 1.0 else float(count)
        self.weight = self.weight * keep + add
        matrix, c = self.matrix, self.c
        if self.size == 1:
            matrix[0][0] = matrix[0][0] * keep + add
            c[0] = c[0] * keep + add * y
            return
        for i, xi in enumerate(x):
            row, scaled = matrix[i], add * xi
            for j in range(i + 1):
                row[j] = row[j] * keep + scaled * x[j]
            c[i] = c[i] * keep + scaled * y

    def solve(self) -> None:
        """Bring ``beta`` up to date, by Cholesky's decomposition of the lower triangle that is kept."""
        if self.size == 1:
            self.beta[0] = self.c[0] / (self.matrix[0][0] + 1e-300)
            return
        size = self.size
        lower = [row[: i + 1] for i, row in enumerate(self.matrix)]
        for i in range(size):
            row = lower[i]
            row[i] += SLOPE_RIDGE if i else INTERCEPT_RIDGE
            for j in range(i + 1):
                other = lower[j]
                rest = row[j] - sum(row[k] * other[k] for k in range(j))
                row[j] = max(rest, 1e-9) ** 0.5 if i == j else rest / other[j]
        half: list[float] = []
        for i in range(size):
            row = lower[i]
            half.append((self.c[i] - sum(row[k] * half[k] for k in range(i))) / row[i])
        for i in range(size - 1, -1, -1):
            self.beta[i] = (half[i] - sum(lower[k][i] * self.beta[k] for k in range(i + 1, size))) / lower[i][i]

    def to_state(self) -> dict[str, object]:
        return {"matrix": [list(row) for row in self.matrix], "c": list(self.c), "weight": self.weight}

    @classmethod
    def from_state(cls, state: dict[str, object]) -> Regression:
        """Raises KeyError, TypeError or ValueError when the state is not one of :meth:`to_state`."""
        rows, c = state["matrix"], state["c"]
        if not isinstance(rows, list) or not isinstance(c, list) or len(rows) != len(c) or not c:
            raise ValueError("a regression needs a square matrix and a vector of the same size")
        made = cls(len(c))
        made.matrix = [[float(value) for value in row] for row in rows]
        made.c = [float(value) for value in c]
        made.weight = float(state["weight"])  # type: ignore[arg-type]
        if any(len(row) != made.size for row in made.matrix):
            raise ValueError("the matrix of a regression is not square")
        made.solve()
        return made
