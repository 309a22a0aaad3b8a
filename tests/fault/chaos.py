"""Storm after storm over real processes: ``python -m tests.fault.chaos --minutes 10 [--seed N]``, also ``make chaos``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does, so that both find the same modules

from fault_plant import Plant
from fault_storm import Outcome, Storm

SECONDS_PER_STORM = 60.0


def storm(folder: Path, seed: int, seconds: float) -> Outcome:
    """One storm over a plant of its own; the logs are left in ``folder`` if something went wrong."""
    plant = Plant(folder, heartbeat=0.5)
    try:
        return Storm(plant, seed, 0, time.monotonic() + seconds).run()
    finally:
        plant.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first storm; each further one has the next")
    given = parser.parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    end = time.monotonic() + given.minutes * 60
    tasks = faults = executions = bad = 0
    while time.monotonic() < end:
        folder = Path(tempfile.mkdtemp(prefix=f"headway-chaos-{seed}-"))
        outcome = storm(folder, seed, min(SECONDS_PER_STORM, max(5.0, end - time.monotonic())))
        print(f"seed {seed}: {outcome.describe()}", flush=True)
        tasks, faults, executions = (
            tasks + outcome.tasks,
            faults + len(outcome.faults),
            executions + len(outcome.executions),
        )
        if outcome.wrong:
            bad += 1
            print(f"the logs are in {folder}; again with --seed {seed}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        seed += 1
    print(f"\n{tasks} tasks, {faults} faults, {executions - tasks} executions again, {bad} storms with something wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
