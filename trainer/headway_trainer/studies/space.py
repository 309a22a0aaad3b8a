"""The normal form of a search space: dimensions, each with bounds or options, options with dimensions of their own.

A point is a dict of values by name. An option with a space of its own gives ``{"name": option, **its values}``. The *raw*
point is flat, numbers only: by the path of each active dimension its number, the index for options and steps. Engines
and logs keep the raw one, because it goes both ways exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Raw = dict[str, float]
Values = dict[str, Any]

HALF = 0.499999
"""What a whole number reaches to each side when it is drawn as a rounded real one: 0.5 would round to even beyond."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; in ``step``s from ``low`` if there is one."""

    low: float
    high: float
    whole: bool = False
    step: float | None = None
    log: bool = False

    @property
    def count(self) -> int | None:
        """How many values there are; None: infinitely many."""
        step = self.step or (1 if self.whole else None)
        return None if step is None else math.floor((self.high - self.low) / step * (1 + 1e-12)) + 1

    def value(self, raw: float) -> float | int:
        """A stepped dimension's raw number is its index; a whole one's is rounded and clipped."""
        if self.step is not None:
            value = min(self.low + self.step * round(raw), self.high)
            return round(value) if self.whole else value
        return int(min(max(round(raw), self.low), self.high)) if self.whole else min(max(raw, self.low), self.high)

    def draw(self, random: np.random.Generator) -> float:
        if self.step is not None:
            return float(random.integers(self.count or 1))
        low, high = (self.low - HALF, self.high + HALF) if self.whole else (self.low, self.high)
        return math.exp(random.uniform(math.log(low), math.log(high))) if self.log else random.uniform(low, high)

    def raws(self) -> list[float]:
        return [float(index) if self.step is not None else self.low + index for index in range(self.count or 0)]

    def plain(self) -> dict[str, Any]:
        step = {} if self.step is None else {"step": self.step}
        kind = "int" if self.whole else "float"
        return {"type": kind, "low": self.low, "high": self.high, **step, **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class Normal:
    """Numbers around ``mean``; clipped to ``low`` and ``high`` where they are given."""

    mean: float
    deviation: float
    whole: bool = False
    low: float = -math.inf
    high: float = math.inf
    count = None

    def value(self, raw: float) -> float | int:
        value = min(max(raw, self.low), self.high)
        return round(value) if self.whole else value

    def draw(self, random: np.random.Generator) -> float:
        return random.normal(self.mean, self.deviation)

    def raws(self) -> list[float]:
        return []

    def plain(self) -> dict[str, Any]:
        bounds = {key: value for key, value in (("low", self.low), ("high", self.high)) if math.isfinite(value)}
        kind = "int" if self.whole else "float"
        return {"type": kind, "distribution": "normal", "mean": self.mean, "std": self.deviation, **bounds}


@dataclass(frozen=True)
class Option:
    """One value of a choice. ``space``: what is searched only if this one is taken."""

    value: Any
    space: Space | None = None

    def plain(self) -> Any:
        return self.value if self.space is None else {"name": self.value, "space": self.space.plain()}


@dataclass(frozen=True)
class Choice:
    """One of several options."""

    options: tuple[Option, ...]

    def plain(self) -> dict[str, Any]:
        return {"choice": [option.plain() for option in self.options]}


@dataclass(frozen=True)
class Fixed:
    """A value that is not searched."""

    value: Any

    def plain(self) -> dict[str, Any]:
        return {"value": self.value}


Dimension = Range | Normal | Choice | Fixed


@dataclass(frozen=True)
class Space:
    """Dimensions by name. ``parse_space`` makes one."""

    dimensions: dict[str, Dimension]

    def plain(self) -> dict[str, Any]:
        """Plain data that ``parse_space`` reads back as the same space."""
        return {name: dimension.plain() for name, dimension in self.dimensions.items()}

    def values(self, raw: Raw, path: str = "") -> Values:
        """The point that a raw one means: ints as ints, options as their values."""
        return {name: _value(dimension, raw, path + name) for name, dimension in self.dimensions.items()}

    def draw(self, random: np.random.Generator, path: str = "") -> Raw:
        """A raw point at random."""
        raw: Raw = {}
        for name, dimension in self.dimensions.items():
            here = path + name
            if isinstance(dimension, Choice):
                index = int(random.integers(len(dimension.options)))
                raw[here] = float(index)
                inner = dimension.options[index].space
                raw |= inner.draw(random, inner_path(here, index)) if inner else {}
            elif not isinstance(dimension, Fixed):
                raw[here] = dimension.draw(random)
        return raw

    @property
    def size(self) -> int | None:
        """How many points there are; None: infinitely many."""
        total = 1
        for dimension in self.dimensions.values():
            count = _size(dimension)
            if count is None:
                return None
            total *= count
        return total

    def points(self, path: str = "") -> Iterator[Raw]:
        """Every raw point of a finite space, in order of the dimensions."""
        axes = [list(_points(dimension, path + name)) for name, dimension in self.dimensions.items()]
        for parts in itertools.product(*axes):
            yield {key: value for part in parts for key, value in part.items()}


def inner_path(path: str, index: int) -> str:
    """Where the dimensions of an option stand. By index, because two options may print the same."""
    return f"{path}/{index}/"


def _value(dimension: Dimension, raw: Raw, path: str) -> Any:
    if isinstance(dimension, Fixed):
        return dimension.value
    if not isinstance(dimension, Choice):
        return dimension.value(raw[path])
    index = round(raw[path])
    option = dimension.options[index]
    if option.space is None:
        return option.value
    return {"name": option.value, **option.space.values(raw, inner_path(path, index))}


def _size(dimension: Dimension) -> int | None:
    if isinstance(dimension, Fixed):
        return 1
    if not isinstance(dimension, Choice):
        return dimension.count
    sizes = [option.space.size if option.space else 1 for option in dimension.options]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _points(dimension: Dimension, path: str) -> Iterator[Raw]:
    if isinstance(dimension, Fixed):
        yield {}
    elif not isinstance(dimension, Choice):
        yield from ({path: raw} for raw in dimension.raws())
    else:
        for index, option in enumerate(dimension.options):
            inner = option.space.points(inner_path(path, index)) if option.space else iter([{}])
            yield from ({path: float(index), **rest} for rest in inner)
