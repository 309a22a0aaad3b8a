"""A played runtime keeps to the protocol: the controller believes it, and no report of it is repeated."""

from __future__ import annotations

import asyncio

from headway.bench.loads import NOTHING, connected
from headway.bench.plant import ONE_PROCESS, Plant
from headway.bench.players import Players
from headway_bus import loops

RUNTIMES = 5
TASKS = 500


def test_played_runtimes_take_their_share_and_are_settled() -> None:
    plant = Plant(ONE_PROCESS, runtime=False)

    async def main() -> None:
        async with Players(plant.url, RUNTIMES) as played, connected(plant, RUNTIMES) as bus:
            tasks = await bus.map(NOTHING, range(TASKS))
            for task in tasks:
                await task.wait()
            assert played.ran == TASKS
            assert all(player.ran for player in played.players)
            while any(len(player._reports) for player in played.players):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)  # settled in company, within a tick
            counters = (await bus.counters())["controller"]
            assert not counters.get("digests.different") and not counters.get("reports.fenced")

    try:
        loops.run(main())
    finally:
        plant.stop()
