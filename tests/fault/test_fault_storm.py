"""2,000 tasks while everything is killed and suspended at random moments. ``make chaos`` does the same for ten minutes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fault_plant import Plant
from fault_storm import Storm


@pytest.mark.timeout(300)
def test_storm_over_two_thousand_tasks(make_plant: Callable[..., Plant]) -> None:
    """Nothing accepted is lost, nothing ends twice, and only a fault of its runtime makes a task run again."""
    storm = Storm(make_plant(heartbeat=1.0), seed=20, count=2_000)
    outcome = storm.run()
    print(outcome.describe())
    assert outcome.wrong == []
    assert outcome.tasks == 2_000
    assert len(outcome.faults) > 20
