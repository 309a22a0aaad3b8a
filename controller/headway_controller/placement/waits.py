"""Waiting times as they are published: calibrated, scored, and watched until the task starts.

Not every task is watched: two hundred a second are enough to calibrate by, and cost next to nothing. Some are watched from
their submission; others from some moment of their waiting on, by the estimate that they have then. Without the latter,
nothing would be learned from a thousand tasks that were submitted in one moment: they share what was off in that moment.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from headway_bus import records
from headway_controller.estimates.calibration import Calibration
from headway_controller.estimates.scores import Scores

if TYPE_CHECKING:
    from headway_bus.ids import TaskId
    from headway_controller.placement.forecast import Expectation
    from headway_controller.placement.work import Work

MAX_WATCHED = 1024
SOON = 60.0
"""Seconds. When half of them are taken, those that start later are not watched: nothing would be learned for as long."""
INTERVAL = 0.005
"""Seconds between two tasks that are watched."""
IMMEDIATE = 0.001
"""Seconds that a task is taken to need for its start when there is room, beyond the way, until it is known better: its
acceptance, a turn of the controller, the start itself."""
LENGTH_STEP = math.log(4.0)
SHORTEST = 1e-4
"""Seconds; below, all tasks are of one size. Sizes are absolute: were they relative to the present mix, what was learned of
one kind would be told of another when the mix changes."""


class Watched(NamedTuple):
    arrival: float
    target: str
    key: str
    immediate: bool
    raw: float
    expectation: float
    p50: float
    p90: float


class Waits:
    def __init__(self) -> None:
        self.calibration = Calibration()
        self.scores = Scores()
        self.watched: dict[TaskId, Watched] = {}
        self._last = -math.inf

    @staticmethod
    def key_of(work: Work, raw: Expectation) -> str:
        """Estimates that are off in the same way: of one queue, of tasks of a size in steps of e (short tasks overtake, long
        ones are overtaken), and of waits of a length in steps of four tasks (what a wait for the next free slot is off by
        says nothing of a wait for hundreds of tasks). Of tasks that go straight to a runtime with room: that runtime's."""
        if raw.immediate and raw.book is not None:
            return f"straight/{raw.book.name}"
        mean = work.prediction.mean
        size = round(math.log(max(mean, SHORTEST)))
        length = int(math.log1p(raw.seconds / max(mean, SHORTEST)) / LENGTH_STEP)
        return f"{work.queue}/{work.priority}/{size}/{length}"

    def due(self, now: float) -> bool:
        """Whether the next task should be watched."""
        long_ago = now - self._last >= INTERVAL or now < self._last - MAX_WATCHED * INTERVAL  # or the clock went back
        return long_ago and len(self.watched) < MAX_WATCHED

    def use_up(self, now: float) -> None:
        """One look, whatever came of it; several of one batch use up the intervals to come."""
        self._last = max(self._last, now - INTERVAL) + INTERVAL

    def publish(self, work: Work, raw: Expectation) -> records.Estimate:
        """The calibrated estimate of ``raw``."""
        if raw.book is None:
            return records.Estimate(0.0, 0.0, known=False, why="no runtime can run it at the moment")
        way = raw.seconds if raw.immediate else 0.0  # what is learned is what comes on top of it
        seconds, error = (IMMEDIATE, IMMEDIATE) if raw.immediate else (raw.seconds, raw.error)
        expectation, p50, p90 = self.calibration.quantiles(self.key_of(work, raw), seconds, error)
        error = max((p90 - expectation) / 1.2816, error / 10.0)
        why = "" if raw.known else "no such task has ended three times yet"
        return records.Estimate(expectation + way, error, p50 + way, p90 + way, raw.known, why)

    def watch(self, task: TaskId, work: Work, raw: Expectation, now: float) -> None:
        """Remember what was said of it until it starts."""
        self.use_up(now)
        if raw.book is None or not raw.known:
            return
        if len(self.watched) > MAX_WATCHED // 2 and raw.seconds > SOON:
            return
        said = self.publish(work, raw)
        self.watched[task] = Watched(
            now,
            work.target,
            self.key_of(work, raw),
            raw.immediate,
            raw.seconds,
            said.expectation,
            said.p50,
            said.p90,
        )

    def started(self, task: TaskId, at: float) -> None:
        """It started at that time; if something was said of it, that is scored."""
        said = self.watched.pop(task, None)
        if said is None:
            return
        seen = max(at - said.arrival, 0.0)
        self.scores.observe(said.target, seen, said.expectation, said.p50 + 1e-9, said.p90, said.immediate)
        way, raw = (said.raw, IMMEDIATE) if said.immediate else (0.0, said.raw)
        self.calibration.observe(said.key, max(seen - way, 0.0), raw, said.p50 - way, said.p90 - way)

    def forget(self, task: TaskId) -> None:
        self.watched.pop(task, None)

    def to_state(self) -> dict[str, Any]:
        return {
            "calibration": self.calibration.to_state(),
            "scores": self.scores.to_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Waits:
        """Raises KeyError, TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        made.calibration = Calibration.from_state(state["calibration"])
        made.scores = Scores.from_state(state["scores"])
        return made
