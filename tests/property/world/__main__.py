"""Run simulated worlds: ``python -m tests.property.world --seeds 1000``, or one of them again: ``--seed 7 --trace``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from functools import partial
from multiprocessing import Pool

from .mutations import EDGES, FAULTS, MUTATIONS, REPAIRED
from .world import BrokenPromise, World


def run_one(seed: int, mutation: str = "", edges: int = 0) -> tuple[int, str, Counter[str]]:
    """The world of a seed: what is broken in it (empty: nothing), and its totals."""
    world = (
        World(
            seed, refine=(MUTATIONS | REPAIRED)[mutation], faults=FAULTS.get(mutation, ()), edges=EDGES.get(mutation, 0)
        )
        if mutation
        else World(seed, edges=edges)
    )
    try:
        world.run()
    except BrokenPromise as error:
        return seed, str(error), world.totals()
    return seed, "", world.totals()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.property.world", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print everything that happens in it")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--mutation", default="", choices=["", *MUTATIONS, *REPAIRED], help="put this defect in")
    parser.add_argument(
        "--edges", type=int, default=0, help="edge agents in each world, with long cuts and wrong clocks"
    )
    parser.add_argument("--failures", type=int, default=5, help="stop after so many broken worlds")
    arguments = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of bytes depends on it, and a world must be the same each time.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.property.world", *sys.argv[1:]])
    if arguments.seed is not None:
        World(arguments.seed, tracing=arguments.trace, edges=arguments.edges).run()
        print(f"seed {arguments.seed}: every promise was kept")
        return 0
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return run_many(seeds, arguments.jobs, arguments.failures, arguments.mutation, arguments.edges)


def run_many(seeds: range, jobs: int, most_failures: int, mutation: str = "", edges: int = 0) -> int:
    """Run worlds, print what is broken as it is found, and the totals at the end."""
    begun = time.monotonic()
    totals: Counter[str] = Counter()
    failed: list[int] = []
    with Pool(jobs) as pool:
        one = partial(run_one, mutation=mutation, edges=edges)
        runs = pool.imap_unordered(one, seeds, chunksize=8) if jobs > 1 else map(one, seeds)
        for seed, text, found in runs:
            totals += found
            if text:
                failed.append(seed)
                print(f"BROKEN  make simulate SEED={seed}{f' EDGES={edges}' if edges else ''}\n  {text}", flush=True)
                if len(failed) >= most_failures:
                    pool.terminate()
                    break
    for name, count in sorted(totals.items()):
        print(f"{count:>12,}  {name}")
    print(f"{len(failed)} of {totals['worlds']:,} worlds broken, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
