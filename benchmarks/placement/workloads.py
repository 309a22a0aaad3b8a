"""Tasks by seed: when they arrive, how much work they are, and what is said about them beforehand.

Work is in seconds at speed 1, 10 ms in the mean. All is drawn from :class:`random.Random`, so that a seed gives the same
tasks on every machine.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

MEAN_WORK = 0.010
MIX_BASES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
MIX_POWERS = (0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.5)


class Task(NamedTuple):
    arrival: float
    work: float
    target: str
    meta: dict[str, int | float | str]


NAMES = ("exp", "logn", "bim", "bimkey", "feat", "mix")


def make(name: str, count: int, rate: float, seed: int) -> list[Task]:
    """``count`` tasks of the named kind of work, arriving at random ``rate`` times a second."""
    source = random.Random(f"{name}/{seed}")
    drawn = [_draw(name, source) for _ in range(count)]
    scale = MEAN_WORK / expected_work(name)
    arrivals = random.Random(f"arrivals/{seed}")
    now = 0.0
    tasks = []
    for work, target, meta in drawn:
        now += arrivals.expovariate(rate)
        tasks.append(Task(now, work * scale, target, meta))
    return tasks


def _draw(name: str, source: random.Random) -> tuple[float, str, dict[str, int | float | str]]:
    if name == "exp":
        return source.expovariate(1.0), "exp", {}
    if name == "logn":
        return source.lognormvariate(0.0, 1.5), "logn", {}
    if name in ("bim", "bimkey"):
        large = source.random() < 0.01
        target = ("large" if large else "small") if name == "bimkey" else "bim"
        return (100.0 if large else 1.0) * source.lognormvariate(0.0, 0.1), target, {}
    if name == "feat":
        size = source.lognormvariate(0.0, 1.5)
        return size * source.lognormvariate(0.0, 0.2), "feat", {"size": 1000.0 * size}
    kind = source.randrange(len(MIX_BASES))
    size = source.lognormvariate(0.0, 1.0)
    work = MIX_BASES[kind] * size ** MIX_POWERS[kind] * source.lognormvariate(0.0, 0.3)
    return work, f"mix{kind}", {"size": 1000.0 * size}


def expected_work(name: str) -> float:
    """The mean of what :func:`_draw` draws, so that the load is what it is called."""
    if name == "exp":
        return 1.0
    if name == "logn":
        return math.exp(1.5**2 / 2)
    if name in ("bim", "bimkey"):
        return (0.99 + 0.01 * 100.0) * math.exp(0.1**2 / 2)
    if name == "feat":
        return math.exp((1.5**2 + 0.2**2) / 2)
    sizes = [base * math.exp(power**2 / 2) for base, power in zip(MIX_BASES, MIX_POWERS, strict=True)]
    return sum(sizes) / len(sizes) * math.exp(0.3**2 / 2)
