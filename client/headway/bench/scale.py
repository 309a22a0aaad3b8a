"""What grows: memory of what waits, the cost of a task among a million, idle runtimes, placement among a thousand."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

from headway.bench.figures import Figure, figure
from headway.bench.loads import NOTHING, connected
from headway.bench.plant import ONE_PROCESS, Plant, spent
from headway.bench.players import Players

SETTLE_SECONDS = 2.0
IDLE_SECONDS = 10.0
KIBIBYTE = 1024


async def memory(tasks: int) -> list[Figure]:
    """The controller's memory for each task that waits, and none runs."""
    plant = Plant(ONE_PROCESS, runtime=False)
    try:
        async with connected(plant, 0) as bus:
            await bus.map(NOTHING, range(1_000))
            before = plant.resident_bytes(plant.controller)
            await bus.map(NOTHING, range(tasks))
            grown = plant.resident_bytes(plant.controller) - before
    finally:
        plant.stop()
    what = f"hub's memory for each of {tasks:,} queued tasks"
    return [figure("memory.queued", what, "KiB", [grown / tasks / KIBIBYTE], layout=ONE_PROCESS)]


async def drained(tasks: int) -> tuple[float, float]:
    """Microseconds for each of so many tasks that are all queued before the first runs: (by the clock, the hub's processor)."""
    plant = Plant(ONE_PROCESS)
    try:
        async with connected(plant) as bus:
            await bus.map(NOTHING, range(2_000))
            await bus.control("pause")
            before = plant.processor_seconds()
            began = time.perf_counter()
            waiting = await bus.map(NOTHING, range(tasks))
            await bus.control("resume")
            await waiting[-1].wait()
            for task in waiting:
                await task.wait()
            took = time.perf_counter() - began
            hub = spent(before, plant.processor_seconds())["hub"]
    finally:
        plant.stop()
    return 1e6 * took / tasks, 1e6 * hub / tasks


async def queued(few: int, many: int) -> list[Figure]:
    """Cost of a task when few wait and when many do."""
    rounds = [await drained(few) for _ in range(3)]
    short = statistics.median(each[0] for each in rounds), statistics.median(each[1] for each in rounds)
    long = await drained(many)
    return [
        figure(
            "queued.few",
            f"{few:,} queued, then drained: time a task",
            "µs",
            [each[0] for each in rounds],
            layout=ONE_PROCESS,
        ),
        figure("queued.many", f"{many:,} queued, then drained: time a task", "µs", [long[0]], layout=ONE_PROCESS),
        figure("queued.ratio", "the second to the first", "×", [long[0] / short[0]], layout=ONE_PROCESS),
        figure(
            "queued.processor-ratio",
            "the same of the hub's processor time",
            "×",
            [long[1] / short[1]],
            layout=ONE_PROCESS,
        ),
    ]


async def idle(runtimes: int) -> list[Figure]:
    """Broker and controller with so many runtimes that only live."""
    plant = Plant(ONE_PROCESS, runtime=False)
    try:
        async with Players(plant.url, runtimes), connected(plant, runtimes):
            await asyncio.sleep(SETTLE_SECONDS)
            shares = []
            for _ in range(3):
                before, began = plant.processor_seconds(), time.perf_counter()
                await asyncio.sleep(IDLE_SECONDS / 3)
                used = spent(before, plant.processor_seconds())["hub"]
                shares.append(100 * used / (time.perf_counter() - began))
    finally:
        plant.stop()
    return [figure("idle", f"{runtimes:,} idle runtimes: share of one core", "%", shares, layout=ONE_PROCESS)]


async def placed(runtimes: int, tasks: int) -> list[float]:
    """Microseconds of the hub's processor time for each task, among so many runtimes, of 1,000 slots together."""
    plant = Plant(ONE_PROCESS, runtime=False)
    costs = []
    try:
        async with Players(plant.url, runtimes, 1_000 / runtimes), connected(plant, runtimes) as bus:
            for each in range(4):
                before = plant.processor_seconds()
                for task in await bus.map(NOTHING, range(tasks)):
                    await task.wait()
                if each:  # the first warms up
                    costs.append(1e6 * spent(before, plant.processor_seconds())["hub"] / tasks)
    finally:
        plant.stop()
    return costs


async def placement(tasks: int) -> list[Figure]:
    """What a task costs the hub with 2 runtimes and with 1,000, messages and all."""
    two, thousand = await placed(2, tasks), await placed(1_000, tasks)
    ratio = statistics.median(thousand) / statistics.median(two)
    return [
        figure("placement.2", "hub's processor time a task, 2 runtimes", "µs", two, layout=ONE_PROCESS),
        figure("placement.1000", "hub's processor time a task, 1,000 runtimes", "µs", thousand, layout=ONE_PROCESS),
        figure("placement.ratio", "the second to the first, messages and all", "×", [ratio], layout=ONE_PROCESS),
    ]


def imports(rounds: int) -> list[Figure]:
    """What a client waits for before its first line, and a person before the help."""
    timed = "import time; t = time.perf_counter(); import headway; print(time.perf_counter() - t)"
    library, help_text = [], []
    for _ in range(rounds):
        said = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True).stdout
        library.append(1e3 * float(said))
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "headway", "--help"], check=True, capture_output=True)
        help_text.append(1e3 * (time.perf_counter() - began))
    return [
        figure("import.library", "import headway", "ms", library, durability="none"),
        figure("import.help", "headway --help", "ms", help_text, durability="none"),
    ]
