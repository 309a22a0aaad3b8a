"""How good a search is with many trials in flight: ``python benchmarks/search_quality.py [--seeds 40] [--engine hyperopt]``.

Three functions, 100 trials, 8 in flight that end in a random order, against hyperopt's own ``fmin``, which runs one trial
after the other and so knows every loss before it suggests the next point. The figure is the regret: how far the best
trial's noise-free value lies above the function's least. One process, no bus: only the suggestions are compared.

Sources: Branin and Hartmann6 as in L. C. W. Dixon and G. P. Szegö, *Towards Global Optimisation 2* (1978). The mixed
function is made for this table.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headway_trainer.studies import Study

TRIALS = 100
IN_FLIGHT = 8
Values = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """``true`` is the noise-free loss, ``least`` its minimum, ``noise`` the deviation of what a trial adds to it."""

    name: str
    space: dict[str, Any]
    true: Callable[[Values], float]
    least: float
    noise: float = 0.0

    def loss(self, values: Values, random: np.random.Generator) -> float:
        return self.true(values) + (random.normal(0.0, self.noise) if self.noise else 0.0)


def branin(values: Values) -> float:
    """Three minima of 0.397887 over x in [-5, 10], y in [0, 15]."""
    x, y = values["x"], values["y"]
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


_HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_WIDTHS = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_PLACES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(values: Values) -> float:
    """One minimum of -3.32237 in the unit cube of six dimensions."""
    point = np.array([values[f"x{at}"] for at in range(6)])
    return -float(_HEIGHTS @ np.exp(-np.sum(_WIDTHS * (point - _PLACES) ** 2, axis=1)))


def mixed(values: Values) -> float:
    """A rate, a whole number, a choice, and a choice with a parameter of its own; 0 at rate 0.03, n 7, c, tree of depth 5."""
    distance = (math.log10(values["rate"]) - math.log10(0.03)) ** 2 + ((values["n"] - 7) / 5) ** 2
    distance += {"a": 1.0, "b": 0.4, "c": 0.0}[values["kind"]]
    model = values["model"]
    return distance + (0.8 if model == "line" else 0.05 * (model["depth"] - 5) ** 2)


PROBLEMS = (
    Problem("Branin", {"x": {"low": -5.0, "high": 10.0}, "y": {"low": 0.0, "high": 15.0}}, branin, 0.39788735772973816),
    Problem("Hartmann6", {f"x{at}": {"low": 0.0, "high": 1.0} for at in range(6)}, hartmann6, -3.3223680114155147),
    Problem(
        "mixed, noisy",
        {
            "rate": {"low": 1e-4, "high": 1.0, "log": True},
            "n": {"low": 1, "high": 20},
            "kind": ["a", "b", "c"],
            "model": ["line", {"name": "tree", "space": {"depth": {"low": 1, "high": 12}}}],
        },
        mixed,
        0.0,
        noise=0.1,
    ),
)


def in_flight(problem: Problem, engine: str, seed: int) -> float:
    """The regret of a study with IN_FLIGHT trials at the same time, which last 0.5 to 1.5 each."""
    random = np.random.default_rng([seed, 1])
    study = Study(problem.space, engine=engine, trials=TRIALS, seed=seed)
    flying: list[tuple[float, int]] = []
    now = 0.0
    while not study.done:
        while len(flying) < IN_FLIGHT and (trial := study.ask()) is not None:
            heapq.heappush(flying, (now + random.uniform(0.5, 1.5), trial.number))
        now, number = heapq.heappop(flying)
        study.tell(number, problem.loss(study.trials[number].values, random))
    assert study.best is not None
    return problem.true(study.best.values) - problem.least


def sequential(problem: Problem, seed: int) -> float:
    """The regret of hyperopt's own search."""
    from hyperopt import Trials, fmin, space_eval, tpe
    from hyperopt.exceptions import AllTrialsFailed

    random = np.random.default_rng([seed, 1])
    space, trials = own_space(problem), Trials()
    losses: list[float] = []

    def objective(given: Values) -> float:
        losses.append(problem.loss(as_values(given), random))
        return losses[-1]

    rng = np.random.default_rng(seed)
    try:
        best = fmin(
            objective, space, tpe.suggest, TRIALS, trials=trials, rstate=rng, show_progressbar=False, verbose=False
        )
    except AllTrialsFailed:
        return math.inf
    return problem.true(as_values(space_eval(space, best))) - problem.least


def own_space(problem: Problem) -> Any:
    """The problem's space as a user of hyperopt would write it."""
    from hyperopt import hp

    if problem.true is not mixed:
        return {name: hp.uniform(name, one["low"], one["high"]) for name, one in problem.space.items()}
    return {
        "rate": hp.loguniform("rate", math.log(1e-4), math.log(1.0)),
        "n": hp.uniformint("n", 1, 20),
        "kind": hp.choice("kind", ["a", "b", "c"]),
        "model": hp.choice("model", ["line", {"name": "tree", "depth": hp.uniformint("depth", 1, 12)}]),
    }


def as_values(given: Values) -> Values:
    return {name: int(one) if name == "n" else one for name, one in given.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--engine", default="hyperopt")
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{given.seeds} seeds, {TRIALS} trials, {IN_FLIGHT} in flight, engine {given.engine}\n")
    print("| function | fmin, one at a time: mean (median) | in flight: mean (median) | ratio of means | seconds |")
    print("|---|---|---|---|---|")
    worst = 0.0
    for problem in PROBLEMS:
        began = time.process_time()
        theirs = [sequential(problem, seed) for seed in range(given.seeds)]
        ours = [in_flight(problem, given.engine, seed) for seed in range(given.seeds)]
        ratio = statistics.fmean(ours) / statistics.fmean(theirs)
        worst = max(worst, ratio)
        cells = [f"{statistics.fmean(each):.4f} ({statistics.median(each):.4f})" for each in (theirs, ours)]
        spent = time.process_time() - began
        print(f"| {problem.name} | {cells[0]} | {cells[1]} | {ratio:.2f} | {spent:.0f} |", flush=True)
    return 0 if worst <= 1.25 else 1


if __name__ == "__main__":
    sys.exit(main())
