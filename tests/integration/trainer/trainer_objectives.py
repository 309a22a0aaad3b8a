"""Objectives as users write them; the runtimes of the tests import this module."""

from __future__ import annotations

import time
from pathlib import Path

import headway
from headway_trainer.models.base import Array, State
from headway_trainer.models.registry import model
from headway_trainer.models.simple import Level


def bowl(x: float, y: float) -> float:
    return (x - 1) ** 2 + (y + 2) ** 2


def fussy(n: int, folder: str) -> dict[str, object]:
    with (Path(folder) / f"{n}").open("a") as stream:
        stream.write("ran\n")
    if n % 3 == 0:
        raise ValueError(f"{n} is not to my taste")
    return {"loss": float(n), "note": f"tried {n}"}


def slow_bowl(x: float, y: float) -> float:
    time.sleep(0.03)
    return bowl(x, y)


def gated_bowl(x: float, y: float, folder: str) -> float:
    """The first six of all runs end at once; the others wait for the file ``release`` in the folder."""
    with (Path(folder) / "runs").open("ab", buffering=0) as stream:
        stream.write(b".")
        number = stream.tell()
    while number > 6 and not (Path(folder) / "release").exists():
        time.sleep(0.01)
    return bowl(x, y)


def curve(x: float) -> float:
    """Reports three values and goes on for a long time, unless it is a good one: those end at once."""
    for step in range(3):
        headway.metric("loss", x + 1.0 / (step + 1), step)
    if x > 0.5:
        time.sleep(1000)
    return x


@model
class Firstling(Level):
    """A user's model that a job names by its own name."""

    name = "Firstling"
    intro = "the first value"

    def learn(self, y: Array, features: Array | None) -> State:
        return {"level": y[:1]}


class Stubborn(Level):
    """A user's model with a defect."""

    name = "Stubborn"
    intro = "never fits"

    def learn(self, y: Array, features: Array | None) -> State:
        raise RuntimeError("no")
