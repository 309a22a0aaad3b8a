"""Thousands of edge agents on one broker: ``python -m benchmarks.agents [--agents 5000]``. Real hub, agents played.

What the broker and the controller use while nobody does anything (heartbeats of 10 s); how long it takes, after the broker was
killed, until every agent is registered again, and what a client that is not concerned sees meanwhile; a union over 2,000.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from benchmarks.recover import Hub, kill, until

import headway

IN_ONE_PROCESS = 1_000
HEARTBEAT = 10.0
IDLE_SECONDS = 30.0
UNION = 2_000
MEBIBYTE = 1 << 20


class Trips:
    """A client that sends one task after another to a runtime of its own, and notes how long each took."""

    def __init__(self, bus: headway.Client) -> None:
        self._work = bus.options(runtime="worker-0", name="trip")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []

    def __enter__(self) -> Trips:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._work.submit("benchmark:trip").result(60)
            self.seconds.append(time.monotonic() - began)

    def describe(self) -> str:
        """p50, p99 and the longest, in milliseconds."""
        cuts = statistics.quantiles(self.seconds, n=100)
        return (
            f"{cuts[49] * 1e3:.1f} / {cuts[98] * 1e3:.1f} / {max(self.seconds) * 1e3:.0f} ms of {len(self.seconds):,}"
        )


def idle(hub: Hub) -> None:
    for name, process in (("broker", hub.broker), ("controller", hub.controller)):
        hub_process = psutil.Process(process.pid)
        before, began = sum(hub_process.cpu_times()[:2]), time.monotonic()
        time.sleep(IDLE_SECONDS)
        share = (sum(hub_process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        size = hub_process.memory_info().rss / MEBIBYTE
        print(f"idle, {name}: {share:.1%} of a core, {size:,.0f} MiB", flush=True)


def registered(hub: Hub, groups: list[str], since: float) -> set[str]:
    return {line.runtime for group in groups for line in hub.lines(group, "register", since)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=5_000)
    agents = parser.parse_args().agents
    parts = [min(IN_ONE_PROCESS, agents - first) for first in range(0, agents, IN_ONE_PROCESS)]
    groups = [f"group{at}" for at in range(len(parts))]
    with (
        tempfile.TemporaryDirectory(prefix="headway-agents-") as folder,
        Hub(Path(folder)) as hub,
        headway.Client(hub.url, timeout=30) as bus,
    ):
        hub.play(1, 1.0, "worker")
        began = time.monotonic()
        for group, count in zip(groups, parts, strict=True):
            hub.play(count, 1.0, group, str(HEARTBEAT))
        until(lambda: len(registered(hub, groups, 0.0)) == agents, f"all {agents:,} agents are registered")
        print(f"{agents:,} agents registered after {time.monotonic() - began:.1f} s", flush=True)
        idle(hub)
        with Trips(bus) as trips:
            time.sleep(5.0)
        print(f"a client's round trips (p50 / p99 / longest), nothing else: {trips.describe()}", flush=True)
        with Trips(bus) as trips:
            time.sleep(1.0)
            killed = kill(hub.broker)
            hub.start_broker()
            until(lambda: len(registered(hub, groups, killed)) == agents, "all are back")
            back = time.monotonic() - killed
        print(f"broker killed: all {agents:,} registered again after {back:.1f} s (wanted: 30)", flush=True)
        print(f"a client's round trips meanwhile, the broker's absence among them: {trips.describe()}", flush=True)
        print(f"connections cut as half-open: {bus.counters()['broker'].get('cut.half-open', 0)}", flush=True)
        print(f"attempts lost: {bus.counters()['controller'].get('attempts.lost', 0)}", flush=True)
        chosen = groups[: max(1, UNION // IN_ONE_PROCESS)]
        began = time.monotonic()
        union = bus.options(edges=f"played in ({', '.join(chosen)})").union("benchmark:part")
        result = union.result(120)
        took = time.monotonic() - began
        print(f"a union over {len(result):,} of them: {took:.2f} s from its submission to its result", flush=True)
    return 0 if back < 30.0 else 1


if __name__ == "__main__":
    sys.exit(main())
