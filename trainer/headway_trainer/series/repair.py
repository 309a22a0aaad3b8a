"""The defects of one series: found, treated as its policy says, and told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headway_trainer.errors import SeriesRefused
from headway_trainer.series.dates import Moments, Step, find_step, regular
from headway_trainer.series.record import CONSTANT, OK, REFUSED, SHORT, Array, Policies, Series

SHORTEST = 4
"""Points below which nothing can be validated: two to learn from, one to foretell, and one to compare directions."""


def repair(
    group: tuple[str, ...], times: Moments, numbers: Array, policies: Policies, step: Step | None = None
) -> Series:
    """A series that models can use, or one that is refused with its reason. Column 0 of ``numbers`` is the target."""
    key = str(group) if group else "[]"
    reasons: list[str] = []
    try:
        times, numbers = _sorted(times, numbers, reasons)
        times, numbers = _distinct(times, numbers, policies.duplicates, reasons)
        times, numbers = _known(times, numbers, policies.missing, reasons)
        step, times, numbers = _stepped(times, numbers, policies, step, reasons)
        status = _status(numbers[:, 0], policies.short, reasons)
    except SeriesRefused as refused:
        nothing = np.empty(0)
        return Series(key, group, times[:0], nothing, None, None, REFUSED, [*reasons, str(refused)])
    features = _features(numbers[:, 1:], reasons) if numbers.shape[1] > 1 else None
    return Series(key, group, times, np.ascontiguousarray(numbers[:, 0]), features, step, status, reasons)


def _refuse(reason: str) -> SeriesRefused:
    return SeriesRefused(REFUSED, reason)


def _sorted(times: Moments, numbers: Array, reasons: list[str]) -> tuple[Moments, Array]:
    if np.all(times[1:] >= times[:-1]):
        return times, numbers
    order = np.argsort(times, kind="stable")
    reasons.append("rows were not in order of time: sorted")
    return times[order], numbers[order]


def _distinct(times: Moments, numbers: Array, policy: str, reasons: list[str]) -> tuple[Moments, Array]:
    if np.all(times[1:] > times[:-1]):
        return times, numbers
    distinct, first, counts = np.unique(times, return_index=True, return_counts=True)
    told = (
        f"{len(times) - len(distinct)} more rows of moments that were there, first {_moment(distinct[counts > 1][0])}"
    )
    if policy == "refuse":
        raise _refuse(f"{told}; the policy refuses duplicates")
    reasons.append(f"{told}: {policy} taken")
    if policy in ("first", "last"):
        return distinct, numbers[first if policy == "first" else first + counts - 1]
    joined = np.stack([_joined(numbers[at : at + count], policy) for at, count in zip(first, counts, strict=True)])
    return distinct, joined


def _joined(rows: Array, policy: str) -> Array:
    """Mean or sum of the known values of each column; unknown if none is known."""
    known = np.isfinite(rows)
    total = np.where(known, rows, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    divided = total / np.maximum(count, 1) if policy == "mean" else total
    joined: Array = np.where(count > 0, divided, np.nan)
    return joined


def _known(times: Moments, numbers: Array, policy: str, reasons: list[str]) -> tuple[Moments, Array]:
    """Unknown targets: those at the ends are cut, since nothing says what they were; those between are treated."""
    target = numbers[:, 0]
    if np.isinf(target).any():
        reasons.append(f"{int(np.isinf(target).sum())} infinite values: taken as missing")
    known = np.isfinite(target)
    if not known.any():
        raise _refuse("no value of the target is known")
    first, last = np.flatnonzero(known)[[0, -1]]
    cut = len(target) - (last - first + 1)
    if cut:
        reasons.append(f"{cut} missing values at the ends: cut off")
    times, numbers, known = times[first : last + 1], numbers[first : last + 1].copy(), known[first : last + 1]
    if known.all():
        return times, numbers
    told = f"{int((~known).sum())} missing values, first {_moment(times[~known][0])}"
    if policy == "refuse":
        raise _refuse(f"{told}; the policy refuses missing values")
    reasons.append(f"{told}: {policy}")
    if policy == "drop":
        return times[known], numbers[known]
    numbers[:, 0] = _filled(times, numbers[:, 0], known, policy)
    return times, numbers


def _filled(times: Moments, target: Array, known: NDArray[np.bool_], policy: str) -> Array:
    if policy == "zero":
        return np.where(known, target, 0.0)
    seconds = times.astype("datetime64[s]").astype(np.int64).astype(np.float64)
    return np.where(known, target, np.interp(seconds, seconds[known], target[known]))


def _stepped(
    times: Moments, numbers: Array, policies: Policies, given: Step | None, reasons: list[str]
) -> tuple[Step | None, Moments, Array]:
    step = given or find_step(times)
    if len(times) < 2:
        return step, times, numbers
    position = step.position(times) if step else None
    if step is None or position is None or np.any(np.diff(position) < 1):
        return _irregular(times, numbers, policies.irregular, reasons)
    missing = int(position[-1]) + 1 - len(times)
    if not missing or policies.gaps == "ignore":
        reasons += [f"{missing} moments are missing: ignored"] if missing else []
        return step, times, numbers
    told = f"{missing} moments are missing"
    if policies.gaps == "refuse":
        raise _refuse(f"{told}; the policy refuses gaps")
    if missing > 10 * len(times):
        raise _refuse(f"{told} between {len(times)} points: too many to fill; give a frequency or ignore gaps")
    reasons.append(f"{told}: {policies.gaps}")
    moments = regular(times, step)
    moments[position] = times
    filled = np.full((len(moments), numbers.shape[1]), np.nan)
    filled[position] = numbers
    there = np.zeros(len(moments), dtype=np.bool_)
    there[position] = True
    filled[:, 0] = _filled(moments, filled[:, 0], there, policies.gaps)
    return step, moments, filled


def _irregular(times: Moments, numbers: Array, policy: str, reasons: list[str]) -> tuple[Step | None, Moments, Array]:
    if policy == "refuse":
        raise _refuse("the moments have no step in common; the policy refuses irregular series")
    median = int(np.median(np.diff(times).astype("timedelta64[s]").astype(np.int64)))
    reasons.append(f"the moments have no step in common: taken in order, forecasts {median} s apart")
    return Step(seconds=median), times, numbers


def _status(target: Array, short: str, reasons: list[str]) -> str:
    if len(target) < SHORTEST:
        told = f"{len(target)} points are too few to validate a model"
        if short == "refuse":
            raise _refuse(told)
        reasons.append(f"{told}: the last value is forecast")
        return SHORT
    if target.min() == target.max():
        reasons.append(f"all values are {target[0]:g}")
        return CONSTANT
    return OK


def _features(features: Array, reasons: list[str]) -> Array:
    """Unknown features take the last known value: a later one was not known then. 0 where there is none before."""
    known = np.isfinite(features)
    if known.all():
        return features
    reasons.append(f"{int((~known).sum())} missing values of features: the last known value taken, 0 before the first")
    rows = np.where(known, np.arange(len(features))[:, None], -1)
    latest = np.maximum.accumulate(rows, axis=0)
    taken = np.take_along_axis(features, np.maximum(latest, 0), axis=0)
    filled: Array = np.where(latest >= 0, taken, 0.0)
    return filled


def _moment(moment: np.datetime64) -> str:
    return str(moment).replace("T00:00:00", "").replace("T", " ")
