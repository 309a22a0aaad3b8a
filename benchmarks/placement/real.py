"""The same scenarios on real processes: sleeping tasks on runtimes that are slowed, behind links that delay.

Everything is thirty times as slow as in the simulator (tasks of 300 ms in the mean, links of 6 and 150 ms): a machine of two
cores bears eight runtimes with 37 tasks a second between them, and what is measured is placement, not the machine.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.placement import ideal, workloads
from benchmarks.placement.scenarios import SPEEDS, Scenario, quantile

from headway.bench import loads
from headway.bench.plant import SEPARATE, Plant

SLOWER = 30.0
"""How many times as long everything takes as in the simulator."""
COUNT = 600
UNCOUNTED = 0.25
"""The share of tasks at the beginning that is not counted: a hundred and fifty, in which the speeds are learned."""
END_PATIENCE = 300.0


class Real(NamedTuple):
    """Latencies in seconds, at the client; ratios to the ideal central queue for the same tasks."""

    scenario: Scenario
    mean: float
    p99: float
    mean_ratio: float
    p99_ratio: float
    covered50: float
    covered90: float
    scored: int


def real_set() -> Iterator[Scenario]:
    """A third of the first set: every kind of work, a short and a long link, at one or two loads."""
    for delay in (0.0002, 0.005):
        for work in ("exp", "logn", "bim", "bimkey", "feat"):
            yield Scenario("first", work, 0.7, delay, 8)
        for work in ("exp", "feat"):
            yield Scenario("first", work, 0.9, delay, 8)
    yield Scenario("first", "exp", 0.5, 0.005, 8)


class FarPlant(Plant):
    """Broker and controller, and runtimes of unequal speed, each behind a link of that delay."""

    def __init__(self, speeds: list[float], delay: float) -> None:
        self._links: list[subprocess.Popen[str]] = []
        self.speeds, self._delay = speeds, delay
        super().__init__(SEPARATE, runtime=False)
        try:
            for index, speed in enumerate(speeds):
                self._start_runtime(index, max(speeds) / speed)
        except BaseException:
            self.stop()
            raise

    def _start_runtime(self, index: int, slow: float) -> None:
        place = self.url.removeprefix("tcp://")
        link = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.placement.proxy", "--to", place, "--delay", f"{self._delay}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._links.append(link)
        assert link.stdout is not None
        port = link.stdout.readline().strip()
        name = f"r{index:02}"
        arguments = [
            "runtime",
            "--bus",
            f"tcp://127.0.0.1:{port}",
            "--name",
            name,
            "--slots",
            "1",
            "--slow",
            f"{slow:g}",
        ]
        self._start(name, [*arguments, "--state", str(self.folder / name), "--config", str(self._config)])

    def stop(self) -> None:
        for name in [name for name in self.processes if name.startswith("r")]:
            process = self.processes.pop(name)
            process.terminate()
            process.wait()
        for link in self._links:
            assert link.stdin is not None
            link.stdin.close()
            link.wait()
        super().stop()


@contextmanager
def far_plant(scenario: Scenario) -> Iterator[FarPlant]:
    plant = FarPlant([SPEEDS[index % len(SPEEDS)] for index in range(scenario.runtimes)], scenario.delay * SLOWER)
    try:
        yield plant
    finally:
        plant.stop()


def run(scenario: Scenario, count: int = COUNT, seed: int = 1) -> Real:
    """Submit the tasks at their times, one by one, and see when their results are back."""
    speeds = [SPEEDS[index % len(SPEEDS)] for index in range(scenario.runtimes)]
    rate = scenario.load * sum(speeds) / workloads.MEAN_WORK
    tasks = [
        task._replace(arrival=task.arrival * SLOWER, work=task.work * SLOWER)
        for task in workloads.make(scenario.work, count, rate, seed)
    ]
    skipped = int(count * UNCOUNTED)
    reference = sorted(ideal.latencies(tasks, speeds, scenario.delay * SLOWER)[skipped:])
    with far_plant(scenario) as plant:
        latencies, scores = asyncio.run(_play(plant, tasks, max(speeds)))
    seen = sorted(latencies[skipped:])
    return Real(
        scenario,
        sum(seen) / len(seen),
        quantile(seen, 0.99),
        sum(seen) / sum(reference),
        quantile(seen, 0.99) / quantile(reference, 0.99),
        scores.get("p50", float("nan")),
        scores.get("p90", float("nan")),
        round(scores.get("count", 0.0)),
    )


async def _play(plant: FarPlant, tasks: list[workloads.Task], fastest: float) -> tuple[list[float], dict[str, float]]:
    async with loads.connected(plant, len(plant.speeds)) as bus:
        began = time.monotonic()

        async def one(task: workloads.Task) -> float:
            await asyncio.sleep(max(began + task.arrival - time.monotonic(), 0.0))
            sent = time.monotonic()
            # The slowest runtime sleeps as long as the work is at speed 1, the fastest that share of it.
            kind = bus.options(meta={**task.meta, "kind": task.target})
            await (await kind.submit("time:sleep", task.work / fastest))
            return time.monotonic() - sent

        async with asyncio.timeout(END_PATIENCE):
            latencies = await asyncio.gather(*(one(task) for task in tasks))
        return list(latencies), (await bus.scores()).get("*", {})
