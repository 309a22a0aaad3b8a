"""Runtimes: registration, assignment, reports, heartbeats, loss. Pure.

What a runtime should hold is kept as ``held`` and as a digest of it. Both sides change theirs by the same messages in
the same order, so when a heartbeat arrives the two digests are equal or something was lost, and then the runtime sends
its whole inventory.
"""

from __future__ import annotations

import msgspec

from headway_bus.handover import RETRY_AFTER
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.messages import (
    Denied,
    Heartbeat,
    HeartbeatSeen,
    Register,
    Registered,
    SendInventory,
    SetDrain,
    tag_of,
)
from headway_bus.records import Code
from headway_bus.session import LAST_RETRY
from headway_controller.assignments import Assignments
from headway_controller.checks import find_runtime_fault, sound_seconds
from headway_controller.copies import Copies, is_copy
from headway_controller.leases import Leases
from headway_controller.life import Life
from headway_controller.placement import Scheduler
from headway_controller.reports import Reports
from headway_controller.state import (
    AWAY,
    UNHEARD,
    Assigned,
    ControllerState,
    Ended,
    Queued,
    Running,
    Runtime,
    Task,
    Waiting,
    is_present,
    is_recovering,
)
from headway_controller.turn import Turn

MAX_ROUND_TRIP = 3_600.0
"""Seconds; whoever says more has measured something else."""

MOST_HEARTBEAT = 3_600.0
"""Seconds; a runtime that wishes for less frequent signs of life gets those of the bus."""

TAKE_BACK = tag_of("TakeBack")

FULL = "full"
"""What an edge's heartbeat says (above 0) while its disk takes nothing."""

LATE = 0.5
"""Heartbeats that one may be late before it counts as missed."""

UNKNOWN_ATTEMPTS = 1_000
"""Attempts beyond the last stored one that an earlier controller may have given out. A number further away is a mistake."""

INVENTORY_PATIENCE = 3
"""Inventories in a row that may not help; after that the next ones are asked for ever more rarely."""


class Fleet:
    """The runtimes and what they hold."""

    def __init__(
        self,
        state: ControllerState,
        turn: Turn,
        scheduler: Scheduler,
        life: Life,
        assignments: Assignments,
        reports: Reports,
        copies: Copies,
        heartbeat: float,
        missed: float,
    ) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life
        self.heartbeat = heartbeat
        self.missed = missed
        self.is_cut = False
        """The controller itself is cut off from the bus: nobody's silence says anything."""

        self.roster = 0
        """Counts how often a runtime came or went for good."""

        self.assignments = assignments
        self.reports = reports
        self.copies = copies
        self.leases = Leases(state, turn, self)
        self._unheard: set[str] = set()
        """Runtimes to which a word that asks something back could not be passed on: it is said again with the next tick."""

        self.unpacks: list[str] = []
        """Forms of packed messages that this controller can read."""

    # ------------------------------------------------------------------------------------------- coming and going

    def on_register(self, name: str, message: Register, now: float) -> None:
        """A runtime says who it is and what it holds: take it in and make both views equal."""
        known = self.state.runtimes.get(name)
        fault = find_runtime_fault(message.info)
        if fault:
            self.state.counters["registers.refused"] += 1
            self.turn.note("warning", "runtime refused", runtime=name, reason=fault)
            self.turn.send(name, Denied(0, Code.INVALID, fault))
            return
        # The name that the broker vouches for, whatever the record says: everything else is filed under it.
        info = message.info if message.info.name == name else msgspec.structs.replace(message.info, name=name)
        if labels := self.state.labels.get(name):
            info = msgspec.structs.replace(info, labels={**info.labels, **labels})
        if known is not None and known.instance != message.instance:
            if known.state != "offline":
                self._lose(known, now, "it was started anew")
            known = None
        if known is None:
            known = self.state.runtimes[name] = Runtime(info, message.instance, now, now)
            self.roster += 1
            self.scheduler.add_runtime(info, now)
            self.turn.note("info", "runtime joined", runtime=name, slots=info.slots, holds=len(message.held))
        elif known.state in UNHEARD:
            self.roster += 1
            self.scheduler.add_runtime(info, now)
            self.turn.note("info", "runtime returned", runtime=name, holds=len(message.held))
        else:
            self.scheduler.add_runtime(info, now)
        known.info, known.seen = info, now
        known.unpacks = message.unpacks
        known.heartbeat = message.heartbeat if 0.0 < message.heartbeat <= MOST_HEARTBEAT else 0.0
        # Heartbeats acknowledge assignments: nothing is repeated that could not have been acknowledged yet.
        known.outbox.retry_after = max(RETRY_AFTER, known.heartbeat * 2)
        if known.state in UNHEARD or message.draining:
            known.state, known.since, known.why = "draining" if message.draining else "online", now, ""
        self._gate(known)
        self.life.news.on_runtime(name, known.state, "", now + self.life.wall_offset)
        known.outbox.acknowledge_through(message.assigned)
        self._reconcile(known, message, now)
        self.scheduler.ask_anew(name, now)
        known.outbox.renew()
        self.assignments.resend(known, now)
        self.life.recovery.on_answered(name, now)

    def _reconcile(self, runtime: Runtime, message: Register, now: float) -> None:
        name = runtime.info.name
        on_their_way = {key for batch in runtime.outbox.contents for key in batch.attempts}
        before = {**runtime.held, **runtime.ending}
        runtime.held, runtime.ending, runtime.digest = {}, {}, 0
        stop: list[AttemptKey] = []
        forget: list[AttemptKey] = []
        expiring: list[AttemptKey] = []
        claimed: set[AttemptKey] = set()
        for held in message.held:
            key = (held.task, held.attempt)
            task = self.state.tasks.get(held.task)
            over = held.phase == "ended"
            if not over:
                self._hold(runtime, key)
            if task is None:
                self.life.void.note(*key)
            if task is None or not self._adopt(task, name, held.attempt, held.phase, sound_seconds(held.age), now):
                if not over:
                    stop.append(key)
                    if task is not None and isinstance(task.state, Waiting):
                        self.life.void.bar_waiting(task.id)
                elif task is None or task.attempt != held.attempt:
                    forget.append(key)  # the present one's end may not be stored yet: its report is settled when it is
                continue
            claimed.add(key)
            if over:
                runtime.ending[key] = None
            elif task.cancelling:
                stop.append(key)  # the word to stop may have been lost with the connection
            elif task.expiring and isinstance(task.state, Assigned):
                expiring.append(key)
        for key in before:
            if key in on_their_way:
                self._hold(runtime, key)
            elif key not in claimed:
                self.lose_attempt(name, *key, "its runtime no longer has it", now)
        self.turn.send(name, Registered(self.state.instance, stop, forget, runtime.outbox.oldest_number, self.unpacks))
        self.assignments.take_back(name, expiring)
        if stop:
            self.state.counters["attempts.unwanted"] += len(stop)

    def _adopt(self, task: Task, name: str, attempt: int, phase: str, age: float, now: float) -> bool:
        """Whether this attempt is the task's present one; if so the task's state follows what the runtime says."""
        state = task.state
        if is_copy(task, name, attempt):
            return True
        if isinstance(state, Ended) or attempt <= task.over:
            return False
        if not self._may_claim(task, attempt):
            return False
        if isinstance(state, Assigned | Running) and state.runtime != name:
            return False
        if isinstance(state, Waiting) and (state.unmet or state.why == "delay"):
            return False
        if isinstance(state, Assigned) and phase == "held":
            return True
        if isinstance(state, Waiting | Queued):
            self.state.counters["attempts.adopted"] += 1
            self.life.withdraw(task)
            self.scheduler.adopt(name, task.id, task.options, now, None if phase == "held" else age)
        task.highest = max(task.highest, task.attempt, attempt)
        task.attempt, task.runtime = attempt, name
        if phase == "held":
            if not isinstance(state, Running):
                self.life.change(task, "adopt_unstarted", Assigned(name, now), now)
            return True
        if phase == "running" and not (isinstance(state, Running) and task.started):
            task.started = now - age + self.life.wall_offset
            self.scheduler.started(name, task.id, task.options, now, age)
        self.life.change(task, "adopt", Running(name, now - age), now)
        return True

    def _may_claim(self, task: Task, attempt: int) -> bool:
        """Whether the number can be that of the present attempt."""
        recovering = is_recovering(task)
        if attempt > task.attempt:
            near = attempt <= task.attempt + UNKNOWN_ATTEMPTS
            if recovering and near:
                return True  # which numbers an earlier controller gave out is known only so far
            self.state.counters["attempts.never-assigned"] += 1
            if near:
                task.highest = max(task.highest, attempt)  # so that its end is not taken for that of a later attempt
            return False
        return attempt == task.attempt or recovering

    def on_gone(self, name: str, now: float) -> None:
        """The broker says that the connection is cut. The lease runs on: the runtime may be back in time."""
        runtime = self.state.runtimes.get(name)
        if runtime is not None and runtime.state not in UNHEARD:
            self.scheduler.drain(name, True)
            self.turn.note("info", "runtime cut off", runtime=name, holds=len(runtime.held))

    def on_refused(self, name: str, kind: str) -> None:
        """The broker could not pass on a message of this kind, though the runtime is connected: its queue is full."""
        if kind == TAKE_BACK:
            self._unheard.add(name)

    def on_revoked(self, name: str, now: float) -> None:
        """Its key was revoked or has expired: it will not be back, so nobody waits for its lease to run out."""
        runtime = self.state.runtimes.get(name)
        if runtime is not None and runtime.state != "offline":
            self._lose(runtime, now, "its key was revoked, or has expired")

    def on_bye(self, name: str, now: float) -> None:
        """The runtime left on purpose. What it still had, it has given up."""
        runtime = self.state.runtimes.get(name)
        if runtime is None or runtime.state in UNHEARD:
            return
        if runtime.info.edge:
            # It comes back with what it has, as after any cut; an edge is forgotten when somebody says so.
            self._fall_silent(runtime, now, "it was stopped", expected=True)
        else:
            self._lose(runtime, now, "it was stopped", expected=True)
            del self.state.runtimes[name]

    def on_time(self, now: float) -> None:
        """Runtimes that have been silent for too long are lost with everything that they hold."""
        while self._unheard:
            self.scheduler.ask_anew(self._unheard.pop(), now)
        patience = self.missed + LATE
        recent = now - self.heartbeat * patience
        for runtime in list(self.state.runtimes.values()):
            if runtime.settled:
                self.reports.tell_settled(runtime)
            if runtime.state == AWAY:
                if not self.is_cut and not self.leases.on_time(runtime, now):
                    self._lose(runtime, now, runtime.why)
            elif runtime.seen >= recent or runtime.state == "offline" or self.is_cut:
                continue  # nearly all: a thousand are looked at eight times a heartbeat
            elif runtime.seen < now - max(self.heartbeat, runtime.heartbeat) * patience:
                self._fall_silent(runtime, now, f"no heartbeat for {now - runtime.seen:.1f} s")

    def on_stood_still(self, now: float) -> None:
        """The controller itself was suspended, or the broker is: nobody's silence during that time says anything."""
        for runtime in self.state.runtimes.values():
            if runtime.state != "offline":  # then it is when it was last heard that counts
                runtime.seen = max(runtime.seen, now)

    def on_back(self, now: float) -> None:
        """The controller was cut off and is back. So were the others, perhaps; they come back in their own time."""
        self.is_cut = False
        for runtime in self.state.runtimes.values():
            if runtime.state != "offline":
                runtime.seen = max(runtime.seen, now + LAST_RETRY)

    def present(self) -> list[str]:
        """Runtimes that may hold attempts, and are there to say so."""
        return [name for name, runtime in self.state.runtimes.items() if runtime.state not in UNHEARD]

    def forget(self, name: str, now: float) -> bool:
        """An edge has gone for good: give up what it has, and do not list it any more. False: it is there, or unknown."""
        runtime = self.state.runtimes.get(name)
        if runtime is None or runtime.state not in UNHEARD:
            return False
        if runtime.state == AWAY:
            self._lose(runtime, now, "it was forgotten")
        self.life.recovery.on_answered(name, now)  # what an earlier controller had leased to it
        del self.state.runtimes[name]
        self.roster += 1
        return True

    def _fall_silent(self, runtime: Runtime, now: float, why: str, expected: bool = False) -> None:
        if not (runtime.info.edge and self.leases.on_silent(runtime, why, now)):
            self._lose(runtime, now, why, expected)

    def tell_runtime(self, runtime: Runtime, state: str, now: float) -> None:
        """Let those know who follow the runtimes."""
        self.life.news.on_runtime(runtime.info.name, state, runtime.why, now + self.life.wall_offset)

    def _lose(self, runtime: Runtime, now: float, why: str, expected: bool = False) -> None:
        name = runtime.info.name
        self.roster += 1
        held = {**runtime.held, **runtime.ending}
        runtime.held, runtime.ending, runtime.digest = {}, {}, 0
        runtime.state, runtime.since, runtime.why, runtime.running = "offline", now, why, 0
        runtime.outbox.clear()
        self.life.news.on_runtime(name, "offline", why, now + self.life.wall_offset)
        self.scheduler.remove_runtime(name)
        if expected and not held:
            self.turn.note("info", "runtime left", runtime=name)
        else:
            self.state.counters["runtimes.lost"] += 1
            self.turn.note("warning", "runtime lost", runtime=name, reason=why, attempts=len(held))
        for task_id, attempt in held:
            self.lose_attempt(name, task_id, attempt, f"{name}: {why}", now)

    def lose_attempt(self, name: str, task_id: TaskId, attempt: int, why: str, now: float) -> None:
        """An attempt is gone with its runtime, or taken to be."""
        task = self.state.tasks.get(task_id)
        if task is None or not (is_present(task, name, attempt) or is_copy(task, name, attempt)):
            self.reports.release(name, task_id, now)
            return
        self.scheduler.returned(name, task_id, now)
        if not self.copies.on_lost(task, name, attempt, why, now):
            self.life.on_attempt_lost(task, why, now)

    # ------------------------------------------------------------------------------------------- draining

    def set_drain(self, name: str, drain: bool, now: float) -> None:
        """Let a runtime finish what it has begun and give it nothing new, or take that back."""
        runtime = self.state.runtimes[name]
        runtime.state, runtime.since = ("draining" if drain else "online"), now
        self._gate(runtime)
        self.life.news.on_runtime(name, runtime.state, "", now + self.life.wall_offset)
        self.turn.send(name, SetDrain(drain))

    # ------------------------------------------------------------------------------------------- heartbeats

    def on_heartbeat(self, name: str, message: Heartbeat, now: float) -> None:
        """A sign of life, and a comparison of what both sides think the runtime holds."""
        runtime = self.state.runtimes.get(name)
        if runtime is None or runtime.state in UNHEARD:
            self.turn.send(name, SendInventory("register first"))
            return
        runtime.seen = now
        self._take_load(runtime, message.load)
        if message.round_trip != runtime.round_trip:
            runtime.round_trip = message.round_trip if 0.0 <= message.round_trip < MAX_ROUND_TRIP else 0.0
            self.scheduler.update_runtime(name, now, runtime.round_trip)
        expected = runtime.digest
        if runtime.outbox:
            runtime.outbox.acknowledge_through(message.assigned)
            for assignment in runtime.outbox.contents:
                expected ^= assignment.digest
        if expected == message.digest:
            runtime.mismatches = 0
        elif now >= runtime.inventory_at:
            self._ask_for_inventory(runtime, now)
        self.turn.send(name, HeartbeatSeen(message.sent))

    def _take_load(self, runtime: Runtime, load: dict[str, float]) -> None:
        was_full, runtime.load = _is_full(runtime), load
        if (is_full := _is_full(runtime)) != was_full:
            runtime.why = "its disk is full" if is_full else ""
            self._gate(runtime)

    def _gate(self, runtime: Runtime) -> None:
        """Whether it is given anything new: not while it drains, nor while its disk is full, for it would give that back."""
        self.scheduler.drain(runtime.info.name, runtime.state == "draining" or _is_full(runtime))

    def _ask_for_inventory(self, runtime: Runtime, now: float) -> None:
        runtime.mismatches += 1
        self.state.counters["digests.different"] += 1
        beyond = max(0, runtime.mismatches - INVENTORY_PATIENCE)
        runtime.inventory_at = now + self.heartbeat * min(2**beyond, 256)
        if beyond == 1:
            self.turn.note("warning", "digest never matches", runtime=runtime.info.name, inventories=runtime.mismatches)
        self.turn.send(runtime.info.name, SendInventory("the digests differ"))

    @staticmethod
    def _hold(runtime: Runtime, key: AttemptKey) -> None:
        if key not in runtime.held:
            runtime.held[key] = None
            runtime.digest ^= digest_of(*key)


def _is_full(runtime: Runtime) -> bool:
    return runtime.load.get(FULL, 0.0) > 0.0
