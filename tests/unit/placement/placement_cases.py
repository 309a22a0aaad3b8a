"""What the tests of placement share: options, schedulers with runtimes, and a predictor that has seen something."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from headway_bus.ids import TaskId
from headway_bus.records import Kind, Options, RuntimeInfo
from headway_controller.placement import Scheduler


def options(target: str = "module:function", **fields: object) -> Options:
    return Options(Kind.CALL, target, **fields)  # type: ignore[arg-type]


def with_runtimes(*infos: RuntimeInfo, round_trip: float = 0.0) -> Scheduler:
    scheduler = Scheduler()
    for info in infos:
        scheduler.add_runtime(info, 0.0, round_trip)
    return scheduler


def committed(scheduler: Scheduler, now: float) -> list[tuple[str, TaskId]]:
    commits = scheduler.dispatch(now)
    scheduler.validate()
    return [(commit.runtime, task) for commit in commits for task in commit.tasks]


def finish(scheduler: Scheduler, runtime: str, task: TaskId, seconds: float, now: float) -> None:
    scheduler.finished_many(runtime, [(task, seconds)], now)
    scheduler.validate()


def teach(scheduler: Scheduler, kind: Options, runtime: str, seconds: float, times: int = 10) -> None:
    """Let the predictor see ``times`` attempts that took ``seconds``."""
    scheduler.catalogue.work_of(kind).prediction.observe_many(runtime, [seconds] * times)


def calls_of(act: Callable[[], object]) -> int:
    """Calls of Python functions that this makes, and not those of a collection of garbage that comes just then: others in the
    process may be told of each (hypothesis is, by two calls)."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    was_collecting = gc.isenabled()
    gc.disable()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
        if was_collecting:
            gc.enable()
    return count
