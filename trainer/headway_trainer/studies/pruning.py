"""Which trials are stopped early, by the values that they report while they run. Pure: reports in, a verdict out.

Two rules. *median*: D. Golovin et al., "Google Vizier: a service for black-box optimization" (KDD 2017), section 3.2.1: a
trial is stopped at a step if its best value so far is worse than the median of what the finished trials had on average up
to that step. *asha*: L. Li et al., "A system for massively parallel hyperparameter tuning" (MLSys 2020), in the form that
stops instead of pausing: at each rung, a step that is ``factor`` times the one before, only the best ``1/factor`` of those
that have come so far go on.

Who a trial is compared with is not decided here but by the study: in batch mode only with trials of earlier batches,
because their values do not depend on who ran first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from headway_trainer.errors import TrainerError, UnknownName

MEDIAN, ASHA = "median", "asha"
RULES = (MEDIAN, ASHA)
Reports = Mapping[int, float]
"""What one trial has reported: values by step; lower is better, and what is not a number is infinitely bad."""


@dataclass(frozen=True)
class Rival:
    """Another trial. ``finished``: it ran to its end, and was not stopped.

    ``means``: what :meth:`mean` found of a finished one, whose reports stay as they are; kept by whoever keeps these.
    """

    reports: Reports
    finished: bool
    means: dict[int, float | None] = field(default_factory=dict)

    def mean(self, step: int) -> float | None:
        """Of its reports up to a step; None if there are none."""
        if not self.finished:
            return _mean(self.reports, step)
        if step not in self.means:
            self.means[step] = _mean(self.reports, step)
        return self.means[step]


class Rule(Protocol):
    """``plain()`` is what :func:`parse_pruning` reads back."""

    def is_loser(self, reports: Reports, step: int, rivals: Iterable[Rival]) -> bool:
        """Whether a trial that has just reported at ``step`` is to be stopped."""

    def plain(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Median:
    """``startup``: finished trials before anything is stopped. ``warmup``: steps below this are let pass."""

    startup: int = 5
    warmup: int = 0

    def is_loser(self, reports: Reports, step: int, rivals: Iterable[Rival]) -> bool:
        if step < self.warmup:
            return False
        averages = [mean for rival in rivals if rival.finished and (mean := rival.mean(step)) is not None]
        if len(averages) < max(self.startup, 1):
            return False
        best = min((value for at, value in reports.items() if at <= step), default=math.inf)
        return best > statistics.median(averages)

    def plain(self) -> dict[str, Any]:
        return {"rule": MEDIAN, "startup": self.startup, "warmup": self.warmup}


@dataclass(frozen=True)
class Asha:
    """``first``: the step of the first rung. ``factor``: how many times further each next one is, and who goes on: 1 in so
    many. Until ``factor`` trials have come to a rung, all go on from it."""

    first: int = 1
    factor: int = 3

    def is_loser(self, reports: Reports, step: int, rivals: Iterable[Rival]) -> bool:
        rung = self._reached(reports, step)
        if rung is None:
            return False
        others = [value for rival in rivals if (value := _value_at(rival.reports, rung)) is not None]
        better = sum(value < reports[step] for value in others)
        promoted = (len(others) + 1) // self.factor
        return promoted > 0 and better >= promoted

    def _reached(self, reports: Reports, step: int) -> int | None:
        """The highest rung to which this step has brought it; None if an earlier step had done so, or none has."""
        before = max((at for at in reports if at < step), default=-1)
        rung, found = self.first, None
        while rung <= step:
            found = rung if rung > before else found
            rung *= self.factor
        return found

    def plain(self) -> dict[str, Any]:
        return {"rule": ASHA, "first": self.first, "factor": self.factor}


def _mean(reports: Reports, step: int) -> float | None:
    seen = [value for at, value in reports.items() if at <= step]
    return statistics.fmean(seen) if seen else None


def _value_at(reports: Reports, rung: int) -> float | None:
    """What a trial had when it came to the rung: its first report at or beyond it."""
    beyond = [at for at in reports if at >= rung]
    return reports[min(beyond)] if beyond else None


_LEAST = {"startup": 1, "warmup": 0, "first": 1, "factor": 2}


def parse_pruning(given: Any, place: str = "pruning") -> Rule | None:
    """``None``, ``"median"``, ``"asha"``, or a dict with ``rule`` and its settings. Raises TrainerError naming the place."""
    if given is None or isinstance(given, (Median, Asha)):
        return given
    settings = dict(given) if isinstance(given, Mapping) else {"rule": given}
    rule = settings.pop("rule", None)
    if rule not in RULES:
        raise UnknownName(place, "rule", rule, RULES)
    kind = Median if rule == MEDIAN else Asha
    known = kind.__dataclass_fields__
    for name, value in settings.items():
        if name not in known:
            raise UnknownName(f"{place}.{rule}", "setting", name, known)
        if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[name]:
            raise TrainerError(f"{place}.{name}: {value!r}; expected a whole number of at least {_LEAST[name]}")
    return kind(**settings)
