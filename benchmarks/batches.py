"""A batch of `true` jobs on two slots, beside `xargs -P2` with a shell each: ``python -m benchmarks.batches [JOBS] [ROUNDS]``.

The two take turns, and the median of the ratios counts, because other work on the machine slows both. The batch's time has
everything in it: the start of Python and of a private bus, the folders and files of every job, and the end of it all.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOBS = 1000
ROUNDS = 3


def batch_seconds(count: int, folder: Path) -> float:
    """Seconds of a whole ``headway run``."""
    file = folder / "batch.json"
    jobs = [{"name": f"j{number}", "params": {}, "command": "true"} for number in range(count)]
    file.write_text(json.dumps({"name": "b", "jobs": jobs, "batches_data_dir": str(folder / "data")}))
    command = [sys.executable, "-m", "headway", "run", "-c", str(file), "--slots", "2", "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    if json.loads(done.stdout)["summary"]["succeed"] != count:
        raise RuntimeError(f"not every job succeeded: {done.stdout}")
    return seconds


def xargs_seconds(count: int) -> float:
    """Seconds of as many shells by xargs, two at a time."""
    numbers = "".join(f"{number}\n" for number in range(count))
    began = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "sh", "-c", "true"], input=numbers, text=True, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print both times of each round, and the median ratio."""
    typed = [int(word) for word in sys.argv[1:3]]
    count, rounds = typed + [JOBS, ROUNDS][len(typed) :]
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = batch_seconds(count, Path(folder))
        theirs = xargs_seconds(count)
        ratios.append(ours / theirs)
        print(f"{count} jobs: batch {ours:.2f} s, xargs {theirs:.2f} s, ratio {ratios[-1]:.1f}")
    print(f"median ratio {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
