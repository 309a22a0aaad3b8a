"""Many clients played by one process, honestly on the wire: each is a whole client with a connection of its own, which
submits a task, waits for its value, and submits the next.

The runtimes are played as well (:mod:`headway.bench.players`), so what is measured is the hub.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import zmq

import headway
from headway.bench.figures import Figure, figure
from headway.bench.loads import NOTHING, connected
from headway.bench.plant import ONE_PROCESS, Plant, spent
from headway.bench.players import CONNECTING, SOCKETS, Players
from headway.bus import Bus

RUNTIMES = 2
SLOTS = 500.0
"""Of each of them: nobody waits for room."""

WITH_MONITOR = 4
"""Sockets that a client may need, its monitor's two ends and one to spare among them."""


@asynccontextmanager
async def crowd(url: str, count: int) -> AsyncIterator[list[Bus]]:
    """``count`` clients, connected."""
    zmq.Context.instance().set(zmq.MAX_SOCKETS, max(SOCKETS, WITH_MONITOR * count))
    async with AsyncExitStack() as stack:
        found: list[Bus] = []
        for start in range(0, count, CONNECTING):
            several = range(start, min(start + CONNECTING, count))
            entering = (stack.enter_async_context(headway.connect(url, timeout=30)) for _ in several)
            found += await asyncio.gather(*entering)
        yield found


async def one_after_another(bus: Bus, tasks: int) -> None:
    """One client's work."""
    for number in range(tasks):
        task = await bus.submit(NOTHING, number)
        if await task is not None:  # the players answer nothing, whatever was asked
            raise AssertionError(f"{task!r} gave a value, and nobody ran it")


async def served(clients: int, open_tasks: int, tasks: int) -> list[float]:
    """Microseconds of the hub's processor time for each task, ``open_tasks`` of them at a time, from so many clients."""
    plant = Plant(ONE_PROCESS, runtime=False)
    costs = []
    try:
        async with Players(plant.url, RUNTIMES, SLOTS), connected(plant, RUNTIMES), crowd(plant.url, clients) as buses:
            for each in range(4):
                before = plant.processor_seconds()
                await asyncio.gather(
                    *(one_after_another(buses[place % clients], tasks // open_tasks) for place in range(open_tasks))
                )
                if each:  # the first warms up
                    used = spent(before, plant.processor_seconds())["hub"]
                    costs.append(1e6 * used / (tasks // open_tasks * open_tasks))
    finally:
        plant.stop()
    return costs


async def clients(count: int, tasks: int) -> list[Figure]:
    """What a task costs the hub if one client has ``count`` open, and if ``count`` clients have one open each."""
    one, many = await served(1, count, tasks), await served(count, count, tasks)
    ratio = statistics.median(many) / statistics.median(one)
    what = f"hub's processor time a task, {count:,} open"
    return [
        figure("clients.1", f"{what}: by 1 client", "µs", one, layout=ONE_PROCESS),
        figure("clients.many", f"{what}: by {count:,} clients", "µs", many, layout=ONE_PROCESS),
        figure("clients.ratio", "the second to the first, messages and all", "×", [ratio], layout=ONE_PROCESS),
    ]
