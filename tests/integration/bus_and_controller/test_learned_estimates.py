"""What the estimates have learned outlives the controller's process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headway_bus.ids import new_task_ids
from headway_bus.records import Kind, Options, RuntimeInfo
from headway_controller.service import ControllerService

WORK = Options(Kind.CALL, "pkg.mod:work", meta={"method": "slow", "rows": 1000})


async def learn(folder: Path) -> float:
    service = ControllerService(folder)
    await service.open()
    scheduler, now = service.core.scheduler, service.now()
    scheduler.add_runtime(RuntimeInfo("one", 4.0), now)
    for _ in range(2):  # the second lot is foretold, and so scored
        tasks = new_task_ids(50)
        scheduler.enqueue_many(WORK, tasks, now)
        ended = 0
        while ended < len(tasks):
            now += 2.0
            for commit in scheduler.dispatch(now):
                scheduler.finished_many(commit.runtime, [(task, 2.0) for task in commit.tasks], now)
                ended += len(commit.tasks)
    _, _, ends = scheduler.waiting(WORK, now, "")
    assert ends.known
    scheduler.fleet.books["one"].turnarounds[0].on_ends(now, now, True, 4.0, 8, 2.0, 0.0)
    scheduler.fleet.books["one"].turnarounds[0].on_ends(now + 1.0, now, True, 4.0, 8, 3.6, 0.0)
    scheduler.remove_runtime("one")  # its turnaround is known all the same
    await service.close()
    return ends.expectation


async def recall(folder: Path) -> tuple[bool, float, float, float]:
    service = ControllerService(folder)
    await service.open()
    scheduler, now = service.core.scheduler, service.now()
    scheduler.add_runtime(RuntimeInfo("one", 4.0), now)
    _, _, ends = scheduler.waiting(WORK, now, "")
    count = scheduler.scores().get("", {}).get("count", 0.0)
    turnaround = scheduler.fleet.books["one"].turnarounds[0].seconds
    await service.close()
    return ends.known, ends.expectation, count, turnaround


def test_what_was_learned_is_known_after_a_restart(tmp_path: Path) -> None:
    before = asyncio.run(learn(tmp_path))
    known, after, count, turnaround = asyncio.run(recall(tmp_path))
    assert known
    assert abs(after - before) < 0.01 * before
    assert count > 0, "the scores go on, too"
    assert turnaround == pytest.approx(0.05), "of 4 slot-seconds 3.6 were run, by 8 attempts"
