"""Federated averaging over twelve edges, each with its own share of the data, while links break and a machine dies.

    python examples/federated/run_federated.py [--rounds 12] [--plot rounds.png]

Starts a bus and twelve edges on this machine, deals the rows out unequally, and trains round by round. In the middle two
edges are cut off and one is killed; later they are back. Prints each round's error on rows that nobody trained on, beside
the error of the same model trained on all rows in one place.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import headway

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import bike_model  # noqa: E402 - the edges import it by the same name

DATA = HERE / "bike_hour.csv.gz"
PATIENCE = 60.0
LOOK = 0.1


class Edges:
    """A bus, its edges and a server on this machine; ``cut`` and ``kill`` are what happens to machines in the field."""

    def __init__(self, folder: Path, shares: dict[str, Path]) -> None:
        self.folder = folder
        self.shares = shares
        self.url = f"ipc://{folder}/bus"
        self.environment = os.environ | {"HEADWAY_BUS": self.url, "HEADWAY_BROKER_BIND": self.url, "HOME": str(folder)}
        self.environment |= {"HEADWAY_BUS_HEARTBEAT": "0.5", "OMP_NUM_THREADS": "1"}
        self.environment |= {"HEADWAY_CONTROLLER_STATE": str(folder / "state")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        hub = self._run("hub", ["up", "--no-runtime", "--ready-fd", "1"], stdout=subprocess.PIPE)
        assert hub.stdout is not None
        json.loads(hub.stdout.readline())
        self._run("server", ["runtime", "--name", "server", "--slots", "1", "--label", "role=server", *self._paths()])
        for name in self.shares:
            self.start_edge(name)

    def start_edge(self, name: str) -> None:
        words = ["edge", "--name", name, "--slots", "1", "--label", "role=edge", "--spool", str(self.folder / name)]
        self._run(name, [*words, "--path", str(HERE)], **{bike_model.SHARE: str(self.shares[name])})

    def cut(self, name: str) -> None:
        """From now on nothing comes from it and nothing reaches it."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def mend(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes.pop(name).wait()

    def stop(self) -> None:
        """End everything: the hub last, because an edge that leaves waits until all that it says is settled."""
        hub = self.processes.pop("hub", None)
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            _end(process)
        if hub is not None and hub.stdout is not None:
            hub.terminate()
            _end(hub)
            hub.stdout.close()

    def _paths(self) -> list[str]:
        return ["--state", str(self.folder / "work"), "--path", str(HERE)]

    def _run(self, name: str, words: Iterable[str], stdout: Any = None, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "headway", *words],
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(20.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def deal(folder: Path, count: int, seed: int = 1) -> tuple[dict[str, Path], Path, Path]:
    """Every fifth row is kept for the test; the others go to the edges, the last with about eight times the first's."""
    with gzip.open(DATA, "rt", newline="") as file:
        header, *rows = csv.reader(file)
    chance = random.Random(seed)
    chance.shuffle(rows)
    test, training = rows[::5], [row for at, row in enumerate(rows) if at % 5]
    names = [f"edge-{number:02}" for number in range(1, count + 1)]
    weights = [1 + 7 * at / max(1, count - 1) for at in range(count)]
    owners = chance.choices(names, weights, k=len(training))
    shares = {name: folder / f"{name}.csv.gz" for name in names}
    for name, path in shares.items():
        _write(path, header, [row for row, owner in zip(training, owners, strict=True) if owner == name])
    _write(folder / "all.csv.gz", header, training)
    _write(folder / "test.csv.gz", header, test)
    return shares, folder / "all.csv.gz", folder / "test.csv.gz"


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def federate(edges: Edges, bus: headway.Client, rounds: int, steps: int, deadline: float) -> headway.UnionResult:
    """Train; two edges are cut and one is killed after a third of the rounds, and all are back after two thirds."""
    names = list(edges.shares)
    cut, killed = names[1:3], names[-1]
    chosen = bus.options(
        edges="role=edge",
        least_edges=len(names) - 3,
        quorum=0.5,
        deadline=deadline,
        late="collect",
        associative=True,
        merge_labels={"role": "server"},
        job="bikes",
    )
    union = chosen.union(bike_model.train, steps, merge=bike_model.average, rounds=rounds)
    happened: set[str] = set()
    for part in union.parts():
        if part.round >= rounds // 3 and "cut" not in happened:
            happened.add("cut")
            print(f"round {part.round}: {' and '.join(cut)} are cut off, {killed} is killed")
            for name in cut:
                edges.cut(name)
            edges.kill(killed)
        if part.round >= 2 * rounds // 3 and "back" not in happened:
            happened.add("back")
            print(f"round {part.round}: they are back")
            for name in cut:
                edges.mend(name)
            edges.start_edge(killed)
    return union.result(PATIENCE)


def until_there(bus: headway.Client, names: Iterable[str]) -> None:
    """Wait for all runtimes."""
    missing = set(names)
    for _ in range(int(PATIENCE / LOOK)):
        missing -= {each.info.name for each in bus.runtimes() if each.state == "online"}
        if not missing:
            return
        time.sleep(LOOK)
    raise TimeoutError(f"not there within {PATIENCE:g} s: {', '.join(sorted(missing))}")


def report(bus: headway.Client, result: headway.UnionResult, whole: Path, test: Path) -> tuple[list[float], float]:
    """Print the rounds; their errors on the test rows, and that of training in one place."""
    features, targets = bike_model.read(test)
    everything, answers = bike_model.read(whole)
    best = bike_model.error(np.linalg.lstsq(everything, answers, rcond=None)[0], features, targets)
    errors = []
    print(f"\n{'round':>5} {'edges':>5}  {'missing':<28} {'seconds':>7}  test error")
    for each in result.rounds:
        merged = bus.task(each["merged"]).result(PATIENCE)
        errors.append(bike_model.error(merged["weights"], features, targets))
        missing = ", ".join(each["missing"]) or "-"
        print(
            f"{each['round']:>5} {len(each['succeeded']):>5}  {missing:<28} {each['seconds']:>7.2f}  {errors[-1]:.4f}"
        )
    print(f"\ntest error, federated         {errors[-1]:.4f}")
    print(f"test error, all in one place  {best:.4f}")
    print(f"difference                    {100 * (errors[-1] / best - 1):+.2f} %")
    return errors, best


def plot(path: Path, errors: list[float], best: float) -> None:
    """The rounds as a picture; needs the extra ``plot``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot(range(1, len(errors) + 1), errors, marker="o", label="federated")
    axes.axhline(best, linestyle="--", color="gray", label="all in one place")
    axes.set_xlabel("round")
    axes.set_ylabel("test error, log(1 + bikes)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    print(f"plot: {path}")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=150, help="of the descent, on each edge in each round")
    parser.add_argument(
        "--deadline", type=float, default=8.0, help="seconds that a round waits for those that are away"
    )
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="federated-") as name:
        folder = Path(name)
        shares, whole, test = deal(folder, chosen.edges)
        edges = Edges(folder, shares)
        try:
            edges.start()
            with headway.Client(edges.url, timeout=PATIENCE, key_file="") as bus:
                until_there(bus, [*shares, "server"])
                result = federate(edges, bus, chosen.rounds, chosen.steps, chosen.deadline)
                errors, best = report(bus, result, whole, test)
        finally:
            edges.stop()
    if chosen.plot is not None:
        plot(chosen.plot, errors, best)
    return 0 if errors[-1] <= 1.02 * best else 1


if __name__ == "__main__":
    sys.exit(main())
