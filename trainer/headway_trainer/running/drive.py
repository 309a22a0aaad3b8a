"""A study and whatever runs its trials, until the study is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway_bus.errors import TaskCancelled, TaskError, TaskLost
from headway_trainer.errors import StudyCancelled
from headway_trainer.studies.study import Study, Trial

MOST_LOSSES = 3
"""Times that one trial may be lost with its runtimes before it counts as failed: it may be what kills them."""

JOB_FILE = "job.json"
"""In the folder of a report: the job, with which ``resume`` goes on."""

STUDIES = "studies"
"""The folder of the studies' logs within that of a report."""

CANCELLED = ".cancelled"
"""Behind the name of a study's log, or of a report folder's job: somebody has cancelled it, and ``resume`` goes on."""


@dataclass(frozen=True)
class Told:
    """What came of one trial. ``cancelled``: somebody has cancelled its task."""

    loss: float | None = None
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    lost: bool = False
    cancelled: bool = False


Runner = Callable[[Trial], Awaitable[Told]]
Listener = Callable[[Study, Trial], None]


async def drive(
    study: Study,
    run: Runner,
    parallel: int,
    listener: Listener | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Ask, run at most ``parallel`` at the same time, tell. Cancelling this cancels what is running.

    ``check`` is called whenever trials have ended, and before one that was cancelled is told; what it raises ends the search.
    """
    flying: dict[asyncio.Task[Told], Trial] = {}
    losses: dict[int, int] = {}
    adopted = {trial.number for trial in study.pending}
    try:
        while not study.done:
            # In a thread: a suggestion takes some milliseconds, in which results of others would have to wait.
            while len(flying) < parallel and (trial := await asyncio.to_thread(study.ask)) is not None:
                flying[asyncio.create_task(_one(run, trial))] = trial
            ended, _ = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
            for one in sorted(ended, key=lambda one: one.result().cancelled):
                told = one.result()
                if told.cancelled:
                    check()
                trial = flying.pop(one)
                if told.cancelled and trial.number in adopted:
                    # It was cancelled together with the trainer that had submitted it.
                    adopted.discard(trial.number)
                    study.lost(trial.number)
                else:
                    _tell(study, trial, told, losses, listener)
            check()
    finally:
        for one in flying:
            one.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
        for trial in flying.values():
            study.lost(trial.number)


def _tell(study: Study, trial: Trial, told: Told, losses: dict[int, int], listener: Listener | None) -> None:
    if told.lost and losses.get(trial.number, 0) < MOST_LOSSES - 1:
        losses[trial.number] = losses.get(trial.number, 0) + 1
        study.lost(trial.number)
        return
    study.tell(trial.number, told.loss, reason=told.reason, result=told.result)
    if listener is not None:
        listener(study, trial)


async def _one(run: Runner, trial: Trial) -> Told:
    try:
        return await run(trial)
    except TaskLost as lost:
        return Told(reason=str(lost), lost=True)
    except TaskCancelled as cancelled:
        return Told(reason=str(cancelled), cancelled=True)
    except TaskError as failed:
        return Told(reason=last_line(str(failed)))


def last_line(text: str) -> str:
    """What a traceback says in the end."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def cancel_mark(place: Path) -> Path:
    """The file that says that the study at ``place``, or the job of the folder ``place``, was cancelled."""
    file = place / JOB_FILE if place.is_dir() else place
    return file.with_name(file.name + CANCELLED)


def lift_cancel(place: Path | None) -> None:
    """It is gone on with."""
    if place is not None:
        cancel_mark(place).unlink(missing_ok=True)


def check_not_cancelled(place: Path | None) -> None:
    """Raises StudyCancelled if somebody has cancelled it since it was begun."""
    if place is not None and cancel_mark(place).exists():
        raise StudyCancelled(f"{place}: it was cancelled; `headway study resume {place}` goes on with it")


def finished(study: Study) -> int:
    """How many trials have a result of whatever kind."""
    return sum(trial.status != "pending" for trial in study.trials)
