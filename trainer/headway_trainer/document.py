"""The dicts of the document that the trainer goes back to, into jobs and back; and the handle of a job. ``jobs`` runs them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from headway_trainer import metrics
from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.models.parameters import find_parameter
from headway_trainer.models.registry import find_model
from headway_trainer.running.job import Job
from headway_trainer.series import read_series
from headway_trainer.series.dates import US_DATES
from headway_trainer.series.record import REFUSED, Columns, Series
from headway_trainer.validation import LEGACY

HORIZON = 5

Configs = dict[str, Any]


class AsyncResultTimeout(TrainerError, TimeoutError):
    """The expiry passed before the result was there."""


class AsyncResult:
    """A result that is on its way, with the face of RPyC's."""

    FACE = frozenset({"ready", "expired", "error", "value", "wait", "set_expiry", "add_callback"})

    def __init__(self, future: Future[Configs]) -> None:
        self._future = future
        self._deadline: float | None = None

    @property
    def ready(self) -> bool:
        """Whether the result, or an error, is there."""
        return self._future.done()

    @property
    def expired(self) -> bool:
        """Whether the expiry passed before it was there."""
        return not self.ready and self._deadline is not None and time.monotonic() >= self._deadline

    @property
    def error(self) -> bool:
        """Whether it is there and is an error."""
        return self.ready and (self._future.cancelled() or self._future.exception() is not None)

    @property
    def value(self) -> Configs:
        """The result; waits for it. Raises what went wrong, TaskCancelled after a cancel, or AsyncResultTimeout."""
        self.wait()
        return self._future.result()

    def wait(self) -> None:
        """Wait until it is there. Raises AsyncResultTimeout when the expiry passes."""
        left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        try:
            self._future.exception(timeout=left)
        except CancelledError:
            return
        except FutureTimeout:
            raise AsyncResultTimeout("the result did not come before it expired") from None

    def set_expiry(self, seconds: float | None) -> None:
        """From now on; None: never."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def add_callback(self, function: Callable[[AsyncResult], Any]) -> None:
        """Call ``function`` with this when it is there, at once if it is. It runs in the job's thread."""
        self._future.add_done_callback(lambda _: function(self))


Work = list[tuple[str, Series, Job]]


def prepared(data: Mapping[str, Any], job: Mapping[str, Any], series: Mapping[str, Any], models: Configs) -> Work:
    """The series and the job for each entry of ``models``. Raises TrainerError for whatever is wrong with the dicts."""
    for name, given, key in (("data_config", data, "path"), ("job_config", job, "target_index")):
        if key not in given:
            raise TrainerError(f"{name}: {key} is missing")
    if "ts_index" not in job:
        raise TrainerError("job_config: ts_index is missing")
    features = series.get("feature_indexs", {})
    work: Work = []
    read: dict[tuple[Any, ...], tuple[dict[str, Series], Columns]] = {}
    for key, one in models.items():
        columns = Columns(
            target=job["target_index"],
            time=job["ts_index"],
            group=tuple(job.get("groupby_indexs", ())),
            features=tuple(features.get(key, ())),
        )
        if columns.features not in read:
            read[columns.features] = _read(str(data["path"]), columns)
        found, columns = read[columns.features]
        if key not in found:
            raise UnknownName("model_config", "series", key, found)
        if found[key].status == REFUSED:
            raise TrainerError(f"model_config[{key!r}]: {found[key].reasons[-1]}")
        work.append((key, found[key], _job_of(one, str(data["path"]), columns, f"model_config[{key!r}]")))
    return work


def _read(path: str, columns: Columns) -> tuple[dict[str, Series], Columns]:
    try:
        return {one.key: one for one in read_series(path, columns)}, columns
    except TrainerError as error:
        if "ISO" not in str(error):
            raise
    american = Columns(columns.target, columns.time, columns.group, columns.features, US_DATES)
    return {one.key: one for one in read_series(path, american)}, american


def _parameters(config: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
    """One parameter stands as a dict, several as a list of them."""
    given = config.get("model_params", [])
    listed = [given] if isinstance(given, Mapping) else given
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) and "name" in one for one in listed):
        raise TrainerError(f"{place}.model_params: expected a dict with a name, or a list of them")
    return listed


def _job_of(config: Mapping[str, Any], path: str, columns: Columns, place: str) -> Job:
    space: dict[str, Any] = {}
    searcher: Mapping[str, Any] = {}
    for one in _parameters(config, place):
        value = one.get("value")
        if value is None and not one.get("searcher_config"):
            raise TrainerError(f"{place}.model_params: {one['name']!r} has neither a value nor a searcher_config")
        space[one["name"]] = value if value is not None else one["searcher_config"]
        searcher = one.get("searcher") or searcher
    criterion = searcher.get("criterion", {}).get("name", "mse")
    return Job(
        path,
        columns,
        {config.get("model_name", ""): space},
        horizon=HORIZON,
        season=1,
        trials=searcher.get("search_times", 100),
        metric=metrics.find_metric(criterion, f"{place}.criterion").name,
        metrics=("mse", "rmse"),
        engine=searcher.get("package", "hyperopt"),
        validation=LEGACY,
    )


def filled_in(config: Configs, row: dict[str, Any]) -> Configs:
    """One entry of the models' dict with its values and its performance. Raises TrainerError if its series failed."""
    filled = copy.deepcopy(config)
    if row["params"] is None:
        raise TrainerError(f"{row['label']}: {row['reasons'][-1]}")
    known = find_model(config["model_name"]).parameters
    for one in _parameters(filled, row["label"]):
        one["value"] = row["params"][find_parameter(known, one["name"], row["label"]).name]
    forecast = {point["time"]: point["value"] for point in row["forecast"]}
    filled["model_performance"] = [{"metrics": row["metrics"], "config": row["params"], "predictions": forecast}]
    return filled
