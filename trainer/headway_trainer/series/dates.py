"""Text to moments, and the step from one moment of a series to the next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from headway_trainer.errors import TrainerError

Moments = NDArray[np.datetime64]
SECONDS = {"s": 1, "min": 60, "h": 3600, "D": 86_400, "W": 604_800}
YEAR = 12
MONTHS = {"M": 1, "Q": 3, "Y": YEAR}
SHORTEST_MONTH = 28 * SECONDS["D"]

US_DATES = "%m/%d/%Y"
"""The one form of dates that the older trainer read; its calls try it where dates are not ISO."""


def parse_date(text: str, date_format: str = "") -> np.datetime64:
    """A moment, in seconds. A zone, if there is one, is turned into UTC. Raises ValueError."""
    moment = datetime.strptime(text, date_format) if date_format else datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment.replace(microsecond=0), "s")


@dataclass(frozen=True)
class Step:
    """The distance of two points: some seconds, or some months, which have no fixed length."""

    seconds: int = 0
    months: int = 0

    def after(self, last: np.datetime64, count: int) -> Moments:
        """The next ``count`` moments. Months keep the day, or the end of the month where they begin at one."""
        ahead = np.arange(1, count + 1)
        if not self.months:
            fixed: Moments = last.astype("datetime64[s]") + (ahead * self.seconds).astype("timedelta64[s]")
            return fixed
        month = last.astype("datetime64[M]")
        day = last.astype("datetime64[D]") - month.astype("datetime64[D]")
        at_end = (last.astype("datetime64[D]") + np.timedelta64(1, "D")).astype("datetime64[M]") != month
        months = month + (ahead * self.months).astype("timedelta64[M]")
        lengths = (months + np.timedelta64(1, "M")).astype("datetime64[D]") - months.astype("datetime64[D]")
        last_days = lengths - np.timedelta64(1, "D")
        days = last_days if at_end else np.minimum(day, last_days)
        clock = last.astype("datetime64[s]") - last.astype("datetime64[D]").astype("datetime64[s]")
        moments: Moments = (months.astype("datetime64[D]") + days).astype("datetime64[s]") + clock
        return moments

    @property
    def season(self) -> int:
        """Steps in the season that such a series is looked at for: the year of months and quarters, the day of hours, else 1.

        These are the seasons of the M4 competition: S. Makridakis et al., "The M4 Competition", IJF 36 (2020).
        """
        if self.months:
            return YEAR // self.months if not YEAR % self.months else 1
        return (
            SECONDS["D"] // self.seconds if not self.seconds % SECONDS["h"] and not SECONDS["D"] % self.seconds else 1
        )

    def position(self, times: Moments) -> NDArray[np.int64] | None:
        """How many steps each moment is after the first; None if one lies between two steps."""
        if self.months:
            distance = (times.astype("datetime64[M]") - times[0].astype("datetime64[M]")).astype(np.int64)
            unit = self.months
        else:
            distance = (times - times[0]).astype("timedelta64[s]").astype(np.int64)
            unit = self.seconds
        return None if np.any(distance % unit) else distance // unit


def parse_frequency(text: str, place: str = "frequency") -> Step:
    """``D``, ``15min``, ``h``, ``W``, ``M``, ``Q``, ``Y``, each with a count before it if wanted."""
    found = re.fullmatch(r"(\d*)(s|min|h|D|W|M|Q|Y)", text)
    count = int(found[1] or 1) if found else 0
    if not found or not count:
        raise TrainerError(f"{place}: {text!r} is not a step; expected s, min, h, D, W, M, Q or Y, as in D or 15min")
    return Step(seconds=SECONDS.get(found[2], 0) * count, months=MONTHS.get(found[2], 0) * count)


def find_step(times: Moments) -> Step | None:
    """The step of sorted, distinct moments, of which some may be missing. None if they have no step in common.

    The commonest distance is the step if all others are multiples of it. Months are looked for first where all moments
    lie at the same day, or all at the end of a month: their distances in seconds differ.
    """
    if len(times) < 2:
        return None
    distances = np.diff(times).astype("timedelta64[s]").astype(np.int64)
    if distances.min() == distances.max() < SHORTEST_MONTH:
        return Step(seconds=int(distances[0]))
    months = _month_step(times)
    if months:
        return Step(months=months)
    values, counts = np.unique(distances, return_counts=True)
    commonest = int(values[np.argmax(counts)])
    return Step(seconds=commonest) if not np.any(distances % commonest) else None


def _month_step(times: Moments) -> int:
    dates = times.astype("datetime64[D]")
    first = times.astype("datetime64[M]").astype("datetime64[D]")
    at_ends = np.all((dates + np.timedelta64(1, "D")).astype("datetime64[M]") != times.astype("datetime64[M]"))
    if len(np.unique(dates - first)) > 1 and not at_ends:
        return 0
    distances = np.diff(times.astype("datetime64[M]")).astype(np.int64)
    if distances.min() < 1:
        return 0
    values, counts = np.unique(distances, return_counts=True)
    commonest = int(values[np.argmax(counts)])
    return 0 if np.any(distances % commonest) else commonest


def regular(times: Moments, step: Step) -> Moments:
    """Every moment from the first to the last."""
    position = step.position(times)
    if position is None:
        raise ValueError("the moments do not lie on the step")
    return np.concatenate([times[:1], step.after(times[0], int(position[-1]))])


def parse_all(texts: Sequence[str], date_format: str) -> tuple[Moments, list[int]]:
    """Each text's moment, and the indexes of those that are none."""
    if not date_format and (usual := _usual(texts)) is not None:
        return usual, []
    moments, wrong = np.empty(len(texts), dtype="datetime64[s]"), []
    for index, text in enumerate(texts):
        try:
            moments[index] = parse_date(text, date_format)
        except ValueError:
            moments[index] = np.datetime64("NaT")
            wrong.append(index)
    return moments, wrong


USUAL = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?")


def _usual(texts: Sequence[str]) -> Moments | None:
    """All moments at once, ten times as fast, if all are of the usual forms of ISO 8601, without zone or fraction."""
    if not all(map(USUAL.fullmatch, texts)):
        return None
    try:
        return np.array(texts, dtype="datetime64[s]")
    except ValueError:
        return None
