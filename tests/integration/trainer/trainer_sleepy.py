"""A model of a user's own whose fit waits for a file, which the environment of its runtime names."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from headway_trainer.models.base import Array, Model, State
from headway_trainer.models.parameters import Parameter


class Sleepy(Model):
    name: ClassVar[str] = "Sleepy"
    intro: ClassVar[str] = "the last value, after a while"
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("n", "int", 1, "is not used", low=1, search=(1, 1000)),)

    def learn(self, y: Array, features: Array | None) -> State:
        while not Path(os.environ["SLEEPY_RELEASE"]).exists():
            time.sleep(0.01)
        return {"last": y[-1:]}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        return np.repeat(state["last"], horizon)
