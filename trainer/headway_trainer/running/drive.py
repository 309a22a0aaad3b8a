"""A study and whatever runs its trials, until the study is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from headway_bus.errors import TaskError, TaskLost
from headway_trainer.studies.study import DONE, Study, Trial

MOST_LOSSES = 3
"""Times that one trial may be lost with its runtimes before it counts as failed: it may be what kills them."""


@dataclass(frozen=True)
class Told:
    """What came of one trial."""

    loss: float | None = None
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    lost: bool = False


Runner = Callable[[Trial], Awaitable[Told]]
Listener = Callable[[Study, Trial], None]


async def drive(study: Study, run: Runner, parallel: int, listener: Listener | None = None) -> None:
    """Ask, run at most ``parallel`` at the same time, tell. Cancelling this cancels what is running."""
    flying: set[asyncio.Task[tuple[Trial, Told]]] = set()
    losses: dict[int, int] = {}
    try:
        while not study.done:
            # In a thread: a suggestion takes some milliseconds, in which results of others would have to wait.
            while len(flying) < parallel and (trial := await asyncio.to_thread(study.ask)) is not None:
                flying.add(asyncio.create_task(_one(run, trial)))
            ended, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
            for one in ended:
                _tell(study, *one.result(), losses, listener)
    finally:
        for one in flying:
            one.cancel()
        await asyncio.gather(*flying, return_exceptions=True)


def _tell(study: Study, trial: Trial, told: Told, losses: dict[int, int], listener: Listener | None) -> None:
    if told.lost and losses.get(trial.number, 0) < MOST_LOSSES - 1:
        losses[trial.number] = losses.get(trial.number, 0) + 1
        study.lost(trial.number)
        return
    study.tell(trial.number, told.loss, reason=told.reason, result=told.result)
    if listener is not None:
        listener(study, trial)


async def _one(run: Runner, trial: Trial) -> tuple[Trial, Told]:
    try:
        return trial, await run(trial)
    except TaskLost as lost:
        return trial, Told(reason=str(lost), lost=True)
    except TaskError as failed:
        return trial, Told(reason=_last_line(str(failed)))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def finished(study: Study) -> int:
    """How many trials have a result of whatever kind."""
    return sum(trial.status != "pending" for trial in study.trials)


def succeeded(study: Study) -> int:
    return sum(trial.status == DONE for trial in study.trials)
