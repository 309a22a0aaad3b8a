"""What a runtime does about what happens to it. Pure: events and the time go in, effects come out.

Events only change the books and say what must happen at once; ``flush``, called once per wake-up of the loop after all its
events, feeds children, starts commands and makes the report. So a thousand assignments cost one look at the slots, and
everything that happened together is told together.

An attempt is in ``attempts`` from its assignment until its end is written into the reporter, which has it until the
controller has stored it. Every attempt leaves by ``Endings.finish``, and only there.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey, TaskId
from headway_bus.messages import (
    Assign,
    AssignGroup,
    Message,
    Registered,
    RuntimeLeaving,
    SendInventory,
    SetDrain,
    Settled,
    Stop,
    TakeBack,
    Welcome,
)
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, LogRecord, Reason, RuntimeInfo
from headway_runtime import checks, views
from headway_runtime.departure import Departure
from headway_runtime.effects import (
    Effect,
    EndChild,
    Fetch,
    Interrupt,
    Leave,
    StartCommand,
    Tell,
    Throttle,
)
from headway_runtime.endings import Endings, ended
from headway_runtime.pool import Pool, recall
from headway_runtime.presence import Presence
from headway_runtime.refusals import Refusals
from headway_runtime.reports import Reporter
from headway_runtime.specs import Specs
from headway_runtime.state import LEFTOVER_GRACE, NOT_BEGUN, START_DELAY, Attempt, Bounds, Phase

BUSY_TICK = 0.005
GATHER = 0.005
"""Seconds in which the ends of commands are gathered into one report while others are here to be begun: nobody waits for them
but for the news, and a message for each costs the controller and the client more than the command does."""

WATCH_TICK = 0.05
"""Seconds between looks at children: the first while something is new, the second while all have been long at it."""


class Core:
    """The books of one runtime. Every ``on_`` method returns what is to be done, in order."""

    def __init__(
        self,
        info: RuntimeInfo,
        instance: bytes,
        refusals: Refusals,
        bounds: Bounds | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.bounds = bounds or Bounds()
        self.presence = Presence(info, instance)
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.pool = Pool(info.slots, self.bounds.max_children)
        self.reporter = reporter or Reporter(self.bounds.logs_bytes, self.bounds.message_bytes)
        self._endings = Endings(self.attempts, self.reporter)
        self.specs = Specs(refusals, info.gpus)
        self.draining = False
        self.departure = Departure(self.bounds.drain_seconds, self.bounds.settle_seconds)
        self.duplicates = 0
        self._running: dict[AttemptKey, Attempt] = {}
        self._unannounced: list[Attempt] = []
        self._throttled = False
        self._next_resend = 0.0
        self._reported = 0.0

    def on_start(self) -> list[Effect]:
        """Make the children that are sure to be needed: the first attempts need not wait for them."""
        return self.pool.prepare(self.bounds.ready_children)

    # -------------------------------------------------------------------------------------- the connection

    @property
    def is_registered(self) -> bool:
        """Whether the controller can be told anything."""
        return self.presence.is_registered

    def on_up(self, welcome: Welcome, now: float) -> list[Effect]:
        self.presence.up(welcome, now)
        return self.on_controller(welcome.controller, now)

    def on_down(self, now: float) -> list[Effect]:
        self.presence.down()
        return []

    def on_controller(self, controller: bytes, now: float) -> list[Effect]:
        """The controller came or was replaced, or went (empty): then everything goes on, and reports wait."""
        self.presence.change_controller(controller)
        return self._register(now)

    def _register(self, now: float) -> list[Effect]:
        """Say what is held, then repeat every report that is not settled: in this order the digests agree again."""
        if not self.is_registered:
            return []
        effects: list[Effect] = [
            Tell(
                self.presence.register(
                    views.inventory(self.attempts, self.reporter.unsettled, now), self.draining, now
                ),
                [],
            )
        ]
        effects += (Tell(report, frames) for report, frames, _ in self.reporter.resend(now, everything=True))
        return effects

    # -------------------------------------------------------------------------------------- messages

    def on_message(self, message: Message, frames: Sequence[Frame], now: float) -> list[Effect]:
        """A message from the controller. What is not the core's is passed over."""
        match message:
            case Assign():
                return self.on_assign(message, frames, now)
            case Settled(batches):
                self.reporter.settled(batches)
            case Stop(attempts, grace, reason):
                return self.on_stop(attempts, grace, reason, now)
            case TakeBack(attempts):
                return self.on_take_back(attempts, now)
            case Registered():
                return self.on_registered(message, now)
            case SetDrain(drain):
                return self.on_drain(drain, now)
            case SendInventory():
                return self._register(now)
        return []

    def on_registered(self, message: Registered, now: float) -> list[Effect]:
        self.presence.answered(message.first)
        self.reporter.forget((TaskId(task), number) for task, number in message.forget)
        return self.on_stop(message.stop, -1.0, "the controller no longer wants it", now)

    def on_assign(self, assign: Assign, frames: Sequence[Frame], now: float) -> list[Effect]:
        if not self.presence.is_new(assign.batch):
            self.duplicates += 1
            return []
        effects: list[Effect] = []
        for group in assign.groups:
            self._take_in(group, frames, effects, now)
        return effects

    def _take_in(self, group: AssignGroup, frames: Sequence[Frame], effects: list[Effect], now: float) -> None:
        common = self.specs.of(group.options)
        attempts, ready, reporter = self.attempts, self.pool.ready, self.reporter
        for place, (task, number, payload) in enumerate(group.attempts):
            key = (task, number)
            spec = self.specs.of(group.options, group.gpus[place]) if place < len(group.gpus) else common
            if key in attempts or reporter.is_unsettled(key):
                self.duplicates += 1
                continue
            content = frames[payload] if isinstance(payload, int) else payload
            attempt = attempts[key] = Attempt(key, content, spec)
            reporter.took(key)
            if spec.refusal is not None:
                self._endings.finish(attempt, ended(attempt, AttemptEnd.FAILED, spec.refusal), None, now)
            elif self.draining:
                self._endings.finish(attempt, ended(attempt, AttemptEnd.RETURNED), None, now)
            elif isinstance(content, Blob) or group.options.files:
                attempt.phase = Phase.FETCHING
                effects.append(Fetch(key, views.blobs_of(attempt)))
            else:
                ready.append(attempt)

    def on_stop(self, keys: Iterable[tuple[TaskId, int]], grace: float, reason: str, now: float) -> list[Effect]:
        """End attempts; those not begun never are."""
        effects: list[Effect] = []
        for key in keys:
            attempt = self.attempts.get((key[0], key[1]))
            if attempt is not None:
                error = ErrorInfo(Reason.CANCELLED, reason or "cancelled")
                effects += self._endings.order(attempt, AttemptEnd.CANCELLED, error, grace, now)
        return effects

    def on_take_back(self, keys: Iterable[tuple[TaskId, int]], now: float) -> list[Effect]:
        """Return attempts that have not begun."""
        recalls: dict[int, Effect] = {}
        for key in keys:
            attempt = self.attempts.get((key[0], key[1]))
            if attempt is None:
                continue
            if attempt.phase in NOT_BEGUN:
                self._endings.finish(attempt, ended(attempt, AttemptEnd.RETURNED), None, now)
            elif attempt.phase is Phase.FED and attempt.child is not None:
                attempt.take_back = True
                recalls[attempt.child.number] = recall(attempt.child, now)
        return list(recalls.values())

    # -------------------------------------------------------------------------------------- children

    def on_child_ended(self, number: int, ended: Sequence[Ended], frames: Sequence[Frame], now: float) -> list[Effect]:
        """A child says that these are over. A result that is an index stands for one of the frames."""
        child = self.pool.children.get(number)
        if child is None:
            return []
        child.spoke = True
        effects: list[Effect] = []
        for attempt, record in self.pool.take_ended(child, ended, now):
            result = record.result
            if type(result) is bytes and not record.files:
                self._endings.finish(attempt, record, None, now)
            elif upload := views.upload_of(attempt.key, record):
                attempt.child = None
                attempt.outcome = record
                effects.append(upload)
            else:
                self._endings.finish(attempt, record, frames[result] if isinstance(result, int) else None, now)
        return effects

    def on_child_answered(
        self, number: int, given: Iterable[tuple[TaskId, int]], current: tuple[TaskId, int] | None, now: float
    ) -> list[Effect]:
        """A child's answer to a recall: what it has not begun and never will, and what it is at."""
        child = self.pool.children.get(number)
        if child is None:
            return []
        self._given_back(self.pool.give_back(child, ((task, attempt) for task, attempt in given), now), now)
        running = child.queue.get((current[0], current[1])) if current is not None else None
        if running is not None and running.order is not None:
            return [Interrupt(number, running.key)]
        return []

    def _given_back(self, attempts: Iterable[Attempt], now: float) -> None:
        for attempt in attempts:
            order = attempt.order
            if order is not None:
                self._endings.finish(attempt, ended(attempt, order.end, order.error), None, now)
            elif attempt.take_back or self.draining:
                self._endings.finish(attempt, ended(attempt, AttemptEnd.RETURNED), None, now)

    def on_child_left(self, number: int, record: Ended, frame: Frame | None, now: float) -> list[Effect]:
        """An attempt ended but left processes behind: they go first, and the child with them (I5)."""
        child = self.pool.children.get(number)
        attempt = child.queue.get((record.task, record.attempt)) if child is not None else None
        if child is None or attempt is None:
            return []
        attempt.spec.observe(record.seconds)
        attempt.outcome = record if frame is None else replace(record, result=bytes(frame))
        child.ending = True
        self._endings.set_alarm(now + LEFTOVER_GRACE, "kill", attempt)
        return [EndChild(number, signal.SIGTERM), *([] if child.recalled else [recall(child, now)])]

    def on_child_gone(self, number: int, cause: ErrorInfo, was_running: bool, now: float) -> list[Effect]:
        """A child's whole process tree is gone, after everything that it said was handed over.

        ``was_running``: it died in the middle of its first attempt, which then ended with ``cause``.
        """
        child = self.pool.children.get(number)
        if child is None:
            return []
        attempts = list(child.queue.values())
        head = attempts[0] if attempts else None
        effects: list[Effect] = []
        if head is not None and (was_running or not child.spoke or head.outcome is not None):
            self.pool.remove(child, head.key, now)
            ran = max(0.0, now - child.head_since) if was_running else 0.0
            record = head.outcome or ended(head, AttemptEnd.FAILED, cause, ran)
            if upload := views.upload_of(head.key, record):
                effects.append(upload)
            else:
                self._endings.finish(head, record, None, now)
        self._given_back(self.pool.give_back(child, list(child.queue), now), now)
        self.pool.drop_child(child)
        return effects

    # -------------------------------------------------------------------------------------- commands and files

    def on_over_memory(self, key: AttemptKey, used: int, now: float) -> list[Effect]:
        """An attempt's process tree occupies more memory than it may: it ends at once, before the machine suffers."""
        attempt = self.attempts.get(key)
        if attempt is None:
            return []
        limit = attempt.spec.options.requirements.memory
        error = ErrorInfo(Reason.MEMORY, f"its processes occupied {used} bytes of memory; its limit is {limit}")
        return self._endings.order(attempt, AttemptEnd.FAILED, error, 0.0, now)

    def with_memory_limit(self) -> list[Attempt]:
        """Attempts that run, as far as is known, and whose memory is limited."""
        return views.with_memory_limit(self.pool, self._running)

    def blobs_in_use(self) -> set[bytes]:
        """The hashes of large values that attempts still need."""
        return views.blobs_in_use(self.attempts.values())

    def on_command_gone(self, key: AttemptKey, record: Ended, now: float) -> list[Effect]:
        """A command's whole process tree is gone, and all of its output was handed over."""
        attempt = self._running.pop(key, None)
        if attempt is not None:
            self.pool.free += attempt.spec.options.requirements.slots
            attempt.spec.observe(record.seconds)
            if upload := views.upload_of(key, record):
                attempt.outcome = record
                return [upload]
            self._endings.finish(attempt, record, None, now)
        return []

    def on_processes_lost(self, children: Iterable[int], now: float) -> list[Effect]:
        """Every process has been killed by what is no fault of the attempts: all of them run again, elsewhere or here."""
        for number in children:
            child = self.pool.children.get(number)
            if child is None:
                continue
            for attempt in list(child.queue.values()):
                self.pool.remove(child, attempt.key, now)
                self._endings.finish(attempt, attempt.outcome or ended(attempt, AttemptEnd.RETURNED), None, now)
            self.pool.drop_child(child)
        for key, attempt in list(self._running.items()):
            self.on_command_gone(key, ended(attempt, AttemptEnd.RETURNED), now)
        return []

    def on_logs(self, records: Iterable[LogRecord]) -> None:
        self.reporter.logs(records)

    def on_dropped(self, dropped: dict[bytes, int]) -> None:
        """Log records were dropped at their source."""
        for task, number in dropped.items():
            self.reporter.dropped(task, number)

    def on_fetched(self, key: AttemptKey, error: ErrorInfo | None, now: float) -> list[Effect]:
        """The large values of an attempt are here, or cannot be had."""
        attempt = self.attempts.get(key)
        if attempt is None or attempt.phase is not Phase.FETCHING:
            return []
        if error is not None:
            self._endings.finish(attempt, ended(attempt, AttemptEnd.FAILED, error), None, now)
        else:
            attempt.phase = Phase.READY
            self.pool.ready.append(attempt)
        return []

    def on_uploaded(self, key: AttemptKey, error: ErrorInfo | None, now: float) -> list[Effect]:
        """The controller has the large result of an attempt, or will not have it."""
        attempt = self.attempts.get(key)
        if attempt is not None and attempt.outcome is not None:
            record = attempt.outcome
            if error is not None:
                record = replace(record, end=AttemptEnd.FAILED, result=b"", error=error, files=[])
            self._endings.finish(attempt, record, None, now)
        return []

    # -------------------------------------------------------------------------------------- draining

    @property
    def is_leaving(self) -> bool:
        return self.departure.has_begun

    def on_drain(self, drain: bool, now: float) -> list[Effect]:
        """Begin nothing new and give back what has not begun; or, ``drain`` false, take work again."""
        if self.is_leaving:
            return []
        self.draining = drain
        return self._return_unstarted(now) if drain else []

    def on_leave(self, now: float) -> list[Effect]:
        """The process is to end: drain, and leave when all is done and confirmed."""
        if self.is_leaving:
            return []
        self.departure.begin(now)
        self.draining = True
        effects = self._return_unstarted(now)
        if self.is_registered:
            effects += self._reports(now)
            effects.append(Tell(RuntimeLeaving("draining"), []))
        return effects

    def _return_unstarted(self, now: float) -> list[Effect]:
        waiting = [each for each in self.attempts.values() if each.phase in NOT_BEGUN]
        for attempt in waiting:
            self._endings.finish(attempt, ended(attempt, AttemptEnd.RETURNED), None, now)
        return [recall(child, now) for child in self.pool.busy if len(child.queue) > 1]

    def _see_off(self, now: float) -> list[Effect]:
        """How far leaving has come."""
        departure = self.departure
        if self.attempts:
            if not departure.is_patience_over(now):
                return []
            effects: list[Effect] = []
            for attempt in list(self.attempts.values()):
                effects += self._endings.order(attempt, AttemptEnd.RETURNED, None, -1.0, now)
            return effects
        why = departure.reason_to_go(self.reporter.is_empty, len(self.reporter.unsettled), now)
        return [Leave(why)] if why else []

    # -------------------------------------------------------------------------------------- time

    def flush(self, now: float) -> list[Effect]:
        """Feed children, start commands, report: once per wake-up, after its events."""
        effects: list[Effect] = []
        most = self.bounds.ends_bytes // 2 if self._throttled else self.bounds.ends_bytes
        if self._throttled != (self.reporter.weight > most):
            self._throttled = not self._throttled
            effects.append(Throttle(self._throttled))
        if not self._throttled:
            effects += self._dispatch(now)
        if self.is_registered and not self._gathers(now):
            effects += self._reports(now)
        if self.is_leaving:
            effects += self._see_off(now)
        return effects

    def _gathers(self, now: float) -> bool:
        """Whether what there is to tell can wait for more: then a tick will tell it."""
        ready = self.pool.ready
        return bool(ready) and now < self._reported + GATHER and not ready[0].spec.is_pooled and not self.is_leaving

    def _reports(self, now: float) -> list[Effect]:
        self._reported = now
        return [Tell(batch.content[0], batch.content[1]) for batch in self.reporter.take(now)]

    def _dispatch(self, now: float) -> list[Effect]:
        pool = self.pool
        effects: list[Effect] = []
        while (attempt := pool.next_ready()) is not None:
            if attempt.spec.is_pooled:
                effects += pool.feed(now)
                attempt = pool.next_ready()
                if attempt is None or attempt.spec.is_pooled:
                    break
            slots = attempt.spec.options.requirements.slots
            if not pool.fits(slots):
                break
            pool.ready.popleft()
            pool.free -= slots
            attempt.phase = Phase.RUNNING
            attempt.since = now
            self._running[attempt.key] = attempt
            self._unannounced.append(attempt)
            effects.append(StartCommand(attempt))
        return effects

    def on_tick(self, now: float) -> list[Effect]:
        """Time has passed: starts worth telling, recalls, limits, heartbeat, repetition."""
        effects, started = self.pool.look_at_children(now)
        while self._unannounced and now - self._unannounced[0].since >= START_DELAY:
            started.append(self._unannounced.pop(0))
        for attempt in started:
            if attempt.phase is Phase.OVER:
                continue
            self.reporter.started(attempt.key, attempt.since)
            limit = attempt.spec.options.timeout_run
            if limit > 0:
                self._endings.set_alarm(attempt.since + limit, "run", attempt)
        effects += self._endings.ring(now)
        effects += self.pool.retire()
        if self.is_registered:
            effects += self._keep_in_touch(now)
        return effects

    def _keep_in_touch(self, now: float) -> list[Effect]:
        effects = self._register(now) if self.presence.must_register_again(now) else []
        if now >= self._next_resend:
            self._next_resend = now + 1.0
            effects += (Tell(report, frames) for report, frames, _ in self.reporter.resend(now))
        if self.presence.is_heartbeat_due(now):
            reporter = self.reporter
            free = max(0.0, self.pool.free)
            effects.append(Tell(self.presence.beat(now, reporter.held, reporter.digest, free), []))
        return effects

    def next_tick(self, now: float) -> float:
        """Seconds until ``on_tick`` is needed, if nothing happens before."""
        wait = min(0.25, self.presence.heartbeat / 4)
        if self._unannounced or self.reporter.has_news:
            wait = BUSY_TICK
        for child in self.pool.busy:
            wait = min(wait, BUSY_TICK if not child.announced or len(child.queue) > 1 else WATCH_TICK)
        if (alarm := self._endings.next_alarm) is not None:
            wait = min(wait, max(0.0, alarm - now))
        if self.is_registered:
            wait = min(wait, max(0.0, self.presence.next_heartbeat - now))
        return wait

    # -------------------------------------------------------------------------------------- what must always hold

    def validate(self) -> None:
        """Raise AssertionError if the books contradict one another. For tests and for operators in doubt."""
        checks.validate(self.attempts, self._running, self.pool, self.reporter)
