"""``search``: anything that a runtime can run is an objective."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway_trainer.errors import TrainerError
from headway_trainer.running.drive import Listener, Told, check_not_cancelled, drive, lift_cancel
from headway_trainer.running.objectives import (
    LOSS,
    Call,
    Command,
    Said,
    Script,
    objective_from,
    objective_of,
)
from headway_trainer.studies.study import Study, Trial

if TYPE_CHECKING:
    from headway import Bus, Task

GRACE = 0.5
"""Seconds between TERM and KILL for a trial that is stopped: it has nothing left that is worth waiting for."""


async def search(
    bus: Bus,
    objective: str | Callable[..., Any] | Call | Command | Script,
    space: Any,
    trials: int = 100,
    parallel: int = 8,
    *,
    engine: str = "hyperopt",
    seed: int = 0,
    mode: str = "async",
    pruning: Any = None,
    metric: str = LOSS,
    grace: float = GRACE,
    path: Path | str | None = None,
    listener: Listener | None = None,
) -> Study:
    """Find the values of ``space`` for which ``objective(**values)`` is least; each trial is one task.

    The objective returns a number, or a dict with ``loss``, all of which is kept in the trial's ``result``; or it is a
    :class:`Command` or a :class:`Script`, which says its loss by ``headway.metric`` or prints it. A trial that fails is
    told as failed; one that is lost is asked again.

    ``pruning``: "median" or "asha", or a dict with ``rule`` and its settings. Values of ``metric`` that a trial reports with
    ``headway.metric(metric, value, step)`` are compared with those of the others, and a loser is cancelled at once, with
    ``grace`` seconds between TERM and KILL; it is told as pruned with the value that it had.

    ``path``: the study's log; if it is there already the search goes on with it, and adopts trials that still run.
    Returns the study: ``.best.values``, ``.best.loss``, ``.trials``. Raises StudyCancelled if it was cancelled meanwhile.
    """
    if parallel < 1:
        raise TrainerError(f"search: parallel {parallel}; expected at least 1")
    runs = objective_of(objective)
    place = Path(path) if path is not None else None
    if place is not None and place.exists() and place.stat().st_size:
        study = Study.load(place)
    else:
        about = {"objective": runs.plain(), "parallel": parallel, "metric": metric, "grace": grace}
        options = {"engine": engine, "trials": trials, "seed": seed, "mode": mode, "batch": parallel}
        study = Study(space, pruning=pruning, about=about, path=place, **options)  # type: ignore[arg-type]
    await search_on(bus, study, runs, parallel, metric, grace, listener)
    return study


async def resume(bus: Bus, path: Path | str, listener: Listener | None = None) -> Study:
    """Go on with the search that wrote the log at ``path``, as it was begun. Raises TrainerError if that cannot be told."""
    place = Path(path)
    study = Study.load(place)
    about = study.about
    try:
        runs = objective_from(about.get("objective", {}), str(place))
    except TrainerError:
        study.close()
        raise
    arguments = (about.get("parallel", 8), about.get("metric", LOSS), about.get("grace", GRACE))
    await search_on(bus, study, runs, *arguments, listener)
    return study


def job_of(path: Path | str | None, study_id: str = "", kind: str = "search") -> str:
    """The job on the bus under which the trials of the study at ``path`` run: all of them can be cancelled by it."""
    if path is None:
        return f"{kind}-{study_id}"
    where = Path(path).resolve()
    return f"{kind}-{where.stem}-{hashlib.blake2b(str(where).encode(), digest_size=4).hexdigest()}"


async def search_on(
    bus: Bus,
    study: Study,
    objective: Any,
    parallel: int = 8,
    metric: str = LOSS,
    grace: float = GRACE,
    listener: Listener | None = None,
) -> None:
    """Run the trials of a study that somebody has made, until it is done; its log is closed then."""
    runs, place = objective_of(objective), study.path
    lift_cancel(place)
    # Trials may take from a runtime that dies what it ran: a second run of the same trial does no harm.
    options = bus.options(job=job_of(place, study.id), max_losses=1, grace=grace)
    is_heard = runs.is_process or study.pruning is not None

    async def run(trial: Trial) -> Told:
        own = options.options(name=f"trial {trial.number}", key=key_of(study, trial))
        task = await runs.submit(own, trial)
        if not is_heard:
            return told(await value_of(task))
        said = await _listen(study, trial, task, metric)
        if trial.stopped_at is not None:
            return Told()  # the study knows with which value
        value = await value_of(task)
        return told(said.value(metric) if runs.is_process else value)

    with study:
        await drive(study, run, parallel, listener, lambda: check_not_cancelled(place))


def key_of(study: Study, trial: Trial) -> str:
    """The task of a trial by name: a trainer that comes back finds the one that its predecessor submitted."""
    return f"{study.id}/{trial.number}/{trial.run}"


async def _listen(study: Study, trial: Trial, task: Task, metric: str) -> Said:
    """Hear the task to its end, or until it is a loser: then it is cancelled, and over when this returns."""
    said, attempt = Said(), 0
    try:
        async with aclosing(task.logs(follow=True)) as records:  # type: ignore[type-var]
            async for record in records:
                if record.attempt > attempt:  # the one before it was lost with its runtime
                    said, attempt = Said(), record.attempt
                    study.again(trial.number)
                said.hear(record)
                if record.stream == "metric" and record.text == metric:
                    value = float(record.fields.get("value", math.nan))
                    if study.report(trial.number, value, record.fields.get("step")):
                        await task.cancel()
                        break
    except BaseException:
        await abandon(task)
        raise
    return said


async def value_of(task: Task) -> Any:
    """The task's value; whoever stops waiting for it stops the task."""
    try:
        return await task
    except BaseException:
        await abandon(task)
        raise


async def abandon(task: Task) -> None:
    """Cancel what nobody waits for any more."""
    if task.outcome is None:
        with contextlib.suppress(Exception):
            await task.cancel()


def told(value: Any) -> Told:
    """What an objective's value says: a loss, or why there is none."""
    result = dict(value) if isinstance(value, Mapping) else {}
    loss = result.get("loss") if isinstance(value, Mapping) else value
    if isinstance(loss, bool) or not isinstance(loss, (int, float)):
        reason = result.get("reason") or f"the objective returned {value!r}; expected a number or a dict with 'loss'"
        return Told(reason=str(reason), result=plain(result))
    if not math.isfinite(loss):
        return Told(reason=f"the objective's loss is {loss}", result=plain(result))
    return Told(loss=float(loss), result=plain(result))


def plain(value: Any) -> Any:
    """``value`` as the log keeps it: what JSON has no form for becomes text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value)
