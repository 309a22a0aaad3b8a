"""``python -m benchmarks.placement --quick | --full [--json] [--policies a,b] [--seed N] [--processes N] [--scenarios]``.

Run with the packages on the path, from the root of the repository. ``--full`` is the scenario set as it is specified:
45 + 60 scenarios of 40,000 tasks; ``--quick`` a third of them with 6,000. The same seed gives the same figures; only the
costs depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing import Pool

from benchmarks.placement import cost, tables
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

DEFAULT = "headway_completion"


def one(job: tuple[Scenario, str], count: int, seed: int) -> Outcome:
    return run(job[0], count, seed, job[1])


def simulate(policies: Sequence[str], quick: bool, seed: int, processes: int) -> list[Outcome]:
    scenarios = list(quick_set()) if quick else [*first_set(), *second_set()]
    jobs = [(scenario, policy) for policy in policies for scenario in scenarios]
    work = partial(one, count=QUICK_COUNT if quick else FULL_COUNT, seed=seed)
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


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=__doc__)
    extent = parser.add_mutually_exclusive_group(required=True)
    extent.add_argument("--quick", action="store_true")
    extent.add_argument("--full", action="store_true")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object instead of tables")
    parser.add_argument("--policies", default=DEFAULT, help="names, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--scenarios", action="store_true", help="print every scenario")
    chosen = parser.parse_args(arguments)
    outcomes = simulate(chosen.policies.split(","), chosen.quick, chosen.seed, chosen.processes)
    found, singly = measure_costs(chosen.quick)
    if chosen.json:
        figures = {
            "outcomes": [{**outcome._asdict(), "scenario": outcome.scenario._asdict()} for outcome in outcomes],
            "costs": [each._asdict() for each in found],
            "singly": singly,
        }
        print(json.dumps(figures, indent=1))
        return 0
    default = [outcome for outcome in outcomes if outcome.policy == DEFAULT]
    parts = [tables.ratios(outcomes), tables.waits(default or outcomes), tables.costs(found, singly)]
    if chosen.scenarios:
        parts.append(tables.scenarios(outcomes))
    print("\n\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
