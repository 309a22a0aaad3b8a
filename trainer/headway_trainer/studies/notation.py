"""Every way in which people write a search space, into the normal form. Nothing is guessed silently.

::

    5, "adam"                                             a fixed value; also {"value": 5}, {"val": 5}
    [1, 2, 3]                                             a choice; also {"choice": [...]}, {"type": "list", "choice": …}
    {"low": 1, "high": 10}                                numbers; whole ones if both bounds are written whole
    {"type": "float", "low": 1, "high": 10, "log": true}  the type wins
    {"low": 0, "high": 100, "step": 5}
    {"range": [1, 10], "distribution": "uniform"}         uniform, uniformint, loguniform, quniform, randint, normal …
    {"distribution": "normal", "mean": 0, "std": 1}
    {"choice": ["a", {"name": "b", "space": {…}}]}        b has parameters of its own

A space is a dict of these by name, or a list of dicts with ``name``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.studies.space import Choice, Dimension, Fixed, Normal, Option, Range, Space

TYPES = ("int", "float", "list", "str", "bool")
WHOLE = ("uniformint", "quniform", "randint", "int", "qloguniform", "loguniformint")
LOGARITHMIC = ("loguniform", "log", "qloguniform", "loguniformint")
NORMAL = ("normal", "qnormal")
DISTRIBUTIONS = ("uniform", "choice", *WHOLE, *LOGARITHMIC, *NORMAL)
BOUNDS = ("low", "high", "step", "q", "log", "range", "distribution", "mean", "mu", "std", "sigma")
TEXTS = ("name", "type", "label", "intro", "description", "space")
CHOICES = ("choice", "choices", "values", "options")
FIXED = ("value", "val")
KEYS = frozenset((*BOUNDS, *TEXTS, *CHOICES, *FIXED))


def parse_space(given: Any, place: str = "space", kinds: Mapping[str, str] | None = None) -> Space:
    """The normal form. ``kinds``: the type of each name (``int`` or ``float``) where something else knows it.

    Raises TrainerError that names the place: ``space.latest_n: low 10 is above high 1``.
    """
    if isinstance(given, Space):
        return given
    found: dict[str, Dimension] = {}
    for name, notation in _entries(given, place):
        if name in found:
            raise TrainerError(f"{place}.{name}: it is given twice")
        found[name] = parse_dimension(notation, f"{place}.{name}", (kinds or {}).get(name))
    return Space(found)


def _entries(given: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(given, Mapping):
        wrong = [name for name in given if not isinstance(name, str) or "/" in name or not name]
        if wrong:
            raise TrainerError(f"{place}: {wrong[0]!r} is not a name; expected text without '/'")
        return list(given.items())
    if isinstance(given, Sequence) and not isinstance(given, str):
        for index, one in enumerate(given):
            if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
                raise TrainerError(f"{place}[{index}]: {one!r} is not a dict with a name")
        return [(one["name"], {key: value for key, value in one.items() if key != "name"}) for one in given]
    raise TrainerError(f"{place}: {given!r} is not a space; expected a dict by name, or a list of dicts with 'name'")


def parse_dimension(given: Any, place: str, kind: str | None = None) -> Dimension:
    """One dimension. ``kind``: int or float, if it is known; a notation's own ``type`` wins."""
    if isinstance(given, (list, tuple)):
        return _choice(given, place)
    if not isinstance(given, Mapping):
        return Fixed(_plain(given, place))
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise UnknownName(place, "key", unknown[0], KEYS)
    if given.get("type", "float") not in TYPES:
        raise UnknownName(place, "type", given["type"], TYPES)
    distribution = given.get("distribution")
    if distribution is not None and distribution not in DISTRIBUTIONS:
        raise UnknownName(place, "distribution", distribution, DISTRIBUTIONS)
    if any(given.get(key) is not None for key in FIXED):
        return Fixed(_plain(next(given[key] for key in FIXED if given.get(key) is not None), place))
    options = next((given[key] for key in CHOICES if key in given), None)
    if options is not None or distribution == "choice":
        return _choice(given.get("range") if options is None else options, place)
    whole_type = given.get("type") or kind
    if distribution in NORMAL:
        return _normal(given, place, whole_type == "int" or distribution == "qnormal")
    return _range(given, place, whole_type, distribution)


def _choice(options: Any, place: str) -> Choice:
    if not isinstance(options, (list, tuple)) or not options:
        raise TrainerError(f"{place}: {options!r} is not a list of at least one option")
    return Choice(tuple(_option(one, f"{place}[{index}]") for index, one in enumerate(options)))


def _option(given: Any, place: str) -> Option:
    if isinstance(given, Mapping) and "space" in given:
        return Option(given.get("name"), parse_space(given["space"], f"{place}.space"))
    return Option(_plain(given, place))


def _plain(value: Any, place: str) -> Any:
    """Only what JSON keeps: the log of a study must give back the same value."""
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one, place) for one in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(one, place) for key, one in value.items()}
    raise TrainerError(f"{place}: {value!r} is not a value that a log can keep; expected numbers, text, lists, dicts")


def _number(given: Mapping[str, Any], keys: Sequence[str], place: str) -> float | None:
    for key in keys:
        value = given.get(key)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise TrainerError(f"{place}.{key}: {value!r} is not a finite number")
            return value
    return None


def _bounds(given: Mapping[str, Any], place: str) -> tuple[float | None, float | None]:
    pair = given.get("range")
    if pair is None:
        return _number(given, ["low"], place), _number(given, ["high"], place)
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise TrainerError(f"{place}.range: {pair!r} is not a list of low and high")
    both = {"low": pair[0], "high": pair[1]}
    return _number(both, ["low"], place), _number(both, ["high"], place)


def _normal(given: Mapping[str, Any], place: str, whole: bool) -> Normal:
    mean, deviation = _number(given, ["mean", "mu"], place), _number(given, ["std", "sigma"], place)
    if mean is None or deviation is None or deviation <= 0:
        raise TrainerError(f"{place}: a normal distribution needs mean and std, std above 0; it has {dict(given)}")
    low, high = _bounds(given, place)
    bottom, top = -math.inf if low is None else low, math.inf if high is None else high
    if bottom > top:
        raise TrainerError(f"{place}: low {bottom:g} is above high {top:g}")
    return Normal(mean, deviation, whole, bottom, top)


def _range(given: Mapping[str, Any], place: str, kind: str | None, distribution: str | None) -> Range:
    low, high = _bounds(given, place)
    if low is None or high is None:
        raise TrainerError(f"{place}: {dict(given)} is neither a value, nor a choice, nor has it low and high")
    step = _number(given, ["step", "q"], place)
    written_whole = all(isinstance(one, int) for one in (low, high, 0 if step is None else step))
    whole = kind == "int" or distribution in WHOLE or (kind is None and distribution is None and written_whole)
    log = bool(given.get("log")) or distribution in LOGARITHMIC
    if low > high:
        raise TrainerError(f"{place}: low {low:g} is above high {high:g}")
    if log and low <= 0:
        raise TrainerError(f"{place}: low {low:g} has no logarithm; expected above 0")
    if whole and not all(float(one).is_integer() for one in (low, high, step or 1)):
        raise TrainerError(f"{place}: {low:g} to {high:g} step {step or 1:g} is not whole, and its type is int")
    if step is not None and (step <= 0 or log):
        raise TrainerError(f"{place}: step {step:g}; expected above 0, and none with log")
    if whole and step == 1:
        step = None
    return Range(int(low) if whole else float(low), int(high) if whole else float(high), whole, step, log)
