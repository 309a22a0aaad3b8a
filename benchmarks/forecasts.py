"""Many series, from the file to the result: headway's trainer beside joblib with hyperopt's ``fmin``, and with optuna.

``python -m benchmarks.forecasts [--series 100] [--points 500] [--trials 100] [--rounds 3] [--optuna]``

Both sides read the same csv, search LinearFit's two parameters for every series by the mean absolute scaled error of three
rolling origins, and fit the best on all points. Each side is a process of its own; *wall* is from the start of reading to
the last forecast (the bus of ours is up before, as joblib's processes are warmed up before), *CPU* is that of the whole
process tree with all imports and the bus. The objective of the peers is plain numpy, written without headway, so that
nothing of ours slows them down. They take turns, and the median of the rounds' ratios counts.
The peers are in benchmarks/peers/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HORIZON, FOLDS, LONGEST = 13, 3, 30
CORES = 2


def make_file(path: Path, series: int, points: int) -> None:
    """Random walks: a csv of ``series`` times ``points`` rows."""
    random = np.random.default_rng(0)
    days = [str(day) for day in np.datetime64("2020-01-01") + np.arange(points)]
    with path.open("w") as stream:
        stream.write("region,sku,date,y,price\n")
        for number in range(series):
            values = 100 + np.cumsum(random.normal(size=points))
            prices = random.uniform(1, 2, points)
            key = f"region{number % 10},sku-{number:05d}"
            stream.writelines(f"{key},{a},{b:.6f},{c:.4f}\n" for a, b, c in zip(days, values, prices, strict=True))


def line(y: Any, latest_n: int, factor: float) -> Any:
    """The peers' forecast: a line through the last values, and a share of the spread of its residuals."""
    seen = y[-latest_n:]
    times = np.arange(len(seen)) - (len(seen) - 1) / 2
    spread = times @ times
    slope = times @ seen / spread if spread else 0.0
    fitted = seen.mean() + slope * times
    level = fitted[-1] + factor * np.std(seen - fitted)
    return level + slope * np.arange(1, HORIZON + 1)


def loss(y: Any, latest_n: int, factor: float) -> float:
    """The peers' objective."""
    found = []
    for fold in range(FOLDS, 0, -1):
        cut = len(y) - fold * HORIZON
        scale = np.abs(np.diff(y[:cut])).mean()
        found.append(np.abs(y[cut : cut + HORIZON] - line(y[:cut], latest_n, factor)).mean() / scale)
    return float(np.mean(found))


def one_by_hyperopt(y: Any, trials: int, seed: int) -> tuple[float, Any]:
    from hyperopt import Trials, fmin, hp, tpe

    space = {"n": hp.uniformint("n", 1, LONGEST), "factor": hp.uniform("factor", 0.0, 1.0)}
    done = Trials()
    best = fmin(
        lambda point: loss(y, int(point["n"]), point["factor"]),
        space,
        algo=tpe.suggest,
        max_evals=trials,
        trials=done,
        rstate=np.random.default_rng(seed),
        show_progressbar=False,
        verbose=False,
    )
    return min(done.losses()), line(y, int(best["n"]), best["factor"])


def one_by_optuna(y: Any, trials: int, seed: int) -> tuple[float, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(
        lambda trial: loss(y, trial.suggest_int("n", 1, LONGEST), trial.suggest_float("factor", 0.0, 1.0)), trials
    )
    return study.best_value, line(y, study.best_params["n"], study.best_params["factor"])


def by_joblib(path: Path, trials: int, one: Any) -> tuple[float, list[float]]:
    import joblib
    import pandas as pd

    with joblib.Parallel(n_jobs=CORES) as pool:
        pool(joblib.delayed(one)(np.cumsum(np.ones(60)), 1, seed) for seed in range(2 * CORES))  # warm: all is imported
        began = time.perf_counter()
        table = pd.read_csv(path, dtype={"region": "category", "sku": "category"}, parse_dates=["date"])
        found = [
            group.sort_values("date")["y"].to_numpy() for _, group in table.groupby(["region", "sku"], observed=True)
        ]
        results = pool(joblib.delayed(one)(y, trials, seed) for seed, y in enumerate(found))
    return time.perf_counter() - began, [best for best, _ in results]


def by_headway(path: Path, trials: int, engine: str) -> tuple[float, list[float]]:
    import asyncio

    import headway
    import headway_trainer

    job = {
        "path": str(path),
        "group": ["region", "sku"],
        "time": "date",
        "target": "y",
        "models": {"LinearFit": {"latest_n": {"low": 1, "high": LONGEST}}},
        "metrics": ["mase"],
        "horizon": HORIZON,
        "folds": FOLDS,
        "trials": trials,
        "engine": engine,
    }

    async def work(url: str) -> tuple[float, list[float]]:
        async with headway.connect(url) as bus:
            began = time.perf_counter()
            results = await headway_trainer.train(bus, job)
            return time.perf_counter() - began, [row["metrics"]["mase"] for row in results["series"]]

    with headway.local(slots=CORES) as bus:
        return asyncio.run(work(bus.url))


SIDES = {
    "headway": lambda path, trials: by_headway(path, trials, "hyperopt"),
    "headway-optuna": lambda path, trials: by_headway(path, trials, "optuna"),
    "joblib-hyperopt": lambda path, trials: by_joblib(path, trials, one_by_hyperopt),
    "joblib-optuna": lambda path, trials: by_joblib(path, trials, one_by_optuna),
}


def measured(side: str, path: Path, trials: int) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and the mean of the best losses, of one side in its own process."""
    command = [sys.executable, "-m", "benchmarks.forecasts", "--side", side, str(path), str(trials)]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        written = output.read()
    if process.returncode:
        raise RuntimeError(f"{side} ended with {process.returncode}")
    found = json.loads(written.splitlines()[-1])
    return found["wall"], used.ru_utime + used.ru_stime, found["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("series", 100), ("points", 500), ("trials", 100), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--optuna", action="store_true", help="with optuna on both sides")
    parser.add_argument("--side", nargs=3, metavar=("NAME", "FILE", "TRIALS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        side, path, trials = asked.side
        wall, losses = SIDES[side](Path(path), int(trials))
        print(json.dumps({"wall": wall, "loss": statistics.mean(losses)}))
        return
    ours, theirs = ("headway-optuna", "joblib-optuna") if asked.optuna else ("headway", "joblib-hyperopt")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "series.csv"
        make_file(path, asked.series, asked.points)
        for _ in range(asked.rounds):
            rows = {side: measured(side, path, asked.trials) for side in (ours, theirs)}
            ratios.append((rows[theirs][0] / rows[ours][0], rows[theirs][1] / rows[ours][1]))
            for side, (wall, cpu, mean) in rows.items():
                print(
                    f"{side:16} wall {wall:7.2f} s   CPU {cpu:7.2f} s   mean of the best losses {mean:.4f}", flush=True
                )
    print(
        f"{asked.series} series x {asked.points} points x {asked.trials} trials: {theirs} / {ours}, median ratio: ",
        end="",
    )
    print(
        f"wall {statistics.median(one for one, _ in ratios):.2f}, CPU {statistics.median(one for _, one in ratios):.2f}"
    )


if __name__ == "__main__":
    main()
