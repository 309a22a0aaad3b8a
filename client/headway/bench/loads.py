"""Throughput, round trips, payloads, commands: what one client on one bus gets done.

Every task is real: submitted, stored, placed, run in a child process, its end stored, told and decoded. The functions that
run do nothing, so that what is left is the bus.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import headway
from headway.bench.figures import Figure, figure, percentile
from headway.bench.plant import Plant, spent
from headway.bus import Bus

NOTHING = "operator:index"
"""Gives back the number that it is given."""

ECHO = "copy:copy"
"""Gives back the bytes that it is given."""

WINDOW = 2_000
MEBIBYTE = 1 << 20


@asynccontextmanager
async def connected(plant: Plant, runtimes: int = 1) -> AsyncIterator[Bus]:
    """A client, as soon as the bus has that many runtimes."""
    async with headway.connect(plant.url, timeout=30) as bus:
        while len([each for each in await bus.runtimes() if each.state == "online"]) < runtimes:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
        yield bus


async def map_all(bus: Bus, count: int) -> float:
    """Seconds to map ``count`` tasks and have every value."""
    began = time.perf_counter()
    tasks = await bus.map(NOTHING, range(count))
    for expected, task in enumerate(tasks):
        if await task != expected:
            raise AssertionError(f"{task!r} gave {await task!r} instead of {expected}")
    return time.perf_counter() - began


async def submit_each(bus: Bus, count: int, window: int = WINDOW) -> float:
    """Seconds to submit ``count`` tasks one by one, at most ``window`` of them open, and have every value."""
    began = time.perf_counter()
    open_tasks: deque[asyncio.Task[None]] = deque()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            task = await bus.submit(NOTHING, number)
            if await task != number:
                raise AssertionError(f"{task!r} gave {await task!r} instead of {number}")

    open_tasks.extend(asyncio.create_task(work()) for _ in range(window))
    await asyncio.gather(*open_tasks)
    return time.perf_counter() - began


async def round_trips(bus: Bus, count: int) -> list[float]:
    """Seconds of each of ``count`` round trips, one after the other, sorted."""
    found = []
    for number in range(count):
        began = time.perf_counter()
        task = await bus.submit(NOTHING, number)
        await task
        found.append(time.perf_counter() - began)
    return sorted(found)


async def throughput(plant: Plant, rounds: int, tasks: int) -> list[Figure]:
    """Mapped in chunks, and one by one."""
    mapped, single, costs = [], [], []
    async with connected(plant) as bus:
        await map_all(bus, min(tasks, 5_000))
        for _ in range(rounds):
            before = plant.processor_seconds()
            mapped.append(tasks / await map_all(bus, tasks))
            costs.append(1e6 * sum(spent(before, plant.processor_seconds()).values()) / tasks)
        few = max(WINDOW, tasks // 3)
        await submit_each(bus, WINDOW)
        for _ in range(rounds):
            single.append(few / await submit_each(bus, few))
    where = {"layout": plant.layout, "durability": plant.durability}
    found = [
        figure("throughput.mapped", "no-op tasks, mapped", "tasks/s", mapped, better="more", **where),
        figure(
            "throughput.single", f"no-op tasks one by one, {WINDOW:,} open", "tasks/s", single, better="more", **where
        ),
    ]
    if any(costs):
        note = "all processes of the bus, the client not counted"
        found.append(figure("throughput.processor", "processor time of a mapped task", "µs", costs, note=note, **where))
    return found


async def latency(plant: Plant, rounds: int, trips: int) -> list[Figure]:
    """One task at a time, there and back."""
    half, ninety_nine = [], []
    async with connected(plant) as bus:
        await map_all(bus, 1_000)
        await round_trips(bus, 200)
        for _ in range(rounds):
            found = await round_trips(bus, trips)
            half.append(1e3 * percentile(found, 0.5))
            ninety_nine.append(1e3 * percentile(found, 0.99))
    blocking = await asyncio.to_thread(blocking_round_trips, plant, trips)
    where = {"layout": plant.layout, "durability": plant.durability}
    return [
        figure("latency.p50", "round trip of one task, p50", "ms", half, **where),
        figure("latency.p99", "round trip of one task, p99", "ms", ninety_nine, **where),
        figure("latency.blocking", "the same by the blocking client, p50", "ms", [1e3 * blocking], **where),
    ]


def blocking_round_trips(plant: Plant, trips: int) -> float:
    """Seconds, the median: ``bus.submit(…).result()``."""
    found = []
    with headway.Client(plant.url, timeout=30) as bus:
        for number in range(trips + 100):
            began = time.perf_counter()
            bus.submit(NOTHING, number).result()
            found.append(time.perf_counter() - began)
    return percentile(sorted(found[100:]), 0.5)


async def payload(plant: Plant, rounds: int, echoes: int) -> list[Figure]:
    """An argument of 1 MiB that comes back as the result, 16 on their way."""
    content = bytes(MEBIBYTE - 8)
    numbers = itertools.count()
    rates = []
    async with connected(plant) as bus:

        async def work(count: int) -> None:
            for _ in range(count):
                sent = next(numbers).to_bytes(8, "big") + content  # no two alike: equal values would be stored once
                if await (await bus.submit(ECHO, sent)) != sent:
                    raise AssertionError("an echo is not what was sent")

        for each in range(rounds + 1):
            began = time.perf_counter()
            await asyncio.gather(*(work(max(1, echoes // 16)) for _ in range(16)))
            if each:  # the first warms up
                rates.append(16 * max(1, echoes // 16) / (time.perf_counter() - began))
    what = "1 MiB argument and result, 16 open"
    where = {"layout": plant.layout, "durability": plant.durability}
    return [figure("payload.echo", what, "echoes/s", rates, better="more", **where)]


async def commands(plant: Plant, rounds: int, count: int) -> list[Figure]:
    """``true`` as a command line, against xargs with a shell for each line."""
    rates, bare, shells = [], [], []
    async with connected(plant) as bus:

        async def run_all() -> None:
            tasks = await asyncio.gather(*(bus.command("true") for _ in range(count)))
            for task in tasks:
                await task

        await run_all()
        for _ in range(rounds):
            began = time.perf_counter()
            await run_all()
            rates.append(count / (time.perf_counter() - began))
            if shutil.which("xargs"):
                bare.append(_xargs(count, ["true"]))
                shells.append(_xargs(count, ["sh", "-c", "true"]))
    where = {"layout": plant.layout, "durability": plant.durability}
    found = [figure("commands", "commands (true)", "commands/s", rates, better="more", **where)]
    if bare:
        found.append(figure("commands.xargs", "xargs -P2 true", "commands/s", bare, better="more", durability="none"))
        what = "xargs -P2 sh -c true, a shell for each as a command has"
        found.append(figure("commands.xargs-shell", what, "commands/s", shells, better="more", durability="none"))
    return found


def _xargs(count: int, command: list[str]) -> float:
    lines = b"x\n" * count
    began = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", *command], input=lines, check=True)
    return count / (time.perf_counter() - began)
