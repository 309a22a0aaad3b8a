"""What an engine is, and the two that need nothing: random and grid."""

from __future__ import annotations

import itertools
import zlib
from typing import Protocol

import numpy as np

from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.studies.space import Choice, Raw, Space

ENGINES = ("hyperopt", "random", "grid", "optuna")


class Engine(Protocol):
    """Suggests raw points. Its state is what it has been told, and nothing else, so that a log restores it."""

    def suggest(self, number: int, seed: int) -> Raw:
        """The point of trial ``number``; it is pending from now on."""

    def restore(self, number: int, raw: Raw) -> None:
        """Trial ``number`` was suggested before, with this point."""

    def tell(self, number: int, loss: float | None) -> None:
        """The loss of a trial; None if it failed."""


def seed_of(seed: int, series: str, number: int) -> int:
    """A seed for each trial, so that what one draws does not depend on how many draws others took."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(series.encode()), number])
    return int(sequence.generate_state(1)[0])


class RandomEngine:
    """Independent draws."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def suggest(self, number: int, seed: int) -> Raw:
        return self._space.draw(np.random.default_rng(seed))

    def restore(self, number: int, raw: Raw) -> None:
        """Nothing is kept: each draw has its own seed."""

    def tell(self, number: int, loss: float | None) -> None:
        """Nothing is learnt."""


class GridEngine:
    """Every point of a finite space, in order."""

    def __init__(self, space: Space) -> None:
        if space.size is None:
            endless = [name for name, one in space.dimensions.items() if Space({name: one}).size is None]
            raise TrainerError(f"space.{endless[0]}: a grid needs a finite space; give a step or a choice")
        self._points = space.points()
        self._made: list[Raw] = []

    def suggest(self, number: int, seed: int) -> Raw:
        self._made += itertools.islice(self._points, max(number + 1 - len(self._made), 0))
        return self._made[number]

    def restore(self, number: int, raw: Raw) -> None:
        """The number says which point it is."""

    def tell(self, number: int, loss: float | None) -> None:
        """Nothing is learnt."""


def make_engine(name: str, space: Space, trials: int) -> Engine:
    """The engine of that name. A finite space no larger than the trials is enumerated, whatever was asked for."""
    if name not in ENGINES:
        raise UnknownName("engine", "engine", name, ENGINES)
    size = space.size
    if name == "grid" or (size is not None and size <= trials):
        return GridEngine(space)
    if name == "random":
        return RandomEngine(space)
    return _optuna(space) if name == "optuna" else _hyperopt(space)


def _hyperopt(space: Space) -> Engine:
    """By hyperopt itself where a space has conditions, else computed directly, with the same result in a fifth of the time."""
    if has_conditions(space):
        from headway_trainer.studies.tpe import TpeEngine  # here: its import takes a second, and most never need it

        return TpeEngine(space)
    from headway_trainer.studies.parzen import ParzenEngine

    return ParzenEngine(space)


def _optuna(space: Space) -> Engine:
    if has_conditions(space):
        from headway_trainer.studies.optuna_engine import OptunaEngine

        return OptunaEngine(space)
    from headway_trainer.studies.joint_parzen import JointParzenEngine

    return JointParzenEngine(space)


def has_conditions(space: Space) -> bool:
    """Whether an option has dimensions of its own."""
    choices = [one for one in space.dimensions.values() if isinstance(one, Choice)]
    return any(option.space is not None for one in choices for option in one.options)
