"""A training script of a user's own: fit a curve by gradient descent, and return its loss on points that it did not see.

``search`` runs it on the bus, once for each trial: see run_search.py. It imports nothing of the trainer.
"""

from __future__ import annotations

import random

import headway


def train(rate: float, degree: int, steps: int = 200) -> dict[str, float]:
    """Fit a polynomial to noisy points of a cubic; the loss is the mean squared error on held-out points."""
    source = random.Random(7)
    points = [(x / 20, (x / 20) ** 3 - x / 20 + source.gauss(0, 0.02)) for x in range(-20, 21)]
    seen, held_out = points[::2], points[1::2]
    weights = [0.0] * (degree + 1)
    for step in range(steps):
        gradient = [0.0] * len(weights)
        for x, y in seen:
            error = sum(weight * x**power for power, weight in enumerate(weights)) - y
            for power in range(len(weights)):
                gradient[power] += 2 * error * x**power / len(seen)
        weights = [weight - rate * slope for weight, slope in zip(weights, gradient, strict=True)]
        if step % 50 == 0:
            headway.progress(step, steps)
    errors = [sum(weight * x**power for power, weight in enumerate(weights)) - y for x, y in held_out]
    return {"loss": sum(error**2 for error in errors) / len(errors)}
