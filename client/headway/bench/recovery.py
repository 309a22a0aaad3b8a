"""How soon a bus serves again whose broker and controller were killed with work on their hands."""

from __future__ import annotations

import time

from headway.bench.figures import Figure, figure
from headway.bench.loads import NOTHING, connected
from headway.bench.plant import ONE_PROCESS, Plant


async def recover(rounds: int, tasks: int) -> list[Figure]:
    """SIGKILL to the hub with ``tasks`` queued; then until it answers, and until every value is there."""
    answers, values = [], []
    for _ in range(rounds):
        plant = Plant(ONE_PROCESS)
        try:
            async with connected(plant) as bus:
                waiting = await bus.map(NOTHING, range(tasks))
                plant.kill_hub()
                began = time.perf_counter()
                plant.start_hub()
                await bus.jobs()
                answers.append(time.perf_counter() - began)
                for expected, task in enumerate(waiting):
                    if await task != expected:
                        raise AssertionError(f"{task!r} gave another value than {expected}")
                values.append(time.perf_counter() - began)
        finally:
            plant.stop()
    return [
        figure("recover.answer", f"killed with {tasks:,} tasks: until it answers", "s", answers, layout=ONE_PROCESS),
        figure("recover.values", "the same: until every value is there", "s", values, layout=ONE_PROCESS),
    ]
