"""Strategies by name: where a task goes, chosen when it arrives.

All but the default and ``fifo`` bind early: a task is planned on a runtime as soon as it is queued, and stays with it
while that lasts. They are here because document 002 asks for them by name and because a user may know better; by the
simulation none of them comes near the default, which binds late.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from headway_controller.estimates.estimate import log_normal_quantile
from headway_controller.placement.views import RuntimeView, TaskView

DEFAULT = "headway_completion"
FIFO = "fifo"
LATE = frozenset({DEFAULT, FIFO})
"""Strategies that leave a task in the common queue until a runtime has credit for it."""
ERROR_WEIGHT = 0.5


class Placement(Protocol):
    """A strategy. None: hold the task, ask again when something has changed."""

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None: ...


class LeastCompletion:
    """The runtime with the least expected completion, bound at once: what a user's own strategy may fall back on."""

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        return min(candidates, key=lambda view: (view.completion(task), view.name)).name


class ShortestQueue:
    """S-13: the least (expectation, error, count, name)."""

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        return min(candidates, key=lambda view: (*view.waiting, view.count, view.name)).name


class RoundRobin:
    """Each in turn, with a counter per target (S-17 keeps one for all, which is cyclic for none)."""

    MAX_TARGETS = 10_000

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        if len(self._next) > self.MAX_TARGETS:
            self._next.clear()
        turn = self._next.get(task.target, 0)
        self._next[task.target] = turn + 1
        names = sorted(view.name for view in candidates)
        return names[turn % len(names)]


class MinTime:
    """S-43: the least of the queue's expectation, its error, and the task's own time there."""

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        return min(candidates, key=lambda view: (view.completion(task) + view.waiting[1], view.name)).name


class Weighted:
    """S-18: the least expectation + weight · error; the weight between 0 and 1, higher is more cautious."""

    def __init__(self, error_weight: float = ERROR_WEIGHT) -> None:
        self.error_weight = min(max(error_weight, 0.0), 1.0)

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        def score(view: RuntimeView) -> tuple[float, int, str]:
            expectation, error = view.waiting
            return (expectation + self.error_weight * error, view.count, view.name)

        return min(candidates, key=score).name


class Probabilistic:
    """S-19: the smallest of one random sample per queue. Samples are drawn anew, so no sampling error accumulates."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        def sample(view: RuntimeView) -> tuple[float, float]:
            return (log_normal_quantile(*view.waiting, self._random.random()), self._random.random())

        return min(candidates, key=sample).name


class Random:
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        return self._random.choice(candidates).name


class PowerOfTwo:
    """The better of two that are drawn at random, by expected completion."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        drawn = candidates if len(candidates) < 2 else self._random.sample(candidates, 2)
        return min(drawn, key=lambda view: view.completion(task)).name


BUILT_IN: Mapping[str, Callable[[], Placement]] = {
    DEFAULT: LeastCompletion,
    FIFO: LeastCompletion,
    "shortest_queue": ShortestQueue,
    "round_robin": RoundRobin,
    "min_time": MinTime,
    "weighted": Weighted,
    "probabilistic": Probabilistic,
    "random": Random,
    "po2": PowerOfTwo,
}
"""The factories by name. For the two late ones the object is used only where a user's strategy delegates to it."""
