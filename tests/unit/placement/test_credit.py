"""How much is given ahead: up to the horizon, also to tasks that are not alike, and then not again for each that ends."""

from __future__ import annotations

import pytest
from placement_cases import committed, finish, options, teach

from headway_bus.ids import TaskId
from headway_bus.records import RuntimeInfo
from headway_controller.placement import Scheduler


def filled(ahead: float) -> tuple[Scheduler, list[TaskId]]:
    """A runtime with one slot that was given as much as it may have of tasks of 1 ms that differ in their names."""
    scheduler = Scheduler(batch_interval=ahead)
    scheduler.add_runtime(RuntimeInfo("r", 1.0), 0.0)
    teach(scheduler, options(name="n"), "r", 0.001, times=50)
    for number in range(300):
        scheduler.enqueue_many(options(name=f"n{number}"), [TaskId(number.to_bytes(16, "big"))], 0.0)
    return scheduler, [task for _, task in committed(scheduler, 0.0)]


@pytest.mark.parametrize(("ahead", "least", "most"), [(0.002, 2, 10), (0.03, 25, 70)])
def test_tasks_that_differ_in_name_are_given_up_to_the_horizon(ahead: float, least: int, most: int) -> None:
    _, given = filled(ahead)
    assert least <= len(given) <= most


def test_after_that_a_share_of_it_has_to_run_before_there_is_more() -> None:
    scheduler, given = filled(0.03)
    more, now, ended = [], 0.0, 0
    while not more:
        now += 0.001
        finish(scheduler, "r", given[ended], 0.001, now)
        ended += 1
        more = committed(scheduler, now)
    assert ended >= 3
    assert len(more) >= 3
