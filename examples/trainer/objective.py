"""A training script of a user's own: fit a curve by gradient descent, and return its loss on points that it did not see.

``search`` runs it on the bus, once for each trial, as a function or as the program that it is: see run_search.py. It imports
nothing of the trainer; what it says by ``headway.metric`` lets a search stop the trials that lag behind.
"""

from __future__ import annotations

import argparse
import random

import headway

EVERY = 20
"""Steps between two looks at the held-out points."""


def train(rate: float, degree: int, steps: int = 200) -> dict[str, float]:
    """Fit a polynomial to noisy points of a cubic; the loss is the mean squared error on held-out points."""
    source = random.Random(7)
    points = [(x / 20, (x / 20) ** 3 - x / 20 + source.gauss(0, 0.02)) for x in range(-20, 21)]
    seen, held_out = points[::2], points[1::2]
    weights = [0.0] * (degree + 1)
    for step in range(steps):
        gradient = [0.0] * len(weights)
        for x, y in seen:
            error = value_at(weights, x) - y
            for power in range(len(weights)):
                gradient[power] += 2 * error * x**power / len(seen)
        weights = [weight - rate * slope for weight, slope in zip(weights, gradient, strict=True)]
        if step % EVERY == 0:
            headway.progress(step, steps)
            headway.metric("loss", mean_squared_error(weights, held_out), step)
    return {"loss": mean_squared_error(weights, held_out)}


def value_at(weights: list[float], x: float) -> float:
    return sum(weight * x**power for power, weight in enumerate(weights))


def mean_squared_error(weights: list[float], points: list[tuple[float, float]]) -> float:
    return sum((value_at(weights, x) - y) ** 2 for x, y in points) / len(points)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit a polynomial; the last line is the loss.")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--degree", type=int, default=3)
    given = parser.parse_args()
    found = train(given.rate, given.degree)
    headway.metric("loss", found["loss"], 200)
    print(found["loss"])
