"""A batch of `true` jobs on two slots, beside `xargs -P2` with a shell each: ``python -m benchmarks.batches [JOBS] [ROUNDS]``.

They take turns, and the median of the ratios counts, because other work on the machine slows all. The batch's time has
everything in it: the start of Python and of a private bus, the folders and files of every job, and the end of it all. The third
one is xargs with a shell that makes the same folder and the same files for each job: what the layout costs whoever writes it.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
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


SAME_FILES = """\
folder=$0/$1
mkdir "$folder"
echo '{}' >"$folder/params.json"
echo true >"$folder/run.sh"
: >"$folder.running"
exec >"$folder/stdout" 2>"$folder/stderr"
. "$folder/run.sh"
echo '{}' >"$folder.json.part"
"""


def xargs_seconds(count: int, *command: str) -> float:
    """Seconds of as many shells by xargs, two at a time. ``command``: what each is given before its number."""
    numbers = "".join(f"{number}\n" for number in range(count))
    began = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "sh", "-c", *command], input=numbers, text=True, check=True)
    return time.perf_counter() - began


def cpu_seconds() -> float:
    """CPU seconds, user and system, of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(work: Callable[[], float]) -> tuple[float, float]:
    """Its wall seconds, and its CPU seconds."""
    before = cpu_seconds()
    return work(), cpu_seconds() - before


def main() -> None:
    """Print the times of each round, and the median ratios."""
    typed = [int(word) for word in sys.argv[1:3]]
    count, rounds = typed + [JOBS, ROUNDS][len(typed) :]
    to_bare, to_same = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = measured(partial(batch_seconds, count, Path(folder)))
        bare = measured(partial(xargs_seconds, count, "true"))
        with tempfile.TemporaryDirectory() as folder:
            same = measured(partial(xargs_seconds, count, SAME_FILES, folder))
        to_bare.append(ours[0] / bare[0])
        to_same.append(ours[0] / same[0])
        for name, (wall, cpu) in (("batch", ours), ("xargs", bare), ("xargs, same files", same)):
            print(f"{count} jobs: {name}: {wall:.2f} s, {cpu:.2f} s of CPU")
    print(
        f"median ratio: {statistics.median(to_bare):.1f} to xargs, {statistics.median(to_same):.1f} with the same files"
    )


if __name__ == "__main__":
    main()
