"""``search``: any function that a runtime can import is an objective."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway_trainer.errors import TrainerError
from headway_trainer.running.drive import Listener, Told, drive
from headway_trainer.studies.study import Study, Trial

if TYPE_CHECKING:
    from headway import Bus, Task

JOB = "search"


async def search(
    bus: Bus,
    objective: str | Callable[..., Any],
    space: Any,
    trials: int = 100,
    parallel: int = 8,
    *,
    engine: str = "hyperopt",
    seed: int = 0,
    mode: str = "async",
    path: Path | str | None = None,
    listener: Listener | None = None,
) -> Study:
    """Find the values of ``space`` for which ``objective(**values)`` is least; each trial is one task.

    The objective returns a number, or a dict with ``loss``, all of which is kept in the trial's ``result``. A trial that
    fails is told as failed; one that is lost is asked again. ``path``: the study's log; if it is there already the
    search goes on with it. Returns the study: ``.best.values``, ``.best.loss``, ``.trials``.
    """
    if parallel < 1:
        raise TrainerError(f"search: parallel {parallel}; expected at least 1")
    place = Path(path) if path is not None else None
    if place is not None and place.exists() and place.stat().st_size:
        study = Study.load(place)
    else:
        study = Study(space, engine=engine, trials=trials, seed=seed, mode=mode, batch=parallel, path=place)
    # Trials may take from a runtime that dies what it ran: a second run of the same trial does no harm.
    options = bus.options(job=JOB, max_losses=1)

    async def run(trial: Trial) -> Told:
        task = await options.options(name=f"trial {trial.number}").submit(objective, **trial.values)
        return told(await value_of(task))

    with study:
        await drive(study, run, parallel, listener)
    return study


async def value_of(task: Task) -> Any:
    """The task's value; whoever stops waiting for it stops the task."""
    try:
        return await task
    except BaseException:
        if task.outcome is None:
            with contextlib.suppress(Exception):
                await task.cancel()
        raise


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
