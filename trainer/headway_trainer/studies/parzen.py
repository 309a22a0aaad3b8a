"""What hyperopt's ``tpe.suggest`` suggests, computed directly, for spaces without conditions.

hyperopt builds a graph of its estimators for every suggestion and walks it in Python: three milliseconds for two
dimensions, ten times what a trial of a cheap model takes. Here the same arithmetic is done in the same order with the
same draws from the same generator, so that the suggestions are the same to the last bit (a test holds them against the
installed hyperopt's). Conditional spaces are left to hyperopt itself, see ``tpe.py``.

Sources: J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl, "Algorithms for hyper-parameter optimization", NIPS 2011, for the
method; the constants and the order of the draws are those of hyperopt 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from headway_trainer.errors import TrainerError
from headway_trainer.studies.space import HALF, Choice, Dimension, Fixed, Normal, Range, Raw, Space

Array = NDArray[np.float64]

STARTUP = 20
"""Trials before the estimators are asked; until then points are drawn from the space."""

CANDIDATES = 24
GOOD_SHARE = 0.25
"""The best 0.25·√n trials are the good ones, at most ``REMEMBERED``."""

REMEMBERED = 25
"""Observations that count in full; older ones count the less the older they are."""

TINY = 1e-12
ROOT_2 = np.sqrt(2)


class ParzenEngine:
    """The engine ``hyperopt`` for a flat space."""

    def __init__(self, space: Space) -> None:
        searched = {name: one for name, one in space.dimensions.items() if not isinstance(one, Fixed)}
        # hyperopt's walk over its graph comes to the labels in this order, and all draw from one generator.
        self._axes = [(label, make_axis(searched[label], label)) for label in sorted(searched, reverse=True)]
        self._raws: dict[int, Raw] = {}
        self._losses: dict[int, float] = {}

    def suggest(self, number: int, seed: int) -> Raw:
        random = np.random.default_rng(seed)
        if len(self._raws) < STARTUP:
            raw = {label: axis.draw(random) for label, axis in self._axes}
        else:
            numbers = sorted(self._raws)
            good = self._good(numbers)
            observed = [self._raws[one] for one in numbers]
            raw = {
                label: axis.suggest(random, np.array([one[label] for one in observed]), good)
                for label, axis in self._axes
            }
        self._raws[number] = raw
        return raw

    def restore(self, number: int, raw: Raw) -> None:
        self._raws[number] = raw

    def tell(self, number: int, loss: float | None) -> None:
        if loss is not None:
            self._losses[number] = loss

    def _good(self, numbers: list[int]) -> NDArray[np.bool_]:
        """Which trials are the good ones; pending and failed ones are infinitely bad."""
        losses = np.array([self._losses.get(one, math.inf) for one in numbers])
        count = min(int(np.ceil(GOOD_SHARE * np.sqrt(len(losses)))), REMEMBERED)
        good = np.zeros(len(losses), dtype=np.bool_)
        good[np.argsort(losses)[:count]] = True
        return good


class Steps:
    """Options and steps: a probability for each index."""

    def __init__(self, count: int) -> None:
        self._count = count

    def draw(self, random: np.random.Generator) -> float:
        return int(random.integers(self._count, size=1)[0])

    def suggest(self, random: np.random.Generator, observed: Array, good: NDArray[np.bool_]) -> float:
        indexes = observed.astype(np.int64)
        likely, unlikely = self._chances(indexes[good]), self._chances(indexes[~good])
        drawn = np.dot(random.multinomial(1, likely, size=CANDIDATES), np.arange(self._count))
        return int(drawn[np.argmax(np.log(likely[drawn]) - np.log(unlikely[drawn]))])

    def _chances(self, indexes: NDArray[np.int64]) -> Array:
        counts = np.bincount(indexes, weights=weights_by_age(len(indexes)), minlength=self._count) + 1.0
        chances: Array = counts / np.sum(counts)
        return chances


class Line:
    """Numbers: a mixture of normal distributions around the observed ones, and one for the whole range.

    ``log``: the mixture is that of the logarithms. ``whole``: values are rounded, and a value's probability is that of
    all that is rounded to it.
    """

    def __init__(
        self, mean: float, deviation: float, low: float | None, high: float | None, whole: bool, log: bool
    ) -> None:
        self._mean, self._deviation, self._low, self._high = mean, deviation, low, high
        self._whole, self._log = whole, log

    def draw(self, random: np.random.Generator) -> float:
        if self._low is None or self._high is None:
            return float(random.normal(self._mean, self._deviation, size=1)[0])
        value = random.uniform(self._low, self._high, size=1)
        return float(self._rounded(np.exp(value) if self._log else value)[0])

    def suggest(self, random: np.random.Generator, observed: Array, good: NDArray[np.bool_]) -> float:
        centres = self._centres(observed)
        likely = mixture(centres[good], self._mean, self._deviation)
        unlikely = mixture(centres[~good], self._mean, self._deviation)
        drawn = self._rounded(self._candidates(random, likely))
        return float(drawn[np.argmax(self._density(drawn, likely) - self._density(drawn, unlikely))])

    def _rounded(self, values: Array) -> Array:
        return np.round(values) if self._whole else values

    def _centres(self, observed: Array) -> Array:
        if not self._log:
            return observed
        if self._whole and self._low is not None:
            observed = np.maximum(observed, np.maximum(TINY, np.exp(self._low)))
        centres: Array = np.log(observed)
        return centres

    def _candidates(self, random: np.random.Generator, likely: Mixture) -> Array:
        weights, centres, widths = likely
        if self._low is None or self._high is None:
            chosen = np.argmax(random.multinomial(1, weights, (CANDIDATES,)), axis=1)
            return np.asarray(random.normal(loc=centres[chosen], scale=widths[chosen]))
        # One at a time, as draws outside the range are thrown away and drawn again: the draws must stay in step.
        pairs, low, high = list(zip(centres.tolist(), widths.tolist(), strict=True)), self._low, self._high
        pick, draw = random.multinomial, random.normal
        found: list[float] = []
        while len(found) < CANDIDATES:
            value = draw(*pairs[pick(1, weights).argmax()])
            if low <= value < high:
                found.append(value)
        values = np.array(found)
        return np.exp(values) if self._log else values

    def _density(self, values: Array, given: Mixture) -> Array:
        """Logarithm of the mixture's density at ``values``, or of the probability of each rounded value."""
        weights, centres, widths = given
        if not self._whole:
            return self._smooth_density(values, given)
        low, high = self._low or 0.0, self._high or 0.0
        ends = (np.exp(low), np.exp(high)) if self._log else (low, high)
        upper, lower = np.minimum(values + 0.5, ends[1]), np.maximum(values - 0.5, ends[0])
        below: Callable[[Array, Array, Array], Array] = below_log if self._log else below_value
        centre, width, weight = centres[:, None], widths[:, None], weights[:, None]
        # Summed over the first axis the parts are added one after the other, which a sum over the last would not do.
        parts = weight * below(upper, centre, width) - weight * below(
            np.maximum(lower, 0.0) if self._log else lower, centre, width
        )
        density: Array = np.log(parts.sum(axis=0)) - np.log(self._inside(given))
        return density

    def _smooth_density(self, values: Array, given: Mixture) -> Array:
        weights, centres, widths = given
        if self._log:
            width = np.maximum(widths, TINY)
            scaled = 0.5 * ((np.log(values[:, None]) - centres) / width) ** 2
            return log_of_sums(-scaled - np.log(width * values[:, None] * np.sqrt(2 * np.pi)) + np.log(weights))
        distance = ((values[:, None] - centres) / np.maximum(widths, TINY)) ** 2
        height = weights / np.sqrt(2 * np.pi * widths**2) / self._inside(given)
        return log_of_sums(-0.5 * distance + np.log(height))

    def _inside(self, given: Mixture) -> float:
        """The share of the mixture that lies within the range."""
        if self._low is None or self._high is None:
            return 1.0
        weights, centres, widths = given
        share = below_value(np.array(self._high), centres, widths) - below_value(np.array(self._low), centres, widths)
        return float(np.sum(weights * share))


Axis = Steps | Line
Mixture = tuple[Array, Array, Array]


def make_axis(dimension: Dimension, label: str) -> Axis:
    """The estimator of one dimension."""
    if isinstance(dimension, Choice):
        return Steps(len(dimension.options))
    if isinstance(dimension, Normal):
        return Line(dimension.mean, dimension.deviation, None, None, False, False)
    if not isinstance(dimension, Range):
        raise TrainerError(f"{label}: a fixed value is not searched")
    if dimension.step is not None:
        return Steps(dimension.count or 1)
    low, high = dimension.low, dimension.high
    if dimension.whole:
        low, high = low - HALF, high + HALF
    if dimension.log:
        low, high = math.log(low), math.log(high)
    return Line(0.5 * (high + low), 1.0 * (high - low), low, high, dimension.whole, dimension.log)


def mixture(observed: Array, mean: float, deviation: float) -> Mixture:
    """Weights, centres and widths, in order of the centres; the range as a whole is one of them.

    A centre is as wide as the farther of its neighbours is away, the outermost as the only one; none is wider than the
    range, or narrower than its share of it.
    """
    order = np.argsort(observed)
    ordered = observed[order]
    place = int(np.searchsorted(ordered, mean)) if len(observed) != 1 else int(mean >= ordered[0])
    centres = np.concatenate([ordered[:place], [mean], ordered[place:]])
    weights = np.ones(len(centres))
    if len(observed) > REMEMBERED:
        ages = weights_by_age(len(observed))[order]
        weights[:place], weights[place + 1 :] = ages[:place], ages[place:]
    if len(observed) > 1:
        gaps = centres[1:] - centres[:-1]
        widths = np.concatenate([gaps[:1], np.maximum(gaps[:-1], gaps[1:]), gaps[-1:]])
    else:
        widths = np.full(len(centres), deviation * 0.5)
    widths = np.clip(widths, deviation / min(100.0, 1.0 + len(centres)), deviation)
    widths[place] = deviation
    return weights / weights.sum(), centres, widths


def weights_by_age(count: int) -> Array:
    """1 for the latest ``REMEMBERED`` observations, falling to 1/count for the first."""
    if count < REMEMBERED:
        return np.ones(count)
    return np.concatenate([np.linspace(1 / count, 1.0, num=count - REMEMBERED), np.ones(REMEMBERED)])


def below_value(value: Array, centre: Array, width: Array) -> Array:
    """The normal distribution function."""
    share: Array = 0.5 * (1 + erf((value - centre) / np.maximum(ROOT_2 * width, TINY)))
    return share


def below_log(value: Array, centre: Array, width: Array) -> Array:
    """The log-normal distribution function."""
    share: Array = 0.5 + 0.5 * erf((np.log(np.maximum(value, TINY)) - centre) / np.maximum(ROOT_2 * width, TINY))
    return share


def log_of_sums(logarithms: Array) -> Array:
    """Logarithm of the sum of each row's exponentials."""
    most = logarithms.max(axis=1)
    sums: Array = np.log(np.exp(logarithms - most[:, None]).sum(axis=1)) + most
    return sums
