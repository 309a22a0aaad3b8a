"""Models by name: the built-in ones, those of installed packages, and those of the user's own program."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import entry_points
from typing import Any, TypeVar

from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.models.base import Model

GROUP = "headway.models"
"""Entry points of this group name classes of installed packages: ``MyModel = "my_package.models:MyModel"``."""

BUILT_IN = ("simple", "adaptive", "smoothing", "arrival", "new_arrival", "statespace", "regression")
ALIASES = {"AdaptiveAvg": "AdaptiveAverageN", "Average": "AverageN", "sNaive": "SeasonalNaive"}
SUFFIX = "Model"

_models: dict[str, type[Model]] = {}
Kind = TypeVar("Kind", bound=type[Model])


def model(kind: Kind) -> Kind:
    """Register a class under its ``name``; used as a decorator. Raises TrainerError if another has that name."""
    taken = _models.get(kind.name)
    if taken is not None and (taken.__module__, taken.__qualname__) != (kind.__module__, kind.__qualname__):
        raise TrainerError(f"model {kind.name!r} is {taken.__module__}:{taken.__qualname__} already")
    _models[kind.name] = kind
    return kind


def catalogue() -> dict[str, type[Model]]:
    """All models that are known now, by name."""
    _load_built_in()
    return dict(sorted(_models.items()))


@functools.cache
def _load_built_in() -> None:
    for module in BUILT_IN:
        importlib.import_module(f"headway_trainer.models.{module}")


def find_model(name: object, place: str = "model") -> type[Model]:
    """The class of that name, with or without ``Model`` at its end, or of an import path ``package.module:Class``.

    Raises UnknownName, which lists all that are known; TrainerError if a path leads to something else.
    """
    if not isinstance(name, str):
        raise TrainerError(f"{place}: {name!r} is not a name of a model")
    if ":" in name:
        return _imported(name, place)
    _load_built_in()
    for spelling in (name, name.removesuffix(SUFFIX), ALIASES.get(name.removesuffix(SUFFIX), "")):
        if spelling in _models:
            return _models[spelling]
    for point in entry_points(group=GROUP):
        if point.name in (name, name.removesuffix(SUFFIX)):
            return _imported(point.value, place)
    raise UnknownName(place, "model", name, [*_models, *(point.name for point in entry_points(group=GROUP))])


def wire_name(name: str) -> str:
    """The name by which another process finds the same model: the import path of one that is not built in.

    Raises TrainerError for one that only the running program has.
    """
    kind = find_model(name)
    if kind.__module__.startswith("headway_trainer."):
        return kind.name
    if kind.__module__ == "__main__":
        raise TrainerError(
            f"model {name!r} is defined in the program itself; move it to a module that runtimes can import"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def make_model(name: object, params: dict[str, Any] | None = None, place: str = "model") -> Model:
    """A model with its parameters checked, ready to be fitted."""
    return find_model(name, place)(**(params or {}))


def describe(name: str) -> list[dict[str, Any]]:
    """The parameters of a model as plain data: label, intro, type, default, and what is allowed."""
    return [parameter.described() for parameter in find_model(name).parameters]


def _imported(path: str, place: str) -> type[Model]:
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TrainerError(f"{place}: {path!r} cannot be imported: {error}") from None
    if not isinstance(found, type) or not issubclass(found, Model):
        raise TrainerError(f"{place}: {path!r} is not a subclass of headway_trainer.models.Model")
    return found
