"""The demo's outcome beside the published one.

The published means are those of the M4 competition's "Evaluation and Ranks" for the weekly series
(https://github.com/Mcompetitions/M4-methods); ours come from an independent optimiser, hence the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PUBLISHED = {"Naive": (9.161, 2.777), "SES": (9.012, 2.685), "Theta": (9.093, 2.637)}
"""sMAPE in percent and MASE, by method."""

TOLERANCE = 0.003


@dataclass(frozen=True)
class Row:
    """One method: the means over all series, and what was published."""

    method: str
    smape: float
    mase: float
    published_smape: float
    published_mase: float

    @property
    def agrees(self) -> bool:
        """Whether both means are within the tolerance; never with a mean that is not a number."""
        return _near(self.smape, self.published_smape) and _near(self.mase, self.published_mase)


def table(scores: Mapping[str, Sequence[Sequence[float]]]) -> list[Row]:
    """A row per method from its [sMAPE, MASE] pairs; a method without any pair has means that are not numbers."""
    rows = []
    for method, (smape, mase) in PUBLISHED.items():
        pairs = scores.get(method, ())
        rows.append(Row(method, _mean([pair[0] for pair in pairs]), _mean([pair[1] for pair in pairs]), smape, mase))
    return rows


def _near(value: float, published: float) -> bool:
    return math.isfinite(value) and abs(value - published) <= TOLERANCE


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
