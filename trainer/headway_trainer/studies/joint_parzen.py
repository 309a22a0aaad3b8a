"""What optuna's ``TPESampler`` suggests, computed directly, for spaces without conditions.

optuna goes through its storage, its inferred space and Python loops over special functions for every suggestion: two
milliseconds for two dimensions. Here the same mixtures are evaluated with scipy's functions from the same draws of the same
generator; the suggestions are those of optuna 5 up to the rounding of the special functions (a test holds them against the
installed optuna's). Conditional spaces are left to optuna itself, see ``optuna_engine.py``.

Unlike hyperopt's estimators these are joint ones: a component of the mixture is a whole trial with all its dimensions.
Sources: S. Watanabe, "Tree-structured Parzen estimator: understanding its algorithm components and their roles" (2023), for
the method; the constants and the order of the draws are those of optuna 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from headway_trainer.errors import TrainerError
from headway_trainer.studies.parzen import log_of_sums, weights_by_age
from headway_trainer.studies.space import Choice, Dimension, Fixed, Normal, Range, Raw, Space

Array = NDArray[np.float64]
Random = np.random.RandomState

STARTUP = 10
CANDIDATES = 24
GOOD_SHARE, MOST_GOOD = 0.1, 25

SHARE = "~share"
"""Behind the path of a normal dimension: the share of its values that lie below, which is what is searched."""

EDGE = 1e-6
LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Options:
    """A dimension without an order."""

    label: str
    count: int

    @property
    def single(self) -> bool:
        return self.count == 1

    def draw(self, random: Random) -> float:
        if self.single:
            return 0.0
        return float(random.uniform(np.zeros(self.count), np.ones(self.count)).argmax())

    def chances(self, observed: Array) -> Array:
        """For each component the probabilities of the options; the last one is the prior's."""
        kernels = len(observed) + 1
        weights = np.full((kernels, self.count), 1.0 / kernels)
        weights[np.arange(len(observed)), observed.astype(np.int64)] += 1.0
        chances: Array = weights / weights.sum(axis=1, keepdims=True)
        return chances


@dataclass(frozen=True)
class Numbers:
    """A dimension of numbers, all of them or the whole ones. ``low`` and ``high`` are values, both included."""

    label: str
    low: float
    high: float
    whole: bool
    log: bool

    @property
    def single(self) -> bool:
        return self.low == self.high

    @property
    def bounds(self) -> tuple[float, float]:
        """Of what is drawn: rounded later, so half a step more; logarithms, if it is these."""
        half = 0.5 if self.whole else 0.0
        low, high = self.low - half, self.high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def draw(self, random: Random) -> float:
        if self.single:
            return float(self.low)
        drawn = float(random.uniform(*self.bounds))
        if self.log:
            value = math.exp(drawn)
            if self.whole:
                return float(min(max(round(value), self.low), self.high))
            return float(np.clip(value, self.low, np.nextafter(self.high, self.high - 1)))
        if self.whole:
            return float(min(max(math.floor(drawn - self.low + 0.5) + self.low, self.low), self.high))
        return float(min(drawn, np.nextafter(self.high, self.high - 1)))

    def components(self, observed: Array) -> tuple[Array, Array]:
        """Centres and widths: as wide as the farther of the neighbours is away, within limits; last the whole range."""
        low, high = self.bounds
        centres = np.log(observed) if self.log else observed
        order = np.argsort(centres)
        fenced = np.concatenate([[low], centres[order], [high]])
        gaps = fenced[1:] - fenced[:-1]
        sorted_widths = np.maximum(gaps[:-1], gaps[1:])
        if len(centres) > 1:  # the range's ends are no neighbours
            sorted_widths[0], sorted_widths[-1] = gaps[1], gaps[-2]
        widths = np.empty_like(centres)
        widths[order] = sorted_widths
        widths = np.clip(widths, (high - low) / min(100.0, 2.0 + len(centres)), high - low)
        return np.append(centres, 0.5 * (low + high)), np.append(widths, high - low)

    def candidates(self, shares: Array, centres: Array, widths: Array) -> Array:
        """The values below which these shares of the components lie, as far as they are within the range."""
        low, high = self.bounds
        least, most = ndtr((low - centres) / widths), ndtr((high - centres) / widths)
        values = ndtri(least + shares * (most - least)) * widths + centres
        values = np.exp(values) if self.log else values
        drawn: Array = np.clip(self.low + np.round(values - self.low), self.low, self.high) if self.whole else values
        return drawn

    def densities(self, values: Array, components: tuple[Array, Array]) -> Array:
        """Logarithms, a row for each value and a column for each component."""
        (centres, widths), (low, high) = components, self.bounds
        inside = log_mass((low - centres) / widths, (high - centres) / widths)
        if not self.whole:
            scaled = ((np.log(values) if self.log else values)[:, None] - centres) / widths
            smooth: Array = -0.5 * scaled**2 - LOG_ROOT_2PI - inside - np.log(widths)
            return smooth
        distinct, places = np.unique(values, return_inverse=True)
        ends = (distinct - 0.5, distinct + 0.5)
        left, right = (np.log(ends[0]), np.log(ends[1])) if self.log else ends
        mass = log_mass((left[:, None] - centres) / widths, (right[:, None] - centres) / widths)
        rounded: Array = mass[places] - inside
        return rounded


Axis = Options | Numbers


class JointParzenEngine:
    """The engine ``optuna`` for a flat space."""

    def __init__(self, space: Space) -> None:
        searched = {name: one for name, one in space.dimensions.items() if not isinstance(one, Fixed)}
        self._normals = {name: one for name, one in searched.items() if isinstance(one, Normal)}
        self._asked = [make_axis(name, one) for name, one in searched.items()]
        self._axes = sorted((axis for axis in self._asked if not axis.single), key=lambda axis: axis.label)
        self._raws: dict[int, Raw] = {}
        self._losses: dict[int, float] = {}
        self._random = Random()

    def suggest(self, number: int, seed: int) -> Raw:
        random = self._random
        random.seed(seed)  # the same draws as those of a new one, which would first ask the system for another seed
        if len(self._losses) < STARTUP:
            raw = {axis.label: axis.draw(random) for axis in self._asked}
        else:
            likely = self._likely(random)
            raw = {
                axis.label: likely[axis.label] if axis.label in likely else axis.draw(random) for axis in self._asked
            }
        for name, one in self._normals.items():
            raw[name] = NormalDist(one.mean, one.deviation).inv_cdf(raw[name + SHARE])
        self._raws[number] = raw
        return raw

    def restore(self, number: int, raw: Raw) -> None:
        self._raws[number] = raw

    def tell(self, number: int, loss: float | None) -> None:
        """A failed trial is forgotten: unlike a pending one it does not say that its place is bad."""
        if loss is None:
            del self._raws[number]
        else:
            self._losses[number] = loss

    def _likely(self, random: Random) -> Raw:
        """The best of some candidates for all axes together."""
        ended = sorted(self._losses)
        best = set(sorted(ended, key=self._losses.__getitem__)[: min(math.ceil(GOOD_SHARE * len(ended)), MOST_GOOD)])
        good = self._mixture([one for one in sorted(self._raws) if one in best])
        bad = self._mixture([one for one in sorted(self._raws) if one not in best])
        drawn = self._candidates(random, good)
        chosen = int(np.argmax(self._density(drawn, good) - self._density(drawn, bad)))
        return {axis.label: float(values[chosen]) for axis, values in zip(self._axes, drawn, strict=True)}

    def _mixture(self, numbers: list[int]) -> Mixture:
        weights = np.append(weights_by_age(len(numbers)), 1.0)
        observed = [np.array([self._raws[one][axis.label] for one in numbers]) for axis in self._axes]
        parts: list[Part] = [
            axis.chances(values) if isinstance(axis, Options) else axis.components(values)
            for axis, values in zip(self._axes, observed, strict=True)
        ]
        return weights / weights.sum(), parts

    def _candidates(self, random: Random, good: Mixture) -> list[Array]:
        weights, parts = good
        active = random.choice(len(weights), p=weights, size=CANDIDATES)
        drawn: dict[str, Array] = {}
        for axis, part in zip(self._axes, parts, strict=True):
            if isinstance(part, tuple):
                continue
            reached = np.cumsum(part[active], axis=1)
            reached[:, -1] = 1.0
            drawn[axis.label] = np.sum(reached < random.rand(CANDIDATES)[:, None], axis=1).astype(np.float64)
        numbers = [axis for axis in self._axes if isinstance(axis, Numbers)]
        shares = iter(random.uniform(0.0, 1.0, size=(len(numbers), CANDIDATES)) if numbers else ())
        for axis, part in zip(self._axes, parts, strict=True):
            if isinstance(axis, Numbers) and isinstance(part, tuple):
                drawn[axis.label] = axis.candidates(next(shares), part[0][active], part[1][active])
        return [drawn[axis.label] for axis in self._axes]

    def _density(self, drawn: list[Array], given: Mixture) -> Array:
        weights, parts = given
        total = np.tile(np.log(weights), (CANDIDATES, 1))
        for axis, values, part in zip(self._axes, drawn, parts, strict=True):
            if isinstance(axis, Numbers) and isinstance(part, tuple):
                total += axis.densities(values, part)
            elif not isinstance(part, tuple):
                total += np.log(part[:, values.astype(np.int64)]).T
        return log_of_sums(total)


Part = Array | tuple[Array, Array]
Mixture = tuple[Array, list[Part]]


def make_axis(name: str, dimension: Dimension) -> Axis:
    """How one dimension is searched."""
    if isinstance(dimension, Choice):
        return Options(name, len(dimension.options))
    if isinstance(dimension, Normal):
        return Numbers(name + SHARE, EDGE, 1 - EDGE, whole=False, log=False)
    if not isinstance(dimension, Range):
        raise TrainerError(f"{name}: a fixed value is not searched")
    if dimension.step is not None:
        return Numbers(name, 0.0, (dimension.count or 1) - 1.0, whole=True, log=False)
    return Numbers(name, dimension.low, dimension.high, dimension.whole, dimension.log)


def log_mass(left: Array, right: Array) -> Array:
    """Logarithm of the normal distribution's mass between two points, in the tail where small numbers are exact."""
    flipped = left + right > 0.0
    low, high = np.where(flipped, -right, left), np.where(flipped, -left, right)
    above: Array = log_ndtr(high)
    mass: Array = above + np.log1p(-np.exp(np.minimum(log_ndtr(low) - above, -1e-300)))
    return mass
