"""Storms over edges: ``python -m tests.fault.edge_chaos --edges 20 --tasks 1000 --minutes 3 [--seed N]``; in ``make chaos``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does, so that both find the same modules

from edge_plant import EdgePlant
from edge_storm import EdgeStorm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--patience", type=float, default=300.0, help="seconds for everything to arrive afterwards")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    folder = Path(tempfile.mkdtemp(prefix=f"headway-edges-{seed}-"))
    plant = EdgePlant(folder, heartbeat=0.5)
    try:
        outcome = EdgeStorm(plant, seed, given.edges, given.tasks, given.patience).run(given.minutes * 60)
    finally:
        plant.close()
    print(f"seed {seed}: {outcome.describe()}", flush=True)
    if outcome.wrong:
        print(f"the logs are in {folder}; again with --seed {seed}", flush=True)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
