"""What is to be trained: a file, its columns, models with their spaces, and how it is judged. Checked as a whole."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from headway_trainer import metrics
from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.models.parameters import Parameter, find_parameter
from headway_trainer.models.registry import find_model
from headway_trainer.series.record import Columns, Policies, Series
from headway_trainer.studies.engines import ENGINES
from headway_trainer.studies.notation import parse_space
from headway_trainer.studies.space import Choice, Dimension, Fixed, Normal, Range, Space
from headway_trainer.studies.study import MODES
from headway_trainer.validation import LEGACY, ROLLING, rolling_folds

AUTO = "auto"
AUTO_MODELS = ("Naive", "SES", "Theta", "LinearFit", "AdaptiveAverageN")
"""What ``auto`` tries: one of each kind that holds its own on most series; more cost time and seldom win."""

GRANULARITIES = ("auto", "trial", "series")
LEAKS = ("refuse", "warn")


@dataclass(frozen=True)
class Job:
    """A training job. ``models``: for each the space of its parameters; those left out have the model's own range.

    ``trials`` are for each series and model; 0 takes the defaults. ``season``: "auto" is what :meth:`season_of` finds for each
    series. ``path`` is a csv, csv.gz or parquet file. ``export``: whether the fitted models are kept in the report's folder.
    """

    path: str
    columns: Columns
    models: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in AUTO_MODELS})
    horizon: int = 13
    trials: int = 100
    metric: str = "mase"
    metrics: tuple[str, ...] = ("mase", "smape", "rmse")
    season: int | str = AUTO
    folds: int = 3
    validation: str = ROLLING
    engine: str = "hyperopt"
    seed: int = 0
    mode: str = "async"
    parallel: int = 8
    granularity: str = "auto"
    leaks: str = "refuse"
    export: bool = False
    policies: Policies = field(default_factory=Policies)

    def __post_init__(self) -> None:
        for name, least in (("horizon", 1), ("trials", 0), ("season", 1), ("folds", 1), ("seed", 0), ("parallel", 1)):
            value = getattr(self, name)
            if name == "season" and value == AUTO:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                words = f", or {AUTO!r}" if name == "season" else ""
                raise TrainerError(f"job.{name}: {value!r}; expected a whole number of at least {least}{words}")
        if not isinstance(self.export, bool):
            raise TrainerError(f"job.export: {self.export!r}; expected true or false")
        _one_of("engine", self.engine, ENGINES)
        _one_of("mode", self.mode, MODES)
        _one_of("validation", self.validation, (ROLLING, LEGACY))
        _one_of("granularity", self.granularity, GRANULARITIES)
        _one_of("leaks", self.leaks, LEAKS)
        for name in (self.metric, *self.metrics):
            metrics.find_metric(name, "job.metric")
        if not self.models:
            raise TrainerError("job.models: there is none")
        for name in self.spaces:
            find_model(name).check(f"job.models.{name}")

    def season_of(self, series: Series) -> int:
        """The job's season, or that of the series' step, if each look back learns from more than one of it.

        It is 1, none, where the points have no step in common, and for the ``legacy`` validation, which knew of none.
        """
        if isinstance(self.season, int):
            return self.season
        found = series.step.season if series.step is not None and self.validation == ROLLING else 1
        cuts = rolling_folds(len(series.values), self.horizon, self.folds)
        return found if cuts and cuts[0][0] > found else 1

    @property
    def _known_season(self) -> int:
        """As long as it is not known of which series it is, there is none."""
        return self.season if isinstance(self.season, int) else 1

    @property
    def settings(self) -> dict[str, Any]:
        """What a trial on a runtime needs to know."""
        names = tuple(dict.fromkeys((self.metric, *self.metrics)))
        own = {"metric": self.metric, "metrics": names, "horizon": self.horizon, "folds": self.folds}
        return own | {"season": self._known_season, "validation": self.validation, "export": self.export}

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """For each model the space of its parameters: what the job says, and the model's own ranges for the others."""
        return {model: self._space(model) for model in self.models}

    def _space(self, model: str) -> Space:
        place = f"job.models.{model}"
        known = find_model(model, "job.models").parameters
        given = {find_parameter(known, name, place).name: one for name, one in self.models[model].items()}
        kinds = {parameter.name: parameter.kind for parameter in known if parameter.kind != "choice"}
        found = dict(parse_space(given, place, kinds).dimensions)
        for parameter in known:
            if parameter.name in found:
                _check_bounds(parameter, found[parameter.name], f"{place}.{parameter.name}")
            else:
                found[parameter.name] = self._own_range(parameter)
        return Space(found)

    def _own_range(self, parameter: Parameter) -> Dimension:
        if parameter.name == "season":
            return Fixed(self._known_season)
        if parameter.search is None or not self.trials:
            return Fixed(parameter.default)
        return Range(*parameter.search, whole=parameter.kind == "int")

    def plain(self) -> dict[str, Any]:
        """Plain data from which :meth:`from_plain` makes the same job."""
        return asdict(self)

    @classmethod
    def from_plain(cls, given: Mapping[str, Any], place: str = "job") -> Self:
        """From a dict, as of a TOML file: the columns under ``columns`` or beside the rest."""
        data = dict(given)
        names = {one.name for one in fields(cls)}
        columns = _table(f"{place}.columns", data.pop("columns", {}))
        for one in fields(Columns):
            if one.name in data and one.name not in names:
                columns[one.name] = data.pop(one.name)
        _known(f"{place}.columns", columns, {one.name for one in fields(Columns)})
        _known(place, data, names)
        for name in ("target", "time"):
            if columns.get(name) is None:
                raise TrainerError(f"{place}: {name} is missing; expected the name or the index of a column")
        if not isinstance(data.get("path"), (str, Path)):
            raise TrainerError(f"{place}: path is missing or no text; expected a csv or parquet file")
        data["path"] = str(data["path"])
        for name in ("group", "features"):
            columns[name] = _several(columns.get(name, ()), f"{place}.{name}", (str, int))
        policies = _table(f"{place}.policies", data.pop("policies", {}))
        _known(f"{place}.policies", policies, {one.name for one in fields(Policies)})
        models = data.pop("models", None)
        if models is not None:
            data["models"] = _models(models, place)
        if "metrics" in data:
            data["metrics"] = _several(data["metrics"], f"{place}.metrics", (str,))
        return cls(columns=Columns(**columns), policies=Policies(**policies), **data)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """A ``job.toml``; the path of its data is relative to it."""
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainerError(f"{path}: {error}") from None
        job = cls.from_plain(given, str(path))
        return cls.from_plain(job.plain() | {"path": str(path.parent / job.path)}, str(path))


def _models(given: Any, place: str) -> dict[str, dict[str, Any]]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, (list, tuple)):
        given = {one: {} for name in given for one in (AUTO_MODELS if name == AUTO else (name,))}
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise TrainerError(f"{place}.models: expected names, or a table of parameters for each name")
    return {name: dict(one) for name, one in given.items()}


def _table(place: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise TrainerError(f"{place}: {given!r}; expected a table of settings")
    return dict(given)


def _several(given: Any, place: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """A list, or one for a list of one."""
    listed = given if isinstance(given, (list, tuple)) else (given,)
    wrong = [one for one in listed if isinstance(one, bool) or not isinstance(one, kinds)]
    if wrong:
        raise TrainerError(f"{place}: {wrong[0]!r}; expected a list of names{' or indexes' if int in kinds else ''}")
    return tuple(listed)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UnknownName(f"job.{name}", name, value, allowed)


def _known(place: str, given: Mapping[str, Any], names: set[str]) -> None:
    for name in given:
        if name not in names:
            raise UnknownName(place, "setting", name, names)


def _check_bounds(parameter: Parameter, dimension: Dimension, place: str) -> None:
    """What a search may draw must be what the model accepts: refused before anything runs."""
    if isinstance(dimension, Fixed):
        parameter.checked(dimension.value, place)
    elif isinstance(dimension, Choice):
        for option in dimension.options:
            parameter.checked(option.value, place)
    elif isinstance(dimension, Range):
        parameter.checked(dimension.low, place)
        parameter.checked(dimension.high, place)
    elif isinstance(dimension, Normal) and (dimension.low < parameter.low or dimension.high > parameter.high):
        raise TrainerError(f"{place}: a normal distribution needs low and high within the parameter's bounds")
