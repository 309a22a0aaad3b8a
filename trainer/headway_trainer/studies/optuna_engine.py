"""optuna's tree of Parzen estimators, by ask and tell. An optional engine: ``pip install 'headway[optuna]'``.

The sampler is made anew for each trial from the trial's own seed, so that what one trial draws depends on what was told
before it and on nothing else; a restored study goes on exactly. ``constant_liar``: pending trials count as bad ones.
"""

from __future__ import annotations

import datetime
import warnings
from statistics import NormalDist
from typing import Any

from headway_trainer.errors import TrainerError
from headway_trainer.studies.joint_parzen import EDGE, SHARE
from headway_trainer.studies.space import Choice, Dimension, Fixed, Normal, Range, Raw, Space, inner_path

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import TrialState
except ModuleNotFoundError as missing:
    raise TrainerError(f"engine optuna needs {missing.name}: pip install 'headway[optuna]'") from None


class OptunaEngine:
    """The engine ``optuna``."""

    def __init__(self, space: Space) -> None:
        self._space = space
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study()
        optuna.logging.set_verbosity(before)

    def suggest(self, number: int, seed: int) -> Raw:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar is one of them
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return _suggested(self._study.ask(), self._space, "")

    def restore(self, number: int, raw: Raw) -> None:
        distributions = dict(_distributions(self._space, raw, ""))
        now = datetime.datetime.now()
        trial = optuna.trial.create_trial(
            state=TrialState.WAITING,
            params={path: _drawn(one, raw, path) for path, one in distributions.items()},
            distributions=distributions,
        )
        trial.state, trial.datetime_start = TrialState.RUNNING, now
        self._study.add_trial(trial)

    def tell(self, number: int, loss: float | None) -> None:
        if loss is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, loss)


def _suggested(trial: Any, space: Space, path: str) -> Raw:
    raw: Raw = {}
    for name, dimension in space.dimensions.items():
        here = path + name
        if isinstance(dimension, Fixed):
            continue
        drawn = _draw(trial, _label(dimension, here), _distribution(dimension))
        if isinstance(dimension, Normal):
            raw[here + SHARE] = drawn
            raw[here] = NormalDist(dimension.mean, dimension.deviation).inv_cdf(drawn)
        else:
            raw[here] = float(drawn)
        if isinstance(dimension, Choice):
            inner = dimension.options[int(drawn)].space
            raw |= _suggested(trial, inner, inner_path(here, int(drawn))) if inner else {}
    return raw


def _draw(trial: Any, label: str, of: Any) -> float:
    if isinstance(of, FloatDistribution):
        return float(trial.suggest_float(label, of.low, of.high, log=of.log))
    if isinstance(of, IntDistribution):
        return int(trial.suggest_int(label, of.low, of.high, log=of.log))
    return int(trial.suggest_categorical(label, of.choices))


def _distributions(space: Space, raw: Raw, path: str) -> list[tuple[str, BaseDistribution]]:
    """Those of the dimensions that are active in a point."""
    found: list[tuple[str, BaseDistribution]] = []
    for name, dimension in space.dimensions.items():
        here = path + name
        if isinstance(dimension, Fixed):
            continue
        found.append((_label(dimension, here), _distribution(dimension)))
        if isinstance(dimension, Choice):
            index = int(raw[here])
            inner = dimension.options[index].space
            found += _distributions(inner, raw, inner_path(here, index)) if inner else []
    return found


def _label(dimension: Dimension, path: str) -> str:
    return path + SHARE if isinstance(dimension, Normal) else path


def _drawn(distribution: BaseDistribution, raw: Raw, path: str) -> float | int:
    return raw[path] if isinstance(distribution, FloatDistribution) else int(raw[path])


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(tuple(range(len(dimension.options))))
    if isinstance(dimension, Normal):
        return FloatDistribution(EDGE, 1 - EDGE)
    if isinstance(dimension, Range):
        if dimension.step is not None:
            return IntDistribution(0, (dimension.count or 1) - 1)
        if dimension.whole:
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    raise TrainerError("a fixed value is not searched")
