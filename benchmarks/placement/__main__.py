"""``python -m benchmarks.placement``: measure all of it, print it, and write it into benchmarks/results.md.

The whole is 45 + 60 simulated scenarios of 40,000 tasks under the default policy, a third of them with 6,000 under each of the
others, 15 on real processes, and what a decision costs: 20 minutes on two cores. ``--quick`` is a third of the scenarios with
6,000 tasks, simulated only: 20 seconds, and nothing is written. Run it from the root of the repository. The same seed gives
the same simulated figures; only costs and real runs depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import sections
from benchmarks.placement import cost, real, tables
from benchmarks.placement.scenarios import (
    FULL_COUNT,
    QUICK_COUNT,
    Outcome,
    Scenario,
    first_set,
    quick_set,
    run,
    second_set,
)

from headway.bench import machine
from headway_controller.placement.strategies import BUILT_IN

DEFAULT = "headway_completion"
OTHERS = [name for name in BUILT_IN if name != DEFAULT]
RESULTS = Path(__file__).parents[1] / "results.md"
SECTION = "placement"


class Figures(NamedTuple):
    outcomes: list[Outcome]
    """Of the default policy."""
    others: list[Outcome]
    """Of all policies over the quick set."""
    costs: list[cost.Cost]
    singly: list[tuple[int, float]]
    real: list[real.Real]


def one(job: tuple[Scenario, str], count: int, seed: int) -> Outcome:
    return run(job[0], count, seed, job[1])


def simulate(policies: Sequence[str], quick: bool, count: int, seed: int, processes: int) -> list[Outcome]:
    scenarios = list(quick_set()) if quick else [*first_set(), *second_set()]
    jobs = [(scenario, policy) for policy in policies for scenario in scenarios]
    work = partial(one, count=count, seed=seed)
    if processes <= 1:
        return [work(job) for job in jobs]
    with Pool(processes) as pool:
        return pool.map(work, jobs, chunksize=1)


def measure_costs(quick: bool) -> tuple[list[cost.Cost], list[tuple[int, float]]]:
    cases = [(2, 10_000, 0.001), (64, 10_000, 0.001), (1000, 100_000, 0.001), (2, 100_000, 0.00002)]
    if not quick:
        cases += [(2, 1_000_000, 0.001), (1000, 1_000_000, 0.001), (2, 10_000, 0.05), (1000, 20_000, 0.05)]
    found = [
        cost.measure(runtimes, queued, seconds, min(queued, 50_000) if runtimes > 100 else 10_000)
        for runtimes, queued, seconds in cases
    ]
    return found, [(runtimes, cost.measure_singly(runtimes, 3000, 0.01)) for runtimes in (2, 64, 1000)]


def run_real(seed: int) -> list[real.Real]:
    found = []
    for scenario in real.real_set():
        print(f"on processes: {scenario.name}", file=sys.stderr, flush=True)
        found.append(real.run(scenario, seed=seed))
    return found


def measure(
    quick: bool, policies: Sequence[str], count: int, seed: int, processes: int, parts: Sequence[str]
) -> Figures:
    outcomes = simulate([DEFAULT], quick, count, seed, processes) if "default" in parts else []
    few = min(count, QUICK_COUNT)
    others = simulate(policies, True, few, seed, processes) if "policies" in parts and policies else []
    costs, singly = measure_costs(quick) if "costs" in parts else ([], [])
    return Figures(outcomes, others, costs, singly, run_real(seed) if "real" in parts else [])


def merged(all_figures: Sequence[Figures]) -> Figures:
    """What several runs have measured, one part in one, another in another."""
    return Figures(*([each for some in part for each in some] for part in zip(*all_figures, strict=True)))


def to_data(figures: Figures) -> dict[str, Any]:
    def plain(record: Any) -> dict[str, Any]:
        data: dict[str, Any] = record._asdict()
        return {**data, "scenario": data["scenario"]._asdict()} if "scenario" in data else data

    named = {name: [plain(each) for each in getattr(figures, name)] for name in ("outcomes", "others", "costs", "real")}
    return {**named, "singly": [list(pair) for pair in figures.singly]}


def from_data(data: dict[str, Any]) -> Figures:
    def outcomes(name: str) -> list[Outcome]:
        return [Outcome(**{**each, "scenario": Scenario(**each["scenario"])}) for each in data.get(name, [])]

    return Figures(
        outcomes("outcomes"),
        outcomes("others"),
        [cost.Cost(**each) for each in data.get("costs", [])],
        [(int(runtimes), float(value)) for runtimes, value in data.get("singly", [])],
        [real.Real(**{**each, "scenario": Scenario(**each["scenario"])}) for each in data.get("real", [])],
    )


def page(figures: Figures, scenarios: bool) -> str:
    parts = ["## Placement", "", f"`python -m benchmarks.placement`, on {machine.in_words(machine.describe())}.", ""]
    if figures.outcomes:
        count, tasks = len(figures.outcomes), figures.outcomes[0].tasks
        parts += [
            f"Simulated runtimes and links around the real scheduler, {count} scenarios of {tasks:,} tasks. Ratios are",
            "geometric means, to an ideal central queue with no delay in its knowledge; latency: from arrival until the",
            "result is back.",
            *("", tables.ratios(figures.outcomes), ""),
            "Waits that were foretold, and the shares of starts that came by p50 and by p90:",
            *("", tables.waits(figures.outcomes), ""),
        ]
    if figures.others:
        parts += ["The other strategies, over a third of the scenarios with fewer tasks:", ""]
        parts += [tables.ratios(figures.others), ""]
    if figures.real:
        parts += [
            "On real processes, all of it thirty times as slow: sleeping tasks (mean work 300 ms at speed 1), eight runtimes of",
            "speeds 1, 1, 2, 4 that are slowed, each behind a TCP link that delays; broker, controller and client beside them on",
            "the same machine. Ratios as above, so the bus's own time is in them; shares of those that had to wait.",
            *("", tables.real_runs(figures.real), ""),
        ]
    if figures.costs:
        parts += ["What placing costs, in processor time of the whole scheduler a task:", ""]
        parts += [tables.costs(figures.costs, figures.singly), ""]
    if scenarios:
        parts += [tables.scenarios([*figures.outcomes, *figures.others]), ""]
    return "\n".join(parts)


PARTS = ("default", "policies", "costs", "real")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 seconds instead of 20 minutes; nothing is written")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; repeatable")
    parser.add_argument("--policies", help="names of other strategies, separated by commas; all, if it is not --quick")
    parser.add_argument("--tasks", type=int, help=f"of a scenario; {FULL_COUNT:,}, or {QUICK_COUNT:,} with --quick")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="of the simulation")
    parser.add_argument("--scenarios", action="store_true", help="every scenario by itself, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    parser.add_argument(
        "--read", type=Path, metavar="FILE", action="append", help="figures kept before, instead; repeatable"
    )
    parser.add_argument(
        "--write", action="store_true", help="write it into benchmarks/results.md, --quick or --part or not"
    )
    chosen = parser.parse_args(arguments)
    if chosen.read:
        figures = merged([from_data(json.loads(file.read_text())) for file in chosen.read])
    else:
        policies = chosen.policies.split(",") if chosen.policies else [] if chosen.quick else OTHERS
        parts = chosen.part or (("default", "policies", "costs") if chosen.quick else PARTS)
        count = chosen.tasks or (QUICK_COUNT if chosen.quick else FULL_COUNT)
        figures = measure(chosen.quick, policies, count, chosen.seed, chosen.processes, parts)
    if chosen.json:
        chosen.json.write_text(json.dumps(to_data(figures), indent=1))
    text = page(figures, chosen.scenarios)
    print(text)
    if chosen.write or not (chosen.quick or chosen.part or chosen.read):
        sections.put(RESULTS, SECTION, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
