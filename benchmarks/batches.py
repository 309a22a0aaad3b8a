"""A batch of `true` jobs on two slots, beside `xargs -P2` with a shell each: ``python -m benchmarks.batches [JOBS] [ROUNDS]``.

They take turns, and the median of the ratios counts, because other work on the machine slows all. The batch's time has
everything in it: the start of Python and of a private bus, the folders and files of every job, and the end of it all. The third
one is xargs with a shell that makes the same folder and the same files for each job: what the layout costs whoever writes it.

All rounds write into one folder, $TMPDIR or /tmp, which is removed at the end: ext4 is slow to give out inodes that were freed a
moment ago, so a round that follows the removal of another would pay for that one. Python's compiled modules are kept for the
rounds, as they are where headway is installed, and a first run that is not counted makes them.
"""

from __future__ import annotations

import json
import os
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
ROUNDS = 5


def batch_seconds(count: int, folder: Path) -> float:
    """Seconds of a whole ``headway run``."""
    folder.mkdir()
    file = folder / "batch.json"
    jobs = [{"name": f"j{number}", "params": {}, "command": "true"} for number in range(count)]
    file.write_text(json.dumps({"name": "b", "jobs": jobs, "batches_data_dir": str(folder / "data")}))
    command = [sys.executable, "-m", "headway", "run", "-c", str(file), "--slots", "2", "--json"]
    began = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "compiled")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
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
    with tempfile.TemporaryDirectory() as folder:
        batch_seconds(2, Path(folder, "first"))
        taken = [round_of(count, Path(folder), number) for number in range(rounds)]
    for measure, word in enumerate(("wall", "CPU")):
        to_bare, to_same = (statistics.median(each[0][measure] / each[n][measure] for each in taken) for n in (1, 2))
        print(f"median ratio, {word}: {to_bare:.1f} to xargs, {to_same:.1f} with the same files")


def round_of(count: int, folder: Path, number: int) -> list[tuple[float, float]]:
    """One turn of each: (wall, CPU) seconds of the batch, of bare xargs, and of xargs with the same files."""
    same = folder / f"same-{number}"
    same.mkdir()
    turns: dict[str, Callable[[], float]] = {
        "batch": partial(batch_seconds, count, folder / f"batch-{number}"),
        "xargs": partial(xargs_seconds, count, "true"),
        "xargs, same files": partial(xargs_seconds, count, SAME_FILES, str(same)),
    }
    found = {name: measured(work) for name, work in turns.items()}
    for name, (wall, cpu) in found.items():
        print(f"{count} jobs: {name}: {wall:.2f} s, {cpu:.2f} s of CPU", flush=True)
    return list(found.values())


if __name__ == "__main__":
    main()
