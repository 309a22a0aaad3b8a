"""The rate of log records that are kept: a burst, then so many a second, each task by itself."""

from __future__ import annotations

from headway_bus.ids import new_task_ids
from headway_controller.log_rate import BURST_SECONDS, REMEMBERED, LogRate


def test_a_burst_and_then_so_many_a_second() -> None:
    rate, (task, other) = LogRate(10.0), new_task_ids(2)
    burst = int(10 * BURST_SECONDS)
    assert [rate.exceeded(task, 0.0) for _ in range(burst + 1)] == [False] * burst + [True]
    assert not rate.exceeded(other, 0.0)
    kept = sum(not rate.exceeded(task, tick / 100) for tick in range(1, 501))
    assert 49 <= kept <= 51


def test_without_a_rate_everything_is_kept() -> None:
    rate, (task,) = LogRate(0.0), new_task_ids(1)
    assert not any(rate.exceeded(task, 0.0) for _ in range(100_000))


def test_it_remembers_no_more_than_it_may() -> None:
    rate = LogRate(1.0)
    for task in new_task_ids(REMEMBERED + 5):
        rate.exceeded(task, 0.0)
    assert len(rate._left) <= REMEMBERED
