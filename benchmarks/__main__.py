"""``make bench``: the bus and the bare transport side by side, in one sitting; writes benchmarks/results.md.

In each round the ceiling (:mod:`benchmarks.ceiling`) and headway are measured one after the other, so that what else the
machine does hits both; the ratio quoted is the median of the rounds' ratios. ``--ceiling FILE`` measures a second program
of the same command line and output beside ours. ``--quick`` takes two rounds of less. ``--python FILE``: the interpreter
for the peers (benchmarks/peers/), if it is another one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import bare_payload, ceiling, sections
from benchmarks.placement import cost

from headway.bench import loads, machine
from headway.bench.figures import Figure, figure, number, percentile
from headway.bench.plant import ONE_PROCESS, SEPARATE, Plant, spent
from headway.bench.report import QUICK, Extent, measure
from headway_bus import loops

HERE = Path(__file__).parent
RESULTS = HERE / "results.md"
PEER_SECONDS = 300
PLACED = 20_000
"""Tasks in one measurement of placement alone."""


Rates = dict[str, float]
Ceiling = Callable[[int, int, int, bool], Rates]
"""(tasks, window, chunk, one process) → the ceiling's figures."""


@dataclass
class Row:
    """One line of the table: ours and the ceilings', round by round."""

    what: str
    unit: str
    reach: str
    more_is_better: bool
    layout: str
    ours: list[float] = field(default_factory=list)
    ceilings: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """The median of the rounds' ratios of ours to the ceiling's."""
        return statistics.median(ours / bare for ours, bare in zip(self.ours, self.ceilings[name], strict=True))


def own_ceiling(tasks: int, window: int, chunk: int, one_process: bool) -> Rates:
    return ceiling.measure(tasks, window, chunk, one_process=one_process)


def other_ceiling(path: Path) -> Ceiling:
    """Another program with the same options and the same line of JSON."""

    def run(tasks: int, window: int, chunk: int, one_process: bool) -> Rates:
        sizes = ["--tasks", str(tasks), "--window", str(window), "--chunk", str(chunk), "--store"]
        port = ["--port", str(ceiling.free_port())]
        layout = ["--one-process"] if one_process else []
        command = [sys.executable, str(path), *sizes, *port, *layout]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found: Rates = json.loads(said.splitlines()[-1])
        return found

    return run


def rows_of(layout: str) -> dict[str, Row]:
    return {
        "mapped": Row("no-op tasks, mapped", "tasks/s", "≥ 0.40", True, layout),
        "single": Row("no-op tasks one by one, 2,000 open", "tasks/s", "≥ 0.50", True, layout),
        "processor": Row("no-op tasks, mapped: processor time, all processes", "µs a task", "", False, layout),
        "p50": Row("one task at a time, p50", "ms", "≤ 1.5", False, layout),
        "p99": Row("one task at a time, p99", "ms", "≤ 2", False, layout),
    }


def side_by_side(layout: str, extent: Extent, ceilings: dict[str, Ceiling]) -> list[Row]:
    """Rounds of ours and theirs by turns, on one bus that lives through all of them."""
    rows = rows_of(layout)
    one_process = layout == ONE_PROCESS
    few = max(loads.WINDOW, extent.tasks // 2)
    plant = Plant(layout)
    try:
        loops.run(_warm_up(plant))
        for turn in range(extent.rounds):
            say(f"{layout}: round {turn + 1} of {extent.rounds}")
            ours = loops.run(_once(plant, extent, few))
            for key, value in ours.items():
                rows[key].ours.append(value)
            for name, run in ceilings.items():
                for key, value in _once_bare(run, extent, few, one_process).items():
                    rows[key].ceilings.setdefault(name, []).append(value)
    finally:
        plant.stop()
    return list(rows.values())


async def _warm_up(plant: Plant) -> None:
    async with loads.connected(plant) as bus:
        await loads.map_all(bus, 10_000)
        await loads.submit_each(bus, loads.WINDOW)
        await loads.round_trips(bus, 200)


async def _once(plant: Plant, extent: Extent, few: int) -> Rates:
    async with loads.connected(plant) as bus:
        before, own = plant.processor_seconds(), time.process_time()
        mapped = extent.tasks / await loads.map_all(bus, extent.tasks)
        used = sum(spent(before, plant.processor_seconds()).values()) + time.process_time() - own
        single = few / await loads.submit_each(bus, few)
        await asyncio.sleep(0.5)
        trips = await loads.round_trips(bus, extent.trips)
    return {
        "mapped": mapped,
        "processor": 1e6 * used / extent.tasks,
        "single": single,
        "p50": 1e3 * percentile(trips, 0.5),
        "p99": 1e3 * percentile(trips, 0.99),
    }


def _once_bare(run: Ceiling, extent: Extent, few: int, one_process: bool) -> Rates:
    before = _processor_seconds()
    mapped = run(2 * extent.tasks, 5_000, 100, one_process)
    used = _processor_seconds() - before
    single = run(few, loads.WINDOW, 1, one_process)
    trips = run(extent.trips, 1, 1, one_process)
    return {
        "mapped": mapped["tasks_per_second"],
        "processor": 1e6 * used / (2 * extent.tasks),
        "single": single["tasks_per_second"],
        "p50": trips["round_trip_p50_us"] / 1e3,
        "p99": trips["round_trip_p99_us"] / 1e3,
    }


def _processor_seconds() -> float:
    """Of this process and of all that it has started and seen the end of."""
    parts = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(part.ru_utime + part.ru_stime for part in parts)


def payloads(extent: Extent) -> Row:
    row = Row("1 MiB argument echoed, 16 open", "echoes/s", "≥ 0.5", True, ONE_PROCESS)
    plant = Plant(ONE_PROCESS)
    try:
        for turn in range(extent.rounds):
            say(f"payload: round {turn + 1} of {extent.rounds}")
            found = loops.run(loads.payload(plant, 1, extent.echoes))
            row.ours.append(found[0].value)
            row.ceilings.setdefault("bare pyzmq", []).append(bare_payload.measure(2 * extent.echoes))
    finally:
        plant.stop()
    return row


def commands(extent: Extent) -> Row:
    row = Row("commands (true) against xargs -P2 sh -c true", "commands/s", "≥ 0.5", True, ONE_PROCESS)
    plant = Plant(ONE_PROCESS)
    try:
        for turn in range(extent.rounds):
            say(f"commands: round {turn + 1} of {extent.rounds}")
            found = {each.key: each.value for each in loops.run(loads.commands(plant, 1, extent.commands))}
            row.ours.append(found["commands"])
            row.ceilings.setdefault("xargs, a shell each", []).append(found["commands.xargs-shell"])
            row.ceilings.setdefault("xargs, no shell", []).append(found["commands.xargs"])
    finally:
        plant.stop()
    return row


REACHES = {
    "memory.queued": "≤ 1.0",
    "queued.ratio": "≤ 1.3",
    "idle": "≤ 10",
    "placed.ratio": "≤ 1.5",
    "import.library": "≤ 120",
    "import.help": "≤ 250",
}


def scales(extent: Extent) -> list[Figure]:
    found: list[Figure] = []
    for kind in ("scale", "recover"):
        say(f"{kind}: some minutes")
        for figures in measure(kind, extent):
            found += figures
    return found


def placements() -> list[Figure]:
    """What placing costs alone, without messages: the whole scheduler with simulated runtimes."""
    say("placement alone")
    found: list[Figure] = []
    for seconds in (0.001, 0.01):
        costs = {}
        for runtimes in (2, 1_000):
            rounds = [cost.measure(runtimes, PLACED, seconds, PLACED) for _ in range(3)]
            costs[runtimes] = [each.enqueue + each.decide for each in rounds]
            what = f"placement alone, tasks of {1000 * seconds:g} ms, {runtimes:,} runtimes: a task"
            found.append(figure(f"placed.{runtimes}", what, "µs", costs[runtimes]))
        ratio = statistics.median(costs[1_000]) / statistics.median(costs[2])
        found.append(figure("placed.ratio", "the second to the first", "×", [ratio]))
    single = {runtimes: cost.measure_singly(runtimes, PLACED // 4, 1.0) for runtimes in (2, 1_000)}
    what = "the same of tasks of 1 s that come and end one by one, each with a size of its own"
    found.append(figure("placed.ratio", what, "×", [single[1_000] / single[2]]))
    return found


def peers(python: str) -> list[dict[str, object]]:
    """What each of the peers' scripts says; those that are not installed say so."""
    found: list[dict[str, object]] = []
    for script in sorted((HERE / "peers").glob("peer_*.py")):
        say(f"peers: {script.stem.removeprefix('peer_')}")
        command = [python, str(script)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PEER_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            found.append({"name": script.stem.removeprefix("peer_"), "skipped": f"no end within {PEER_SECONDS} s"})
            continue
        lines = done.stdout.strip().splitlines()
        try:
            found.append(json.loads(lines[-1]))
        except (IndexError, ValueError):
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            found.append({"name": script.stem.removeprefix("peer_"), "skipped": f"it failed: {said[:200]}"})
    return found


# ---------------------------------------------------------------------------------------------- the page


def page(measured_on: str, rows: list[Row], figures: list[Figure], others: list[dict[str, object]]) -> str:
    lines = ["# Results", "", "Written by `make bench`; edit nothing here. What was tried: [notes.md](notes.md).", ""]
    lines += [f"Measured on {measured_on}.", ""]
    lines += [
        "Durability is `normal` in every row of headway's (an acceptance and an end survive `kill -9` of any process).",
        "Ratios are medians over the rounds, ours to theirs in the same round; brackets hold least and greatest.",
        "",
    ]
    lines += ["| what | layout | headway | bare | ratio | reach |", "|---|---|---|---|---|---|"]
    for row in rows:
        for name in row.ceilings:
            bare = f"{_spread(row.ceilings[name])} ({name})"
            ours = f"{_spread(row.ours)} {row.unit}"
            lines.append(f"| {row.what} | {row.layout} | {ours} | {bare} | **{row.ratio(name):.2f}** | {row.reach} |")
    lines += ["", "| what | headway | unit | reach |", "|---|---|---|---|"]
    for each in figures:
        spread = _spread([each.low, each.value, each.high]) if each.rounds > 1 else number(each.value)
        lines.append(f"| {each.what} | {spread} | {each.unit} | {REACHES.get(each.key, '')} |")
    if others:
        lines += ["", "## Peers", "", *_peers_lines(others, rows)]
    return "\n".join(lines) + "\n"


HEAD = ("", "mapped, tasks/s", "round trip p50, ms", "p99, ms", "memory a queued task, KiB", "what to know")


def _peers_lines(others: list[dict[str, object]], rows: list[Row]) -> list[str]:
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    own = {row.what: number(statistics.median(row.ours)) for row in rows if row.layout == ONE_PROCESS}
    if own:
        cells = [own["no-op tasks, mapped"], own["one task at a time, p50"], own["one task at a time, p99"]]
        lines.append(_line(["headway", *cells, "", "stored before it is accepted, and before its end is told"]))
    for peer in others:
        if "skipped" in peer:
            lines.append(_line([str(peer["name"]), "", "", "", "", str(peer["skipped"])]))
            continue
        found = (peer.get(key) for key in ("mapped", "p50", "p99", "memory"))
        cells = ["" if value is None else number(float(str(value))) for value in found]
        lines.append(_line([f"{peer['name']} {peer['version']}", *cells, str(peer["note"])]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(values: list[float]) -> str:
    return f"{number(statistics.median(values))} [{number(min(values))} – {number(max(values))}]"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ceiling", type=Path, help="a second program to measure as a ceiling")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", choices=("rows", "scale", "peers"), action="append")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    extent = QUICK if chosen.quick else Extent()
    extent = replace(extent, rounds=chosen.rounds or extent.rounds)
    wanted = chosen.only or ["rows", "scale", "peers"]
    measured_on = machine.in_words(machine.describe())
    ceilings: dict[str, Ceiling] = {"benchmarks/ceiling.py": own_ceiling}
    if chosen.ceiling:
        ceilings["the given ceiling"] = other_ceiling(chosen.ceiling)
    rows: list[Row] = []
    if "rows" in wanted:
        rows += [row for layout in (SEPARATE, ONE_PROCESS) for row in side_by_side(layout, extent, ceilings)]
        rows += [payloads(extent), commands(extent)]
    figures = placements() + scales(extent) if "scale" in wanted else []
    others = peers(chosen.python) if "peers" in wanted else []
    text = page(measured_on, rows, figures, others)
    chosen.out.write_text(text + sections.kept(chosen.out, "placement"))
    print(text)


if __name__ == "__main__":
    main()
