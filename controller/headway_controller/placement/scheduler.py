"""The scheduler's face: everything that may be done to it and asked of it. Pure: time is an argument, nothing is awaited.

The controller's core keeps the tasks; this keeps order, books and estimates. Tasks go through it as ids and options.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

from headway_bus import records
from headway_bus.ids import TaskId
from headway_bus.records import Options, RuntimeInfo
from headway_controller.estimates.model import LONGEST
from headway_controller.estimates.predictor import LearnedPredictor, Predictor
from headway_controller.estimates.switch import PredictorSwitch
from headway_controller.placement import explanation, takeback
from headway_controller.placement.backlog import Backlog
from headway_controller.placement.binding import Binder
from headway_controller.placement.book import Book
from headway_controller.placement.catalogue import Catalogue
from headway_controller.placement.dispatcher import Commit, Dispatcher
from headway_controller.placement.fairness import Line
from headway_controller.placement.fleet import Fleet
from headway_controller.placement.forecast import Expectation
from headway_controller.placement.lanes import Lane
from headway_controller.placement.outlook import Outlook
from headway_controller.placement.strategies import Placement
from headway_controller.placement.turnaround import Turnarounds
from headway_controller.placement.waits import Waits
from headway_controller.placement.work import Batch, Work

SAME = 0.001
"""Seconds of work that came in since, up to which like submissions of one moment are told the same: to find it out anew
was a third of what a submission cost where two hundred clients send one each. Like ones are of one client, or of clients of
which nothing else waits."""

START_FAILURES = 3
SET_ASIDE = (30.0, 3600.0)
"""Seconds that a bad machine is left alone: at first, and at most."""
BATCH_INTERVAL = 0.002
"""Seconds that the controller may take to react when it is busy: it commits that much more ahead."""
WATCHED = 16
"""Tasks of one batch whose start is compared with what was foretold, spread over the batch."""


class Notice(NamedTuple):
    """Something an operator should see: a log line and a counter."""

    kind: str  # "set-aside", "tried-again", "strategy-failed", "predictor-failed"
    name: str  # of the runtime, strategy or predictor
    text: str


class Told(NamedTuple):
    """What the first of many like submissions of one moment was told, while so many tasks waited."""

    queued: int
    answer: tuple[str, records.Estimate]


class Scheduler:
    """See the docstring of :mod:`headway_controller.placement` for how the core uses it."""

    def __init__(
        self,
        predictor: LearnedPredictor | None = None,
        fifo_queues: Iterable[str] = (),
        batch_interval: float = BATCH_INTERVAL,
    ) -> None:
        self.predictor = predictor if predictor is not None else LearnedPredictor()
        self.switch = PredictorSwitch(self.predictor, lambda name, text: self._notice("predictor-failed", name, text))
        self.catalogue = Catalogue(self.switch.prepare, fifo_queues)
        self.fleet = Fleet(self._speed_of, self._tried_again, batch_interval)
        self.binder = Binder(self.fleet, lambda name, text: self._notice("strategy-failed", name, text))
        self.backlog = Backlog(self.catalogue, self.binder)
        self.dispatcher = Dispatcher(self.fleet, self.backlog, self.binder)
        self.waits = Waits()
        self.turnarounds = Turnarounds()
        self._counters: dict[str, int] = {"asked_back": 0, "adopted": 0, "unknown": 0}
        self._outlook = Outlook(self.fleet, self.backlog.lanes, self.waits)
        self._sequence = 0
        self._lot = Random(0)
        self._told: dict[tuple[Work, Line | None], Told] = {}
        self._told_at = math.nan
        self._notices: list[Notice] = []

    @property
    def queued(self) -> int:
        """Tasks that wait for a runtime, planned ones included."""
        return self.backlog.queued

    @property
    def counters(self) -> dict[str, int]:
        learned = self.predictor
        refused = {"refused_meta": learned.refused_meta, "refused_durations": learned.refused_durations}
        return {"committed": self.dispatcher.committed, **self._counters, **refused}

    def take_up(self, waits: Waits, turnarounds: Turnarounds) -> None:
        """Go on with what an earlier controller kept; before the first runtime is added."""
        self.waits = self._outlook.waits = waits
        self.turnarounds = turnarounds

    # ------------------------------------------------------------------------------------------ runtimes

    def add_runtime(self, info: RuntimeInfo, now: float, round_trip: float = 0.0) -> None:
        """A runtime is there, or said again what it offers (what is booked there stays)."""
        self.predictor.speeds.declare(info.name, info.speed)
        is_new = info.name not in self.fleet.books
        book = self.fleet.add(info, now, bounded_delay(round_trip))
        if is_new:
            book.turnarounds = self.turnarounds.take_up(info.name)
        if self.catalogue.learn_patterns(info):
            self.backlog.sort_anew()

    def update_runtime(self, name: str, now: float, round_trip: float) -> None:
        """The round trip was measured."""
        book = self.fleet.books.get(name)
        if book is not None:
            book.delay = bounded_delay(round_trip) / 2
            self.fleet.dirty[book] = None

    def remove_runtime(self, name: str) -> list[TaskId]:
        """The runtime is gone. Returns all that was booked there; what of it is to run again is enqueued anew."""
        book = self.fleet.remove(name)
        if book is None:
            return []
        self.backlog.unplan(book)
        self.binder.touched.pop(book, None)
        held = [*book.committed, *book.running]
        for task in held:
            self.waits.forget(task)
        return held

    def drain(self, name: str, draining: bool) -> None:
        """Give it nothing new, or again. What it holds unstarted is asked back by :meth:`take_backs`."""
        book = self.fleet.books.get(name)
        if book is not None:
            book.draining = draining
            if draining:
                self._closed(book)
            else:
                self.fleet.closed.pop(book, None)
                self.fleet.dirty[book] = None

    def set_aside(self, name: str, why: str, until: float) -> None:
        """Give it nothing until then; an operator sees why."""
        book = self.fleet.books.get(name)
        if book is not None:
            self.fleet.set_aside(book, why, until)
            self._closed(book)

    def _closed(self, book: Book) -> None:
        self.fleet.dirty[book] = None
        self.fleet.closed[book] = None
        self.backlog.unplan(book)

    # ------------------------------------------------------------------------------------------ tasks

    def enqueue(self, task: TaskId, options: Options, now: float, owner: str = "") -> None:
        """A task waits for a runtime since ``now`` (its own earlier time, if it comes back)."""
        self.enqueue_many(options, (task,), now, owner)

    def enqueue_many(self, options: Options, tasks: Sequence[TaskId], now: float, owner: str = "") -> None:
        """Tasks of the same options and the same client wait, in this order."""
        if not tasks:
            return
        work = self.catalogue.work_of(options)
        self.fleet.watch(work.demand.need, self.backlog.needs)
        line = self.backlog.line_of(work, owner)
        lane = self.backlog.lane_of(work, line)
        if self.waits.due(now):
            step = -(-len(tasks) // WATCHED)
            for place in range(self._sequence * 7919 % step, len(tasks), step):
                self.waits.watch(tasks[place], work, self._outlook.raw(work, lane, now, float(place)), now)
        self._sequence += 1
        self.backlog.add(Batch(work, options, owner, line, now, self._sequence, list(tasks)[::-1]))

    def remove(self, task: TaskId, options: Options, owner: str = "") -> None:
        """A task that is queued here, and only such a one, is cancelled or has expired."""
        self.waits.forget(task)
        self.backlog.remove(task, options, owner)

    def started(self, runtime: str, task: TaskId, options: Options, now: float, age: float = 0.0) -> None:
        """It began ``age`` seconds before the report was sent; what nobody booked there is adopted."""
        book = self.fleet.books.get(runtime)
        if book is not None and task not in book.committed and task not in book.running:
            self.adopt(runtime, task, options, now, age)
        else:
            self.started_many(runtime, ((task, age),), now)

    def started_many(self, runtime: str, started: Iterable[tuple[TaskId, float]], now: float) -> None:
        """(task, age) of attempts that are booked there; others are ignored."""
        book = self.fleet.books.get(runtime)
        if book is None:
            self._counters["unknown"] += 1
            return
        latest = now - book.delay
        watched = self.waits.watched
        for task, age in started:
            since = latest - age if age > 0.0 else latest
            book.start(task, since)
            if task in watched:
                self.waits.started(task, since)
        self.fleet.dirty[book] = None

    def adopt(self, runtime: str, task: TaskId, options: Options, now: float, age: float | None = None) -> None:
        """A runtime holds what nobody booked (after a restart): ``age`` seconds running, or held if None."""
        book = self.fleet.books.get(runtime)
        if book is None or task in book.committed or task in book.running:
            return
        self._counters["adopted"] += 1
        work = self.catalogue.work_of(options)
        book.adopt(task, work, None if age is None else now - max(age, 0.0) - book.delay, now)
        self.fleet.dirty[book] = None

    def finished_many(
        self, runtime: str, ended: Sequence[tuple[TaskId, float]], now: float, ages: Sequence[float] = ()
    ) -> int:
        """(task, seconds) of attempts that are over; seconds below 0: it says nothing about how long such tasks run.

        ``ages``: seconds between each end and the report of it; none: they ended just then. Returns how many were booked.
        """
        book = self.fleet.books.get(runtime)
        if book is None:
            self._counters["unknown"] += 1
            return 0
        self.fleet.dirty[book] = None
        free = book.stock.slots
        latest = now - book.delay
        watched = self.waits.watched
        known = 0
        ran = 0.0
        work: Work | None = None
        durations: list[float] = []
        when = latest
        for place, (task, seconds) in enumerate(ended):
            if ages:
                when = latest - ages[place]
            booking = book.end(task, when)
            if booking is None:
                continue
            known += 1
            if task in watched:
                self.waits.started(task, when - max(seconds, 0.0))
            if not 0.0 <= seconds <= LONGEST:
                ran = math.nan
                if not seconds >= 0.0:
                    continue
            ran += seconds * booking.slots
            if booking.work is not work:
                self._learn(book, work, durations)
                work, durations = booking.work, []
            durations.append(seconds)
        self._learn(book, work, durations)
        if known:
            book.on_ends(latest - min(ages, default=0.0), now, free, known, ran)
        return known

    def returned(self, runtime: str, task: TaskId, now: float) -> bool:
        """It was given back unstarted; the caller enqueues it again. False: it was not booked there."""
        book = self.fleet.books.get(runtime)
        if book is None or book.end(task, now - book.delay) is None:
            return False
        self.waits.forget(task)
        self.fleet.dirty[book] = None
        return True

    def start_failed(self, runtime: str, task: TaskId, now: float, why: str) -> None:
        """It ended because the runtime could not start it. Three in a row speak against the machine."""
        book = self.fleet.books.get(runtime)
        if book is None:
            return
        book.end(task, now - book.delay)
        self.waits.forget(task)
        self.fleet.dirty[book] = None
        book.failures += 1
        if book.failures >= START_FAILURES and now >= book.set_aside_until:
            length = min(SET_ASIDE[0] * 2.0 ** min(book.failures - START_FAILURES, 30), SET_ASIDE[1])
            text = f"{book.failures} tasks in a row could not be started, the last one because: {why}"
            self.set_aside(runtime, text, now + length)
            self._notice("set-aside", runtime, f"{text}. It is tried again in {length:.0f} s.")

    def _learn(self, book: Book, work: Work | None, durations: list[float]) -> None:
        if work is not None and durations:
            book.failures = 0
            work.prediction.observe_many(book.name, durations)

    # ------------------------------------------------------------------------------------------ deciding

    def dispatch(self, now: float) -> list[Commit]:
        """What to commit now. It is booked when this returns."""
        commits = self.dispatcher.dispatch(now)
        if self.backlog.queued and self.waits.due(now):
            self._renew(now)
        return commits

    def _renew(self, now: float) -> None:
        """Watch one of those that wait by the estimate that it has now."""
        drawn = self.backlog.draw(self._lot)
        if drawn is not None and drawn.task not in self.waits.watched:
            raw = self._outlook.raw(drawn.work, drawn.lane, now, -(drawn.after + 1.0), drawn.arrived)
            self.waits.watch(drawn.task, drawn.work, raw, now)
        else:
            self.waits.use_up(now)

    def take_backs(self, now: float, paused: bool = False) -> list[tuple[str, list[TaskId]]]:
        """(runtime, tasks) to ask back if they have not started: their runtime was closed, or a free one would finish them
        sooner. The latter not of what a strategy has bound early, nor while nothing is given out (``paused``)."""
        sooner = self.binder.late and not paused and bool(self.fleet.holders)
        if not (sooner or self.fleet.closed):
            return []
        found = takeback.proposals(self.fleet, now, sooner)
        self._counters["asked_back"] += sum(len(tasks) for _, tasks in found)
        return found

    def ask_anew(self, name: str, now: float) -> None:
        """What was asked back from the runtime may not have been heard there: it may be asked for again."""
        book = self.fleet.books.get(name)
        if book is not None:
            book.forget_recalls()
            if not book.open(now):
                self.fleet.closed[book] = None

    def next_wake(self) -> float:
        """When :meth:`dispatch` should be called though nothing happened; infinity: need not be."""
        return self.fleet.next_wake() if self.queued else math.inf

    # ------------------------------------------------------------------------------------------ switching

    def use_strategy(self, name: str, strategy: Placement | None = None) -> None:
        """From now on this one, for what waits too. Raises ValueError with the valid names."""
        self.binder.use(name, strategy)
        self.catalogue.all_fifo = name == "fifo"
        self.backlog.sort_anew()
        self.fleet.dirty.update(dict.fromkeys(self.fleet.books.values()))

    def use_predictor(self, name: str, predictor: Predictor | None = None) -> None:
        """From now on this one; without one, the learned one."""
        self.switch.use(name, predictor)
        self.backlog.sort_anew()

    # ------------------------------------------------------------------------------------------ asking

    def waiting(
        self, options: Options, now: float, owner: str, behind: int = 0, arrived: float | None = None
    ) -> tuple[str, records.Estimate, records.Estimate]:
        """(runtime, start, end) in seconds from now for a task of these options that comes now, or came at ``arrived``.

        ``owner``: whose it is, for fair shares. ``behind``: tasks of its like that go before it and are not queued yet;
        below 0: it is queued, with so many after it.
        """
        work = self.catalogue.work_of(options)
        return self._outlook.waiting(work, self._lane_of(work, owner), now, float(behind), arrived)

    def start(self, options: Options, now: float, owner: str) -> tuple[str, records.Estimate]:
        """The first two of :meth:`waiting`: what every submission is told, and no more."""
        work = self.catalogue.work_of(options)
        line = self.backlog.line_of(work, owner)
        if now != self._told_at:
            self._told_at = now
            self._told.clear()
        like = (work, line if line.waiting else None)
        told = self._told.get(like)
        if told is not None and (self.queued - told.queued) * work.prediction.mean < SAME:
            return told.answer
        raw = self._outlook.raw(work, self.backlog.lane_of(work, line), now)
        answer = raw.book.name if raw.book is not None else "", self.waits.publish(work, raw)
        self._told[like] = Told(self.queued, answer)
        return answer

    def expectation(self, options: Options, now: float, owner: str = "") -> Expectation:
        """The raw expectation behind :meth:`waiting`, not calibrated."""
        work = self.catalogue.work_of(options)
        return self._outlook.raw(work, self._lane_of(work, owner), now)

    def run_time(self, options: Options, runtime: str) -> float | None:
        """Seconds, with twice the error, that such a task is expected to run there; None: nobody knows."""
        prediction = self.catalogue.work_of(options).prediction
        book = self.fleet.books.get(runtime)
        if book is None or not prediction.known:
            return None
        return (prediction.mean + 2.0 * math.sqrt(prediction.variance)) / book.speed

    def _lane_of(self, work: Work, owner: str) -> Lane:
        return self.backlog.lane_of(work, self.backlog.line_of(work, owner))

    def gpus_of(self, runtime: str, task: TaskId) -> list[int]:
        """The indices of the GPUs that a task which is committed or running there was given."""
        book = self.fleet.books.get(runtime)
        booking = book.booking_of(task) if book is not None else None
        return [index for index, _ in booking.gpus] if booking is not None else []

    def spare(self, options: Options, elsewhere: str, now: float) -> tuple[str, float] | None:
        """The runtime, another than ``elsewhere``, with room now that would be done first, and seconds until then."""
        work = self.catalogue.work_of(options)
        found: tuple[str, float] | None = None
        for book in self.fleet.candidates(work.demand):
            if book.name == elsewhere or not book.open(now) or not book.stock.fits(work.demand.need):
                continue
            seconds = work.prediction.mean / book.speed + 2 * book.delay
            if found is None or seconds < found[1]:
                found = (book.name, seconds)
        return found

    def remaining(self, runtime: str, task: TaskId, now: float) -> records.Estimate | None:
        """Seconds until a task that is committed or running there is over; None: it is not booked there."""
        book = self.fleet.books.get(runtime)
        if book is None:
            return None
        return self._outlook.remaining(book, task, now)

    def queues(self, target: str, now: float) -> list[records.QueueState]:
        """Per runtime that may run the target (``""``: every runtime): the waiting time and what is ahead."""
        works = self.catalogue.works_of(target) if target else ()
        return self._outlook.queues(target, works, now)

    def scores(self) -> dict[str, dict[str, float]]:
        """How waits that were foretold held: per target, ``""`` for all, ``"*"`` for those that had to wait."""
        return self.waits.scores.as_dict()

    def explain(self, options: Options, now: float, task: TaskId | None = None, owner: str = "") -> dict[str, Any]:
        """Why a task is where it is, or what one of these options would wait for; plain data."""
        if task is not None:
            for book in self.fleet.books.values():
                if task in book.committed:
                    return explanation.of_held(book, book.committed[task], False)
                if task in book.running:
                    return explanation.of_held(book, book.running[task][0], True)
        work = self.catalogue.work_of(options)
        story = explanation.of_waiting(self.fleet, self.catalogue, options, work, now)
        runtime, start, end = self.waiting(options, now, owner)
        story.update(strategy=self.binder.name, predictor=self.switch.name, runtime=runtime)
        story.update(starts=explanation.of_estimate(start), ends=explanation.of_estimate(end))
        if task is not None and (planned := self.planned_on(task)):
            story.update(state="planned", runtime=planned)
        return story

    def planned_on(self, task: TaskId) -> str:
        """The runtime for which a strategy that binds early has planned a waiting task; ``""``: none."""
        book = self.binder.plans.where.get(task)
        return book.name if book is not None else ""

    def notices(self) -> list[Notice]:
        """What an operator should see since the last call."""
        found, self._notices = self._notices, []
        return found

    # ------------------------------------------------------------------------------------------ within

    def _notice(self, kind: str, name: str, text: str) -> None:
        self._notices.append(Notice(kind, name, text))

    def _tried_again(self, name: str) -> None:
        self._notice("tried-again", name, "it is given tasks again")

    def _speed_of(self, book: Book) -> float:
        return self.predictor.speeds.of(book.name)

    def validate(self) -> None:
        """Raises AssertionError when the books do not agree with themselves."""
        self.backlog.validate()
        for book in self.fleet.books.values():
            book.validate()
        recalled = sum(len(book.recalled) for book in self.fleet.books.values())
        assert self.fleet.recalls.count == recalled, f"{recalled} are asked back, {self.fleet.recalls.count} counted"


def bounded_delay(round_trip: float) -> float:
    """A round trip that can be reckoned with, in seconds."""
    return min(max(round_trip, 0.0), 60.0) if math.isfinite(round_trip) else 0.0
