"""A series, the columns it comes from, and what is to be done with its defects."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from headway_trainer.errors import TrainerError
from headway_trainer.series.dates import Step

Array = NDArray[np.float64]
Moments = NDArray[np.datetime64]
Column = int | str

OK, SHORT, CONSTANT, REFUSED = "ok", "short", "constant", "refused"


@dataclass(frozen=True)
class Columns:
    """Columns of the file, each by its index from 0 or its name. ``date_format``: as of strptime; empty: ISO 8601."""

    target: Column
    time: Column
    group: tuple[Column, ...] = ()
    features: tuple[Column, ...] = ()
    date_format: str = ""
    frequency: str = ""


@dataclass(frozen=True)
class Policies:
    """What is done about each defect; ``refuse`` leaves the series out, with the reason in its row.

    ``duplicates``: several rows of one moment. ``missing``: no or an infinite value between known ones. ``gaps``: moments
    that the step leads one to expect and that are not there. ``irregular``: no step at all; ``order`` takes the points in
    their order and dates forecasts by the median distance. ``short``: too few to validate.
    """

    duplicates: str = "mean"
    missing: str = "interpolate"
    gaps: str = "interpolate"
    irregular: str = "order"
    short: str = "naive"

    ALLOWED: ClassVar[dict[str, tuple[str, ...]]] = {
        "duplicates": ("mean", "sum", "first", "last", "refuse"),
        "missing": ("interpolate", "zero", "drop", "refuse"),
        "gaps": ("interpolate", "zero", "ignore", "refuse"),
        "irregular": ("order", "refuse"),
        "short": ("naive", "refuse"),
    }

    def __post_init__(self) -> None:
        for one in fields(self):
            value, allowed = getattr(self, one.name), self.ALLOWED[one.name]
            if value not in allowed:
                raise TrainerError(f"policy {one.name}: {value!r} is none of {', '.join(allowed)}")


@dataclass(frozen=True)
class Series:
    """One series, sorted by time, all values finite. A refused one has a ``status`` and ``reasons`` and no values.

    ``key``: the group's values exactly as in the file, as the text of a tuple; ``[]`` if there is no group. ``features``:
    a row for each value. ``reasons``: a sentence for each defect and what was done about it.
    """

    key: str
    group: tuple[str, ...]
    times: Moments
    values: Array
    features: Array | None
    step: Step | None
    status: str = OK
    reasons: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The key as people read it."""
        return "/".join(self.group) or "all"

    def future(self, horizon: int) -> list[str]:
        """The next ``horizon`` moments after the last point, as text."""
        if self.step is None or not len(self.times):
            return [f"+{ahead}" for ahead in range(1, horizon + 1)]
        return [str(moment).replace("T", " ") for moment in self.step.after(self.times[-1], horizon)]
