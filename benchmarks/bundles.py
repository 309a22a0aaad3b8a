"""Files of many GiB through the bus: ``python -m benchmarks.bundles [--gib 10] [--only STEP]``. Real processes, real transfers.

Each step runs twice in a plant of its own, with a file of 64 MiB and with one of the wanted length: a bundle (one file, and a
folder of files that add up), a script's outputs fetched into a folder, a file pushed to an edge agent and pulled from one, an
output deployed. What is printed: seconds, MB/s, and the most memory that each process ever occupied (VmHWM). Between the two
lengths it must not differ by more than the windows of parts.

The file is sparse, with a random page every 8 MiB; hashes, transfers and what is written at their ends have the true length.
A step needs three times the length of free disk, and removes what it wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from benchmarks.recover import Hub, until

import headway

MEBIBYTE = 1 << 20
SMALL = 64 * MEBIBYTE
FILE_OF_FOLDER = 64 * MEBIBYTE
STRIDE = 8 * MEBIBYTE
PAGE = 4096
HOURS = 12 * 3600
COLUMNS = ("step", "MiB", "seconds", "MB/s", "client", "broker", "controller", "runtime", "its children")
SIZE_SCRIPT = "import pathlib; print(sum(path.stat().st_size for path in pathlib.Path('data').iterdir()))"
MAKE_SCRIPT = """
import os, pathlib, sys
length = int(sys.argv[1])
pathlib.Path("model").mkdir()
with open("model/big.bin", "wb") as file:
    file.truncate(length)
    for at in range(0, length - 4096, 8 << 20):
        file.seek(at)
        file.write(os.urandom(4096))
"""


def make_file(path: Path, length: int) -> None:
    """A sparse file of that length that is like no other."""
    with path.open("wb") as file:
        file.truncate(length)
        for at in range(0, max(1, length - PAGE), STRIDE):
            file.seek(at)
            file.write(os.urandom(min(PAGE, length)))


def peak(pid: int) -> float:
    """The most memory that a living process ever occupied, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


class Plant(Hub):
    """The hub with one runtime and one edge agent, and a person's commands, whose memory counts as well."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.client = 0.0

    def __enter__(self) -> Plant:
        os.environ["XDG_STATE_HOME"] = str(self.folder / "home")  # where deployed files go
        super().__enter__()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        self.environment["HEADWAY_BUS"] = self.url
        return self

    def machine(self, kind: str, name: str = "mill") -> int:
        """Start a runtime, or an edge agent, and wait until it is there; its process."""
        place = ["--spool", str(self.folder / name)] if kind == "edge" else ["--state", str(self.folder / name)]
        words = ("--bus", self.url, "--name", name, "--slots", "2", *place)
        process = self._start("headway_edge" if kind == "edge" else "headway_runtime", *words)
        with headway.Client(self.url, timeout=30) as bus:
            until(lambda: name in [each.info.name for each in bus.runtimes()], "the runtime is there")
        return process.pid

    def command(self, *words: str) -> str:
        """Run ``headway words``; what it prints. Notes how much memory it took."""
        out = self.folder / "said"
        with out.open("wb") as said:
            process = subprocess.Popen([sys.executable, "-m", "headway", *words], stdout=said, env=self.environment)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"headway {' '.join(words)} ended with {process.returncode}")
        self.client = max(self.client, used.ru_maxrss / 1024)
        return out.read_text().strip()

    def peaks(self, machine: int) -> list[float]:
        """Of client, broker, controller, runtime, and the largest of its children."""
        below = [peak(each.pid) for each in psutil.Process(machine).children(recursive=True)]
        own = [peak(process.pid) for process in (self.broker, self.controller)]
        return [self.client, *own, peak(machine), max(below, default=0.0)]


Step = Callable[[Plant, Path, int], tuple[float, int]]
"""Does it with so many bytes; how many seconds it took, and the process of the machine that took part."""


def bundle(plant: Plant, source: Path, length: int, each: int | None = None) -> tuple[float, int]:
    machine = plant.machine("runtime")
    (source / "data").mkdir()
    (source / "size.py").write_text(SIZE_SCRIPT)
    parts = [length] if each is None else [each] * (length // each)
    for number, size in enumerate(parts):
        make_file(source / "data" / f"{number}.bin", size)
    began = time.monotonic()
    said = plant.command("bundle", str(source), "--entry", "size.py", "--wait")
    assert said == str(sum(parts)), said
    return time.monotonic() - began, machine


def folder(plant: Plant, source: Path, length: int) -> tuple[float, int]:
    return bundle(plant, source, length, FILE_OF_FOLDER if length > SMALL else MEBIBYTE)


def outputs(plant: Plant, source: Path, length: int) -> tuple[float, int]:
    machine = plant.machine("runtime")
    script = source / "make.py"
    script.write_text(MAKE_SCRIPT)
    task = plant.command("bundle", str(script), "--output", "model/*", "--", str(length))
    with headway.Client(plant.url, timeout=30) as bus:
        until(lambda: bus.task(task).info().status == "running", "it runs")
        began = time.monotonic()
        bus.task(task).exception(HOURS)
    plant.command("outputs", task, str(source / "here"))
    assert (source / "here" / "model" / "big.bin").stat().st_size == length
    return time.monotonic() - began, machine


def push(plant: Plant, source: Path, length: int) -> tuple[float, int]:
    machine = plant.machine("edge")
    make_file(source / "big.bin", length)
    began = time.monotonic()
    where = plant.command("edge", "push", "mill", str(source / "big.bin"))
    assert Path(where).stat().st_size == length
    return time.monotonic() - began, machine


def pull(plant: Plant, source: Path, length: int) -> tuple[float, int]:
    machine = plant.machine("edge")
    make_file(source / "big.bin", length)
    began = time.monotonic()
    plant.command("edge", "pull", "mill", str(source / "big.bin"), "-o", str(source / "here.bin"))
    assert (source / "here.bin").stat().st_size == length
    return time.monotonic() - began, machine


def deploy(plant: Plant, source: Path, length: int) -> tuple[float, int]:
    plant.machine("runtime")
    script = source / "make.py"
    script.write_text(MAKE_SCRIPT)
    task = plant.command("bundle", str(script), "--output", "model/*", "--", str(length))
    with headway.Client(plant.url, timeout=30) as bus:
        bus.task(task).exception(HOURS)
    machine = plant.machine("edge", "shop")
    began = time.monotonic()
    said = plant.command("deploy", task, "model/big.bin", "--to", "name=shop", "--as", "big", "--json")
    (deployed,) = json.loads(said)["edges"]
    assert Path(deployed["path"]).is_relative_to(plant.folder) and Path(deployed["path"]).stat().st_size == length
    return time.monotonic() - began, machine


STEPS: dict[str, Step] = {
    "bundle": bundle,
    "folder": folder,
    "outputs": outputs,
    "push": push,
    "pull": pull,
    "deploy": deploy,
}


@contextmanager
def plant_in(base: Path | None) -> Iterator[tuple[Plant, Path]]:
    with tempfile.TemporaryDirectory(prefix="headway-bundles-", dir=base) as temporary:
        source = Path(temporary) / "source"
        source.mkdir()
        with Plant(Path(temporary)) as plant:
            yield plant, source


def measure(name: str, length: int, base: Path | None) -> list[str | float]:
    with plant_in(base) as (plant, source):
        seconds, machine = STEPS[name](plant, source, length)
        return [name, length / MEBIBYTE, seconds, length / seconds / 1e6, *plant.peaks(machine)]


def row(cells: Sequence[str | float]) -> str:
    texts = [
        each if isinstance(each, str) else f"{each:,.1f}" if at == 2 else f"{each:,.0f}"
        for at, each in enumerate(cells)
    ]
    return "| " + " | ".join(texts) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=10.0)
    parser.add_argument("--only", action="append", choices=STEPS, default=[])
    parser.add_argument("--folder", type=Path, help="Where the plants lie.  [default: the system's temporary folder]")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}")
    print(row(COLUMNS) + "\n|" + "---|" * len(COLUMNS), flush=True)
    rows = []
    for name in given.only or STEPS:
        for length in (SMALL, int(given.gib * 1024) * MEBIBYTE):
            rows.append(measure(name, length, given.folder))
            print(row(rows[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps([dict(zip(COLUMNS, each, strict=True)) for each in rows], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
