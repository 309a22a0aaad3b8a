"""``python -m tests.property.fuzz --inputs 1000000``: prints what was tried; ends with 1 at the first that is wrong."""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
import traceback
from pathlib import Path

from tests.property.fuzz.mutation import mutate
from tests.property.fuzz.targets import targets

CORPUS = Path(__file__).parent / "corpus"
SLOW_SECONDS = 1.0
MOST_MEGABYTES = 512.0
"""What this process may come to occupy, the interpreter and its libraries included."""


class Fault(Exception):
    """An input that did something else than it may."""


def run(name: str, count: int, seed: int, slow: float = SLOW_SECONDS) -> tuple[int, float]:
    """So many inputs for one target: how many were taken for correct, and the seconds of the slowest. Raises Fault."""
    seeds, target = targets()[name]
    rng = random.Random(f"{name}-{seed}")
    taken, slowest = 0, 0.0
    kept = [file.read_bytes() for file in sorted((CORPUS / name).glob("*"))]
    for number in range(count):
        data = kept[number] if number < len(kept) else mutate(rng.choice(seeds), seeds, rng)
        began = time.perf_counter()
        try:
            taken += target(data, rng)
        except Exception as error:
            raise Fault(
                f"{name}, input {number} of seed {seed}: {data[:200].hex()}\n{traceback.format_exc()}"
            ) from error
        took = time.perf_counter() - began
        slowest = max(slowest, took)
        if took > slow:
            raise Fault(f"{name}, input {number} of seed {seed}: {took:.1f} s for {data[:200].hex()}")
    return taken, slowest


def megabytes() -> float:
    """The most that this process has occupied."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.property.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many, over all targets")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--target", choices=list(targets()), help="only this one")
    given = parser.parse_args()
    names = [given.target] if given.target else list(targets())
    for name in names:
        began = time.perf_counter()
        try:
            taken, slowest = run(name, given.inputs // len(names), given.seed)
        except Fault as fault:
            print(f"FAULT {fault}", file=sys.stderr)
            return 1
        seconds = time.perf_counter() - began
        print(
            f"{name:10} {given.inputs // len(names):>9,} inputs, {taken:,} of them correct all the same, in {seconds:.0f} s; "
            f"the slowest {slowest * 1000:.1f} ms; {megabytes():.0f} MB",
            flush=True,
        )
    if megabytes() > MOST_MEGABYTES:
        print(f"FAULT {megabytes():.0f} MB of memory; at most {MOST_MEGABYTES:.0f} expected", file=sys.stderr)
        return 1
    print(f"seed {given.seed}: nothing crashed, hung, or grew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
