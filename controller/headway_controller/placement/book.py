"""One runtime's book: what is committed to it and what runs there, and from that when it will have room.

Drains are kept as sums and start times, never by walking a queue: what is committed is a sum of means and one of
variances; what runs is at most as many attempts as there are slots, looked at one by one only while they are few.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from headway_controller.placement.credit import horizon
from headway_controller.placement.resources import TOLERANCE, Stock
from headway_controller.placement.turnaround import Turnaround

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headway_bus.ids import TaskId
    from headway_bus.records import RuntimeInfo
    from headway_controller.placement.fleet import Choice
    from headway_controller.placement.pools import Pool
    from headway_controller.placement.work import Work

WALKED = 4
"""Up to so many running attempts are looked at after each change; of more, their sum is renewed now and then."""


class Booking(NamedTuple):
    """What was booked for an attempt when it was committed; shared by all that were committed together."""

    work: Work
    mean: float
    """Seconds on this runtime."""
    variance: float
    known: bool
    gpus: tuple[tuple[int, float], ...] = ()
    choice: Choice | None = None
    """Why here: what was expected of this runtime and of the runner-up."""
    slots: float = 1.0


class Recalls:
    """``count``: tasks of all runtimes that were asked back and have neither come nor started."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Book:
    """All times are the controller's; the runtime's news are ``delay`` seconds old when they arrive."""

    __slots__ = (
        "_remaining_at",
        "_remaining_changes",
        "_remaining_mean",
        "_remaining_variance",
        "batch_interval",
        "committed",
        "committed_mean",
        "committed_variance",
        "delay",
        "draining",
        "failures",
        "graded",
        "idle_since",
        "info",
        "name",
        "planned",
        "planned_mean",
        "planned_variance",
        "pool",
        "recalled",
        "recalls",
        "running",
        "running_slots",
        "serial",
        "set_aside_until",
        "set_aside_why",
        "speed",
        "started_sum",
        "stock",
        "turnarounds",
        "unknown",
        "wake_at",
    )

    def __init__(
        self, info: RuntimeInfo, now: float, round_trip: float, batch_interval: float, serial: int, recalls: Recalls
    ) -> None:
        self.serial = serial
        self.recalls = recalls
        self.batch_interval = batch_interval
        self.info = info
        self.name = info.name
        self.stock = Stock(info)
        self.speed = 1.0
        self.delay = round_trip / 2
        self.pool: Pool | None = None
        self.graded = (1.0, 0.0)
        """Speed and delay by which its pool was found."""
        self.committed: dict[TaskId, Booking] = {}
        self.running: dict[TaskId, tuple[Booking, float]] = {}
        self.running_slots = 0.0
        self.started_sum = 0.0
        """Of the running attempts' starts, times their slots."""
        self.turnarounds = (Turnaround(), Turnaround())
        """Of attempts that had been committed behind the one before them, and of those that came after the news of its end."""
        self.recalled: set[TaskId] = set()
        """Committed tasks that were asked back; the answer is still out."""
        self.committed_mean = 0.0
        self.committed_variance = 0.0
        self.unknown = 0
        """Attempts here whose run time is a guess: behind them nothing is committed ahead."""
        self.planned = 0
        self.planned_mean = 0.0
        self.planned_variance = 0.0
        """What an early-binding strategy has planned here and is not committed: a count, slot-seconds here, their variance."""
        self.idle_since = now
        """Since when the first committed attempt can have been running, if none is said to be."""
        self.draining = False
        self.set_aside_until = -math.inf
        self.set_aside_why = ""
        self.failures = 0
        self.wake_at = math.inf
        self._remaining_mean = 0.0
        self._remaining_variance = 0.0
        self._remaining_at = -math.inf
        self._remaining_changes = 0

    @property
    def held(self) -> int:
        return len(self.committed) + len(self.running)

    def open(self, now: float) -> bool:
        """Whether it may be given anything."""
        return not self.draining and now >= self.set_aside_until

    def offer(self, info: RuntimeInfo) -> None:
        """The runtime offers something else now: what it holds is claimed anew from the new totals."""
        self.info, self.stock = info, Stock(info)
        for task, booking in self.committed.items():
            self.committed[task] = booking._replace(gpus=self.stock.claim(booking.work.demand.need))
        for task, (booking, started) in self.running.items():
            self.running[task] = (booking._replace(gpus=self.stock.claim(booking.work.demand.need)), started)

    # ------------------------------------------------------------------------------------------ what happens

    def booking_of(self, task: TaskId) -> Booking | None:
        """What was booked for a task that is committed or running here."""
        running = self.running.get(task)
        return running[0] if running is not None else self.committed.get(task)

    def commit(self, tasks: Sequence[TaskId], work: Work, now: float, choice: Choice | None = None) -> None:
        prediction = work.prediction
        need = work.demand.need
        speed = self.speed
        mean, variance = prediction.mean / speed, prediction.variance / (speed * speed)
        if not self.committed and not self.running:
            self.idle_since = now + self.delay
        if self.stock.slots >= TOLERANCE:
            self._refill(now)
        booking = Booking(work, mean, variance, prediction.known, (), choice, need.slots)
        if need.plain:
            self.stock.claim(need, len(tasks))
            self.committed.update(dict.fromkeys(tasks, booking))
        else:
            for task in tasks:
                self.committed[task] = booking._replace(gpus=self.stock.claim(need))
        self.committed_mean += mean * need.slots * len(tasks)
        self.committed_variance += variance * need.slots * len(tasks)
        if not prediction.known:
            self.unknown += len(tasks)

    def _refill(self, now: float) -> None:
        for turnaround in self.turnarounds:
            if now > turnaround.refilled_by:
                turnaround.break_off()

    def start(self, task: TaskId, started: float) -> bool:
        """It runs since then. False: it was not committed here."""
        booking = self._uncommit(task)
        if booking is None:
            return False
        self._add_running(task, booking, started)
        return True

    def adopt(self, task: TaskId, work: Work, started: float | None, now: float) -> None:
        """It is there, though nobody booked it: running since ``started``, or held if that is None."""
        self.commit((task,), work, now)
        if started is not None:
            self.start(task, started)

    def end(self, task: TaskId, ended: float) -> Booking | None:
        """It is over, or given back, or was never here (None)."""
        booking = self._uncommit(task)
        if booking is None:
            entry = self.running.pop(task, None)
            if entry is None:
                return None
            booking = entry[0]
            self._remaining_changes += 1
            slots = booking.slots
            self._remaining_mean -= booking.mean * slots
            if self.running:
                self.running_slots -= slots
                self.started_sum -= entry[1] * slots
            else:  # exact zeros again, see below
                self.running_slots = self.started_sum = 0.0
        self.idle_since = ended
        if not booking.known:
            self.unknown -= 1
        self.stock.release(booking.work.demand.need, booking.gpus)
        return booking

    def _uncommit(self, task: TaskId) -> Booking | None:
        booking = self.committed.pop(task, None)
        if booking is None:
            return None
        if task in self.recalled:
            self.recalled.remove(task)
            self.recalls.count -= 1
        if self.committed:
            slots = booking.slots
            self.committed_mean -= booking.mean * slots
            self.committed_variance -= booking.variance * slots
        else:  # an exact zero again: sums of floats drift
            self.committed_mean = self.committed_variance = 0.0
        return booking

    def _add_running(self, task: TaskId, booking: Booking, started: float) -> None:
        slots = booking.slots
        self.running[task] = (booking, started)
        self.running_slots += slots
        self.started_sum += started * slots
        self._remaining_mean += booking.mean * slots
        self._remaining_variance += booking.variance * slots
        self._remaining_changes += 1

    def recall(self, tasks: Sequence[TaskId]) -> None:
        """These are asked back."""
        self.recalled.update(tasks)
        self.recalls.count += len(tasks)

    def forget_recalls(self) -> None:
        """Nobody may have heard that they are asked back, or the answer is lost: they may be asked for again."""
        self.recalls.count -= len(self.recalled)
        self.recalled.clear()

    def plan(self, work: Work, count: int) -> None:
        """So many more are planned here, or fewer where it is negative."""
        prediction, slots = work.prediction, work.demand.need.slots
        self.planned += count
        if self.planned <= 0:
            self.clear_plan()
            return
        self.planned_mean = max(self.planned_mean + count * slots * prediction.mean / self.speed, 0.0)
        spread = prediction.variance / (self.speed * self.speed)
        self.planned_variance = max(self.planned_variance + count * slots * spread, 0.0)

    def unplan_one(self) -> None:
        """One of them was cancelled; which one matters little to the sum, and it is exact again when all are gone."""
        share = 1.0 - 1.0 / max(self.planned, 1)
        self.planned = max(self.planned - 1, 0)
        self.planned_mean *= share
        self.planned_variance *= share

    def clear_plan(self) -> None:
        self.planned, self.planned_mean, self.planned_variance = 0, 0.0, 0.0

    # ------------------------------------------------------------------------------------------ what is expected

    def drain(self, now: float) -> tuple[float, float]:
        """(expectation, error) in seconds until a slot is free for something that is committed now; 0 while one is.

        s slots and n attempts, n ≥ s: the time until the first of them is free is about the total work / s · (n-s+1)/n:
        the mean remainder / s when nothing waits (exact for exponential run times), the total work / s when much does.
        """
        stock = self.stock
        if stock.slots >= TOLERANCE or not stock.total_slots:
            return 0.0, 0.0
        total = stock.total_slots
        mean, variance = self.committed_mean, self.committed_variance
        if self.running:
            left, left_variance = self._remaining(now)
            mean += left
            variance += left_variance
        else:
            # News of the start is on its way: counted from when it can have begun.
            mean += (self.idle_since - now) * total
        held = len(self.committed) + len(self.running)
        wait = mean / total
        if total > 1.0:
            wait *= max(held - total + 1.0, 1.0) / held
        return max(wait, 0.0), math.sqrt(max(variance, 0.0)) / total

    def turnaround(self, mean: float) -> float:
        """Seconds that a slot stands still between two attempts of that mean run time here."""
        ahead, after = self.turnarounds
        return (ahead if mean <= horizon(self) else after).seconds

    def on_ends(self, when: float, now: float, slots: float, count: int, ran: float) -> None:
        """So many attempts have ended by ``when`` after ``ran`` slot-seconds together; NaN: nobody knows after how many.

        ``slots``: how many were free until now, less what was committed ahead.
        """
        ahead, after = self.turnarounds
        if not ran >= 0.0:
            ahead.break_off()
            after.break_off()
            return
        mine, other = (ahead, after) if slots < -TOLERANCE else (after, ahead)
        ages = max(when * self.running_slots - self.started_sum, 0.0)
        mine.on_ends(when, now, slots < TOLERANCE, self.stock.total_slots, count, ran, ages)
        other.break_off()

    def expected_drain(self, now: float) -> float:
        """The expectation of :meth:`drain` with the turnaround between what is committed: what a person is told.

        Credit does without it: what is committed ahead has to cover the way of the news, whatever the runtime does meanwhile.
        """
        drain = self.drain(now)[0]
        if drain <= 0.0:
            return drain
        return drain + len(self.committed) * self.turnarounds[0].seconds / max(self.stock.total_slots, 1.0)

    def planned_drain(self, now: float) -> tuple[float, float]:
        """:meth:`drain` with what is planned, for a task that would be planned now."""
        drain, error = self.drain(now)
        total = max(self.stock.total_slots, 1.0)
        if drain == 0.0 and self.planned + 1 <= self.stock.slots + TOLERANCE:
            return 0.0, 0.0
        if drain == 0.0:
            # Free slots that the plan fills: what runs in the others is as long away as the plan itself.
            left = self._remaining(now)[0] if self.running else 0.0
            drain = (self.committed_mean + max(left, 0.0)) / total
        return drain + self.planned_mean / total, math.sqrt(error * error + self.planned_variance / (total * total))

    def _remaining(self, now: float) -> tuple[float, float]:
        """Mean and variance of what is left of the running attempts, in slot-seconds, as far as the news go."""
        running = self.running
        count = len(running)
        changes = self._remaining_changes
        if not changes or (count > WALKED and changes * 4 < count):
            age = now - self._remaining_at
            if 0.0 <= age * count < 0.05 * self._remaining_mean:
                return self._remaining_mean - age * count, self._remaining_variance
        mean = variance = 0.0
        speed, delay = self.speed, self.delay
        seen, square = now - delay, speed * speed
        for booking, started in running.values():
            left, spread = booking.work.prediction.remaining((seen - started) * speed)
            slots = booking.slots
            mean += (left / speed - delay) * slots
            variance += spread / square * slots
        self._remaining_mean, self._remaining_variance = mean, variance
        self._remaining_at, self._remaining_changes = now, 0
        return mean, variance

    def validate(self) -> None:
        """Raises AssertionError when the book does not agree with itself."""
        held = [*self.committed.values(), *(entry[0] for entry in self.running.values())]
        used = sum(booking.slots for booking in held)
        assert abs(self.stock.total_slots - used - self.stock.slots) < 1e-6, (
            f"{self.name}: slots are not what is booked"
        )
        assert all(-1e-6 <= share <= 1.0 + 1e-6 for share in self.stock.gpus), f"{self.name}: a GPU is overdrawn"
        assert self.unknown == sum(not booking.known for booking in held), f"{self.name}: guesses are miscounted"
        assert self.recalled <= self.committed.keys(), f"{self.name}: asked back what it does not hold"
        assert not self.committed.keys() & self.running.keys(), f"{self.name}: a task is committed and running"
        assert self.committed or self.committed_mean == 0.0, f"{self.name}: a sum of nothing"
