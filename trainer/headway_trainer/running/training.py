"""``train``: for every series of a file the models, their parameters, a forecast with honest metrics.

Where a trial costs little a whole study is one task, else each trial is one: a task costs the bus about a millisecond.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headway_bus.errors import TaskCancelled, TaskError
from headway_trainer.errors import TrainerError
from headway_trainer.models.files import save_model
from headway_trainer.models.registry import find_model, make_model, wire_name
from headway_trainer.running import report as reports
from headway_trainer.running.drive import (
    JOB_FILE,
    STUDIES,
    Told,
    check_not_cancelled,
    drive,
    finished,
    last_line,
    lift_cancel,
)
from headway_trainer.running.job import Job
from headway_trainer.running.searching import job_of, key_of, told, value_of
from headway_trainer.running.trial import SERIES, run_trial
from headway_trainer.series import check_leaks, read_series
from headway_trainer.series.record import REFUSED, SHORT, Series
from headway_trainer.studies.log import held
from headway_trainer.studies.space import Fixed
from headway_trainer.studies.study import Study, Trial

if TYPE_CHECKING:
    from headway import Bus

HOME = "headway_trainer.running.trial"
MODELS = "models"
"""The folder of exported models within that of the report."""

CHEAP = 0.005
"""Seconds of a trial below which a study is one task."""

AT_LEAST = "Naive"
"""The model that a series gets which is too short for a search."""

LONG = 16 * 1024
"""Bytes of a series from which it travels as a file."""

SERIES_AT_ONCE = 64
"""Series whose tasks are on the bus at the same time: enough for many runtimes, and few enough to be soon cancelled."""

Progress = Callable[[int, int], None]
"""Called with trials done and trials in all."""

Listener = Callable[[dict[str, Any], int, int], None]
"""Called with the row of a series that has just ended, how many have, and how many there are."""


@dataclass
class Training:
    """A job under way: its parts that every series needs."""

    bus: Bus
    job: Job
    folder: Path | None
    whole: frozenset[str]
    progress: Progress
    total: int
    done: int = 0
    listener: Listener | None = None
    series: int = 0
    ended: int = 0
    attached: dict[int, Bus] = field(default_factory=dict)
    by_season: dict[int, Job] = field(default_factory=dict)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SERIES_AT_ONCE))

    @cached_property
    def name(self) -> str:
        """The job on the bus under which all its tasks run."""
        return job_name(self.folder)

    def job_of(self, series: Series) -> Job:
        """The job with the season of this series."""
        season = self.job.season_of(series)
        if season not in self.by_season:
            self.by_season[season] = replace(self.job, season=season)
        return self.by_season[season]

    def count(self, trials: int) -> None:
        self.done += trials
        self.progress(self.done, self.total)

    def end(self, row: dict[str, Any]) -> dict[str, Any]:
        """Tell of a series that has ended."""
        self.ended += 1
        if self.listener is not None:
            self.listener(row, self.ended, self.series)
        return row


def job_name(folder: Path | None) -> str:
    """The job on the bus of a training with this report folder."""
    return "train" if folder is None else job_of(folder, kind="train")


async def train(
    bus: Bus,
    job: Job | dict[str, Any],
    *,
    folder: Path | str | None = None,
    progress: Progress | None = None,
    listener: Listener | None = None,
    plots: int = 0,
) -> dict[str, Any]:
    """Train a job and return its results as plain data; with ``folder`` also write them there, with the studies' logs.

    A folder that has logs of the same job is gone on with. ``plots``: of how many series a picture is drawn in it, besides
    a page with the whole report. Raises TrainerError before anything runs for whatever is wrong with the job or the file
    as a whole; a bad series has its status and reasons in the results instead.
    """
    checked = job if isinstance(job, Job) else Job.from_plain(job)
    place = Path(folder) if folder is not None else None
    if plots:
        check_plots(place)
    series, warnings = await asyncio.to_thread(prepare, checked)
    if place is None:
        return await _trained(bus, checked, None, series, warnings, progress, listener)
    checked = keep_job(checked, place)
    busy = f"{place}: another program runs this training; `headway study cancel {place}` stops it"
    with held(place / JOB_FILE, busy):
        lift_cancel(place)
        results = await _trained(bus, checked, place, series, warnings, progress, listener)
        await asyncio.to_thread(reports.write, results, place, checked)
        if plots:
            from headway_trainer.running.pictures import (
                write_pictures,
            )  # here: the library is an extra, and slow to load

            await asyncio.to_thread(write_pictures, series, results, place, plots)
    return results


async def _trained(
    bus: Bus,
    job: Job,
    folder: Path | None,
    series: list[Series],
    warnings: list[str],
    progress: Progress | None,
    listener: Listener | None,
) -> dict[str, Any]:
    usable = [one for one in series if one.status not in (REFUSED, SHORT)]
    total = len(usable) * sum(_studied(job, model) for model in job.models)
    whole = await asyncio.to_thread(_whole_studies, job, usable)
    training = Training(bus, job, folder, whole, progress or _silent, total, listener=listener, series=len(series))
    rows = await all_or_none([_row(training, number, one) for number, one in enumerate(series)])
    return reports.results(job, rows, warnings)


def check_plots(folder: Path | None) -> None:
    """Raises TrainerError where no pictures can be drawn, before hours of training have gone by."""
    if folder is None:
        raise TrainerError("plots: they need a folder to be written to; give one")
    if find_spec("matplotlib") is None:
        raise TrainerError("plots need matplotlib: pip install 'headway[plot]', or ask for 0 plots")


async def all_or_none(work: list[Coroutine[Any, Any, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What all of them return; the first that raises ends the others, and with them their tasks on the bus."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def train_series(bus: Bus, job: Job, series: Series) -> dict[str, Any]:
    """One series that has been read already: its row of the results. Each study is one task."""
    return await _row(Training(bus, job, None, frozenset(job.models), _silent, 0), 0, series)


def _silent(_done: int, _total: int) -> None:
    """Nobody looks."""


def prepare(job: Job) -> tuple[list[Series], list[str]]:
    """Read the file and refuse what cannot be trained at all; the series, and warnings about the whole."""
    for model in job.models:
        wire_name(model)
    series = read_series(job.path, job.columns, job.policies)
    if all(one.status == REFUSED for one in series):
        raise TrainerError(f"{job.path}: no series can be trained. {series[0].label}: {series[0].reasons[-1]}")
    warnings = check_leaks(series, [str(one) for one in job.columns.features])
    if warnings and job.leaks == "refuse":
        raise TrainerError(f"job.features: {warnings[0]}. Leave them out, or set leaks = 'warn'")
    if job.columns.features and not any(find_model(model).uses_features for model in job.models):
        warnings.append(f"features are given, and none of {', '.join(job.models)} uses any")
    return series, warnings


def keep_job(job: Job, folder: Path) -> Job:
    """Write ``job.json``, or see that the one which is there says the same.

    Returns it as it stands there: with the whole path of the data, so that it can be gone on with from everywhere.
    """
    job = replace(job, path=str(Path(job.path).resolve()))
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / JOB_FILE, json.dumps(job.plain(), indent=2) + "\n"
    if not path.exists():
        reports.put(path, text)
    elif _job_at(path) != json.loads(text):
        raise TrainerError(f"{folder}: it holds the results of another job; give another folder")
    return job


def _job_at(path: Path) -> dict[str, Any]:
    """A job's file; the data's path as a whole, which older ones have from where the training was begun."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        return {**there, "path": str(Path(there["path"]).resolve())}
    except (ValueError, TypeError, KeyError):
        return {}


def _studied(job: Job, model: str) -> int:
    """Trials that a study of this model has; 0 where nothing is left to search."""
    size = job.spaces[model].size
    return 0 if size == 1 or not job.trials else min(job.trials, size or job.trials)


def _whole_studies(job: Job, usable: list[Series]) -> frozenset[str]:
    """The models whose studies are one task each: as the job says, or by the time of a trial on the longest series."""
    if job.granularity != "auto" or not usable:
        return frozenset(job.models if job.granularity != "trial" else ())
    longest = max(usable, key=lambda one: len(one.values))
    own = replace(job, season=job.season_of(longest))
    return frozenset(model for model in job.models if _seconds_of_trial(own, model, longest) < CHEAP)


def _seconds_of_trial(job: Job, model: str, series: Series) -> float:
    """The first one may import a library, so a slow one is taken again. What fails here will be told by the runtime."""
    first = Study(job.spaces[model], engine="random", trials=1).ask()
    seconds = CHEAP
    for _ in range(2):
        began = time.perf_counter()
        with contextlib.suppress(Exception):
            run_trial(model, first.values if first else {}, series.values, series.features, job.settings)
        seconds = time.perf_counter() - began
        if seconds < CHEAP:
            break
    return seconds


async def _row(training: Training, number: int, series: Series) -> dict[str, Any]:
    """One series from its studies to its forecast. What goes wrong with it is its own status and stops no other."""
    if series.status == REFUSED:
        return training.end(reports.row(series, [], training.job))
    async with training.gate:
        models, failures = [], []
        short = series.status == SHORT
        for model in (AT_LEAST,) if short else training.job.models:
            try:
                if short:
                    models.append(await _forecast(training, number, model, {}, series))
                else:
                    models.append(await _model(training, number, model, series))
            except TaskError as failed:
                check_not_cancelled(training.folder)
                failures.append(f"{model}: {last_line(str(failed))}")
    return training.end(reports.row(series, models, training.job_of(series), failures))


async def _model(training: Training, number: int, model: str, series: Series) -> dict[str, Any]:
    trials = _studied(training.job, model)
    params = _fixed(training.job_of(series), model)
    told_of: list[dict[str, Any]] = []
    if trials:
        study = await _study(training, number, model, series)
        params = study.best.values if study.best else params
        told_of = [{"number": t.number, "status": t.status, "loss": t.loss, "reason": t.reason} for t in study.trials]
    found = await _forecast(training, number, model, params, series)
    return found | {"trials": told_of}


def _fixed(job: Job, model: str) -> dict[str, Any]:
    """What is not searched; the model has its own defaults for the rest."""
    return {name: one.value for name, one in job.spaces[model].dimensions.items() if isinstance(one, Fixed)}


async def _carried(training: Training, number: int, series: Series) -> tuple[Bus, Any, Any]:
    """The bus for the tasks of a series, and its arrays as their arguments. Those of a long one go to each runtime once, as
    an attached file, and not with every trial."""
    weight = series.values.nbytes + (series.features.nbytes if series.features is not None else 0)
    if weight < LONG:
        return training.bus, series.values, series.features
    if number not in training.attached:
        arrays = {"values": series.values} | ({} if series.features is None else {"features": series.features})
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # the stubs take any name for the option allow_pickle
        training.attached[number] = await training.bus.attach({SERIES: content.getvalue()})
    return training.attached[number], None, None


async def _forecast(
    training: Training, number: int, model: str, params: dict[str, Any], series: Series
) -> dict[str, Any]:
    bus, values, features = await _carried(training, number, series)
    options = bus.options(job=training.name, name=f"forecast {series.label}", idempotent=True, meta={"model": model})
    arguments = (wire_name(model), params, values, features, training.job_of(series).settings)
    found: dict[str, Any] = await value_of(await options.submit(f"{HOME}:run_forecast", *arguments))
    found["model"] = model
    state = found.pop("state", None)
    if state is not None and training.folder is not None:
        fitted = make_model(model, found["params"])
        fitted.state = state
        about = {"series": series.key, "last": str(series.times[-1]) if len(series.times) else None}
        place = training.folder / MODELS / f"{number:05d}-{model.replace(':', '.')}"
        await asyncio.to_thread(save_model, fitted, place, about)
        found["file"] = str(place.relative_to(training.folder))
    return found


async def _study(training: Training, number: int, model: str, series: Series) -> Study:
    job = training.job_of(series)
    path = training.folder / STUDIES / f"{number:05d}-{model.replace(':', '.')}.jsonl" if training.folder else None
    resumed = path is not None and path.exists() and path.stat().st_size > 0
    if resumed and path is not None:
        study = await asyncio.to_thread(Study.load, path)
    else:
        name = f"{series.key}/{model}"
        options = {"engine": job.engine, "trials": job.trials, "seed": job.seed, "mode": job.mode}
        study = Study(job.spaces[model], series=name, batch=job.parallel, path=path, **options)  # type: ignore[arg-type]
    before = finished(study)
    training.count(before)
    with study:
        if model not in training.whole:
            await _by_trials(training, study, number, model, series)
        elif not study.done:
            await _as_a_whole(training, study, number, model, series, resumed)
            training.count(finished(study) - before)
    return study


async def _by_trials(training: Training, study: Study, number: int, model: str, series: Series) -> None:
    bus, values, features = await _carried(training, number, series)
    options = bus.options(job=training.name, name=f"{model} {series.label}", max_losses=1, meta={"model": model})
    settings = training.job_of(series).settings

    async def run(trial: Trial) -> Told:
        arguments = (wire_name(model), trial.values, values, features, settings)
        own = options.options(key=key_of(study, trial))
        return told(await value_of(await own.submit(f"{HOME}:run_trial", *arguments)))

    folder = training.folder
    await drive(
        study, run, training.job.parallel, lambda _study, _trial: training.count(1), lambda: check_not_cancelled(folder)
    )


async def _as_a_whole(training: Training, study: Study, number: int, model: str, series: Series, resumed: bool) -> None:
    name = f"{model} {series.label}"
    bus, values, features = await _carried(training, number, series)
    options = bus.options(job=training.name, name=name, idempotent=True, meta={"model": model})
    arguments = (wire_name(model), study.state(), values, features, training.job_of(series).settings)
    # Named, so that a trainer that comes back finds the task that its predecessor has submitted.
    own = options.options(key=f"{study.id}/{finished(study)}")
    try:
        state = await value_of(await own.submit(f"{HOME}:run_study", *arguments))
    except TaskCancelled:
        check_not_cancelled(training.folder)
        if not resumed:
            raise
        state = await value_of(await options.submit(f"{HOME}:run_study", *arguments))  # that one died with the trainer
    await asyncio.to_thread(study.absorb, state)
