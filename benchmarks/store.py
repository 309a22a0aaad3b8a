"""What the store does in a second, alone and beside a busy event loop, and how long recovery and listings take.

``python benchmarks/store.py [--tasks N] [--folder DIR]``. The figures and what follows from them stand in ``store.md``.
Payloads have 40 bytes, results 20, stories 60. Ids are made a thousand to the millisecond, as by many clients.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from headway_bus.ids import RANDOM_BYTES, TIME_BYTES, TaskId, text_of
from headway_bus.records import Kind, Options, Status
from headway_controller.store import (
    Durability,
    EndTask,
    NewTasks,
    Operation,
    Receipt,
    Store,
    TaskFilter,
    UpdateTask,
    open_store,
)

PER_WRITE = 500
"""Tasks handed over at once: what one turn of a busy event loop gathers."""

SINGLE_WRITES = 300
ROUNDS = 5
"""The best of them counts: what else runs on the machine only ever makes a round slower."""


class Meter:
    """A store that is measured, and its receipts."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.idle = threading.Event()
        self.store: Store = open_store(folder / "headway.db", self._on_stored, durability)

    def _on_stored(self, receipts: list[Receipt]) -> None:
        for receipt in receipts:
            if receipt.error:
                raise receipt.error
        if not self.store.backlog:
            self.idle.set()

    def processor_seconds(self) -> float:
        """What the writer's thread has used so far: other programs on the machine do not count in it."""
        (writer,) = [thread for thread in threading.enumerate() if thread.name == "store-writer"]
        assert writer.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(writer.ident))

    def rate(self, writes: list[list[Operation]], wait: Callable[[], object]) -> float:
        """Rows a second from the first hand-over to the last receipt."""
        self.idle.clear()
        began = time.perf_counter()
        for write in writes:
            self.store.write(write)
        wait()
        return sum(map(rows_of, writes)) / (time.perf_counter() - began)


def rows_of(write: list[Operation]) -> int:
    return sum(len(operation.tasks) if isinstance(operation, NewTasks) else 1 for operation in write)


def make_ids(count: int) -> list[TaskId]:
    start = int(time.time() * 1000)
    return [TaskId((start + n // 1000).to_bytes(TIME_BYTES, "big") + os.urandom(RANDOM_BYTES)) for n in range(count)]


def submissions(tasks: list[TaskId]) -> list[list[Operation]]:
    options = Options(Kind.CALL, "math:sqrt", job="benchmark")
    return [
        [NewTasks(options, time.time(), "client-1", [(task, b"x" * 40) for task in tasks[at : at + PER_WRITE]])]
        for at in range(0, len(tasks), PER_WRITE)
    ]


def ends(tasks: list[TaskId]) -> list[list[Operation]]:
    now = time.time()
    rows: list[Operation] = [
        EndTask(task, Status.SUCCEEDED, 1, now, now - 1, 1.0, "runtime-1", b"y" * 20, story=b"s" * 60) for task in tasks
    ]
    return [rows[at : at + PER_WRITE] for at in range(0, len(rows), PER_WRITE)]


def updates(tasks: list[TaskId]) -> list[list[Operation]]:
    rows: list[Operation] = [UpdateTask(task, attempt=1, story=b"s" * 60) for task in tasks]
    return [rows[at : at + PER_WRITE] for at in range(0, len(rows), PER_WRITE)]


def spin(done: threading.Event, seconds: float = 1e9) -> float:
    """Keep the interpreter busy in this thread; rounds a second."""
    rounds = 0
    began = time.perf_counter()
    while not done.is_set() and time.perf_counter() - began < seconds:
        for _ in range(1000):
            rounds += 1
    return rounds / (time.perf_counter() - began)


def alone(folder: Path, durability: Durability, count: int) -> None:
    meter = Meter(folder, durability)
    rounds = []
    for _ in range(ROUNDS):
        tasks = make_ids(count)
        rounds.append(
            [meter.rate(writes, meter.idle.wait) for writes in (submissions(tasks), updates(tasks), ends(tasks))]
        )
    rates = [max(of_kind) for of_kind in zip(*rounds, strict=True)]
    used = meter.processor_seconds()
    both = 2 / (1 / rates[0] + 1 / rates[2])
    print(
        f"{durability.value:7} rows/s: submit {rates[0]:9,.0f}  update {rates[1]:9,.0f}  end {rates[2]:9,.0f}  both {both:9,.0f}"
    )
    print(f"{'':7} processor time of the writer for all three: {1e6 * used / (ROUNDS * count):.1f} µs a task")
    delays = []
    for task in make_ids(SINGLE_WRITES):
        meter.idle.clear()
        began = time.perf_counter()
        meter.store.write(submissions([task])[0])
        meter.idle.wait()
        delays.append(1000 * (time.perf_counter() - began))
    print(
        f"{'':7} one task, handed over to acknowledged: median {statistics.median(delays):.2f} ms, worst {max(delays):.2f} ms"
    )
    meter.store.close()


def beside_a_busy_loop(folder: Path, count: int, interval: float) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    free = spin(threading.Event(), 0.5)
    meter = Meter(folder, Durability.NORMAL)
    tasks = make_ids(count)
    shares: list[float] = []
    rates = [
        meter.rate(writes, lambda: shares.append(spin(meter.idle) / free))
        for writes in (submissions(tasks), ends(tasks))
    ]
    meter.store.close()
    sys.setswitchinterval(before)
    print(
        f"busy loop, switch interval {1000 * interval:.1f} ms, rows/s: submit {rates[0]:9,.0f}  end {rates[1]:9,.0f};"
        f"  left to the loop {100 * statistics.mean(shares):.0f} %"
    )


def reading(folder: Path, count: int) -> None:
    meter = Meter(folder, Durability.NORMAL)
    history, waiting = make_ids(5 * count), make_ids(count)
    meter.rate(submissions(history), meter.idle.wait)
    meter.rate(ends(history), meter.idle.wait)
    meter.rate(submissions(waiting), meter.idle.wait)
    meter.store.close()
    meter = Meter(folder, Durability.NORMAL)
    store = meter.store
    looks: dict[str, Callable[[], object]] = {
        f"recover {count:,} unfinished of {6 * count:,}": lambda: sum(map(len, store.load_unfinished())),
        "a page of 100": lambda: store.find_page(TaskFilter()),
        "a page of 100, of a job, succeeded": lambda: store.find_page(
            TaskFilter(job="benchmark", ends=frozenset({Status.SUCCEEDED}))
        ),
        "no failed task": lambda: store.find_page(TaskFilter(ends=frozenset({Status.FAILED}))),
        "1,000 tasks by id": lambda: store.find(history[:1000]),
        "an id by 8 letters": lambda: store.find_by_prefix(text_of(history[7])[:8]),
        "count a job": lambda: store.job_counts("benchmark"),
        "count all": store.counts,
        "look through the file": store.check,
        "back up": lambda: store.backup(folder / "backup.db"),
    }
    for name, look in looks.items():
        began = time.perf_counter()
        look()
        print(f"{name:45} {1000 * (time.perf_counter() - began):9.1f} ms")
    print(f"{'bytes of file for each task':45} {(folder / 'headway.db').stat().st_size / (6 * count):9.0f}")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to make the files; the system's temporary folder"
    )
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="headway-benchmark-", dir=arguments.folder))
    try:
        for durability in Durability:
            alone(root / durability.value, durability, arguments.tasks)
        for interval in (0.005, 0.0005):
            beside_a_busy_loop(root / f"busy {interval}", arguments.tasks // 2, interval)
        reading(root / "reading", arguments.tasks)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
