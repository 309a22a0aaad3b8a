"""What all peers' scripts share: the same load, and one line of JSON at the end.

Each script runs alone, in an environment that need not have headway: ``python benchmarks/peers/peer_dask.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKERS = 2
ROUNDS = 3
TRIPS = 300


def no_op(value: int) -> int:
    """The task."""
    return value


def skip(name: str, why: str) -> None:
    """Say why there is no figure, and leave."""
    print(json.dumps({"name": name, "skipped": why}))
    sys.exit(0)


def require(name: str, *modules: str) -> None:
    """Leave unless these can be imported."""
    for module in modules:
        try:
            __import__(module)
        except ImportError:
            skip(name, f"not installed ({module}); pip install -r benchmarks/peers/requirements.txt")


def rate(run: Callable[[int], None], tasks: int) -> float:
    """Tasks a second, the median of the rounds after a first that warms up."""
    run(min(tasks, 500))
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run(tasks)
        found.append(tasks / (time.perf_counter() - began))
    return statistics.median(found)


def round_trips(run: Callable[[int], int], trips: int = TRIPS) -> dict[str, float]:
    """Milliseconds of one task at a time."""
    found = []
    for number in range(trips + 20):
        began = time.perf_counter()
        if run(number) != number:
            raise AssertionError("another value than expected")
        found.append(1e3 * (time.perf_counter() - began))
    found = sorted(found[20:])
    return {"p50": found[len(found) // 2], "p99": found[int(len(found) * 0.99)]}


def resident(pid: int) -> int:
    """Bytes of memory that a process occupies."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tell(
    name: str, package: str, mapped: float, trips: dict[str, float], note: str, memory: float | None = None
) -> None:
    """The figures, as ``python -m benchmarks`` reads them. ``memory``: KiB for each queued task."""
    print(
        json.dumps(
            {"name": name, "version": version(package), "mapped": mapped, **trips, "memory": memory, "note": note}
        )
    )


@contextmanager
def redis(name: str) -> Iterator[tuple[str, int]]:
    """(url, pid) of a redis-server of its own, as it is installed: with snapshots only, no append-only file."""
    program = shutil.which("redis-server")
    if program is None:
        skip(name, "no redis-server on the PATH")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), "--port", str(port), "--dir", folder, "--bind", "127.0.0.1"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0", server.pid
        finally:
            server.terminate()
            server.wait()


@contextmanager
def worker(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A worker's process beside, ended with the block."""
    process = subprocess.Popen(
        command, cwd=HERE, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def reachable() -> None:
    """Let processes that a library starts find this folder's modules and its environment's programs."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
