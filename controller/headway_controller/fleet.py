"""Runtimes: registration, assignment, reports, heartbeats, loss. Pure.

What a runtime should hold is kept as ``held`` and as a digest of it. Both sides change theirs by the same messages in
the same order, so when a heartbeat arrives the two digests are equal or something was lost, and then the runtime sends
its whole inventory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from headway_bus.handover import Batch
from headway_bus.ids import AttemptKey, TaskId, digest_of, text_of
from headway_bus.messages import (
    Assign,
    AssignGroup,
    Denied,
    Event,
    Heartbeat,
    HeartbeatSeen,
    Register,
    Registered,
    Report,
    SendInventory,
    SetDrain,
    Settled,
    Stop,
    TakeBack,
)
from headway_bus.records import START_FAILURES, AttemptEnd, Code, LogRecord, Options, Payload
from headway_bus.records import Ended as AttemptEnded
from headway_controller.checks import find_runtime_fault, sound_report, sound_seconds
from headway_controller.life import Life
from headway_controller.placement import Scheduler
from headway_controller.state import (
    Assigned,
    Assignment,
    Bytes,
    ControllerState,
    Ended,
    Queued,
    Running,
    Runtime,
    Task,
    Waiting,
)
from headway_controller.store.protocol import AppendLogs
from headway_controller.turn import Turn
from headway_controller.values import pack_value, size_of, unpack_value

ASSIGN_BYTES = 1_048_576
"""Payload bytes after which an assignment goes on in another message."""

ASSIGN_COUNT = 1_000

MAX_ROUND_TRIP = 3_600.0
"""Seconds; whoever says more has measured something else."""

SETTLE_BATCHES = 16
"""Reports that are settled together. A runtime needs nobody's word to go on, so the word waits for company or the next tick:
in between, a message of its own for each cost the round trip of a single task a tenth."""

SETTLE_BYTES = 4 * 1024 * 1024
"""Bytes of results after which the runtime is let go of them at once."""

LATE = 0.5
"""Heartbeats that one may be late before it counts as missed."""

UNKNOWN_ATTEMPTS = 1_000
"""Attempts beyond the last stored one that an earlier controller may have given out. A number further away is a mistake."""

INVENTORY_PATIENCE = 3
"""Inventories in a row that may not help; after that the next ones are asked for ever more rarely."""


class Fleet:
    """The runtimes and what they hold."""

    def __init__(
        self, state: ControllerState, turn: Turn, scheduler: Scheduler, life: Life, heartbeat: float, missed: float
    ) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life
        self.heartbeat = heartbeat
        self.missed = missed
        self.logs_per_task = 10_000
        """Records kept of a task; what is beyond is counted and dropped."""

        self.settle_batches = SETTLE_BATCHES

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
        if known is not None and known.instance != message.instance:
            if known.state != "offline":
                self._lose(known, now, "it was started anew")
            known = None
        if known is None:
            known = self.state.runtimes[name] = Runtime(info, message.instance, now, now)
            self.scheduler.add_runtime(info, now)
            self.turn.note("info", "runtime joined", runtime=name, slots=info.slots, holds=len(message.held))
        elif known.state == "offline":
            self.scheduler.add_runtime(info, now)
            self.turn.note("info", "runtime returned", runtime=name, holds=len(message.held))
        else:
            self.scheduler.add_runtime(info, now)
        known.info, known.seen = info, now
        if known.state == "offline" or message.draining:
            known.state = "draining" if message.draining else "online"
        self.scheduler.drain(name, known.state == "draining")
        self.life.news.on_runtime(name, known.state, "", now + self.life.wall_offset)
        known.outbox.acknowledge_through(message.assigned)
        self._reconcile(known, message, now)
        known.outbox.renew()
        self.resend(known, now)

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
                self.life.note_void(*key)
            if task is None or not self._adopt(task, name, held.attempt, held.phase, sound_seconds(held.age), now):
                if not over:
                    stop.append(key)
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
                self._lose_attempt(name, *key, "its runtime no longer has it", now)
        self.turn.send(name, Registered(self.state.instance, stop, forget))
        self.take_back(name, expiring)
        if stop:
            self.state.counters["attempts.unwanted"] += len(stop)

    def _adopt(self, task: Task, name: str, attempt: int, phase: str, age: float, now: float) -> bool:
        """Whether this attempt is the task's present one; if so the task's state follows what the runtime says."""
        state = task.state
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
        recovering = isinstance(task.state, Waiting) and task.state.why == "recovering"
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
        if runtime is not None and runtime.state != "offline":
            self.scheduler.drain(name, True)
            self.turn.note("info", "runtime cut off", runtime=name, holds=len(runtime.held))

    def on_bye(self, name: str, now: float) -> None:
        """The runtime left on purpose. What it still had, it has given up."""
        runtime = self.state.runtimes.get(name)
        if runtime is not None and runtime.state != "offline":
            self._lose(runtime, now, "it was stopped", expected=True)
            del self.state.runtimes[name]

    def on_time(self, now: float) -> None:
        """Runtimes that have been silent for too long are lost with everything that they hold."""
        limit = now - self.heartbeat * (self.missed + LATE)
        for runtime in list(self.state.runtimes.values()):
            self._tell_settled(runtime)
            if runtime.state != "offline" and runtime.seen < limit:
                self._lose(runtime, now, f"no heartbeat for {now - runtime.seen:.1f} s")

    def on_stood_still(self, now: float) -> None:
        """The controller itself was suspended: nobody's silence during that time says anything."""
        for runtime in self.state.runtimes.values():
            runtime.seen = max(runtime.seen, now)

    def _lose(self, runtime: Runtime, now: float, why: str, expected: bool = False) -> None:
        name = runtime.info.name
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
            self._lose_attempt(name, task_id, attempt, f"{name}: {why}", now)

    def _lose_attempt(self, name: str, task_id: TaskId, attempt: int, why: str, now: float) -> None:
        task = self.state.tasks.get(task_id)
        if task is not None and self._is_present(task, name, attempt):
            self.scheduler.returned(name, task_id, now)
            self.life.on_attempt_lost(task, why, now)
        else:
            self._release(name, task_id, now)

    def _release(self, name: str, task_id: TaskId, now: float) -> None:
        """Give back the room of an attempt that is over and of which nothing is known any more: its submission could not
        be stored, or another attempt has taken its place elsewhere."""
        task = self.state.tasks.get(task_id)
        if task is None or not isinstance(task.state, Assigned | Running) or task.state.runtime != name:
            self.scheduler.returned(name, task_id, now)

    # ------------------------------------------------------------------------------------------- assignments

    def dispatch(self, now: float) -> None:
        """Send what the scheduler commits now."""
        for commit in self.scheduler.dispatch(now):
            runtime = self.state.runtimes[commit.runtime]
            for start in range(0, len(commit.tasks), ASSIGN_COUNT):
                self._assign(runtime, commit.options, commit.tasks[start : start + ASSIGN_COUNT], now)
        for name, task_ids in self.scheduler.take_backs(now):
            held, tasks = self.state.runtimes[name].held, self.state.tasks
            keys = [(task_id, tasks[task_id].attempt) for task_id in task_ids if task_id in tasks]
            self.take_back(name, [key for key in keys if key in held])

    def _assign(self, runtime: Runtime, options: Options, task_ids: Sequence[TaskId], now: float) -> None:
        tasks, name, change = self.state.tasks, runtime.info.name, self.life.change
        state = Assigned(name, now)
        attempts: list[tuple[TaskId, int, Payload]] = []
        frames: list[Bytes] = []
        size, digest = 0, 0
        for task_id in task_ids:
            task = tasks[task_id]
            task.attempt = max(task.attempt, task.highest) + 1
            task.runtime = name
            change(task, "assign", state, now)
            task.started = 0.0
            runtime.held[(task_id, task.attempt)] = None
            digest ^= digest_of(task_id, task.attempt)
            attempts.append((task_id, task.attempt, pack_value(task.payload, frames)))
            size += size_of(task.payload)
            if size > ASSIGN_BYTES:
                self._send_assignment(runtime, options, attempts, frames, digest, now)
                attempts, frames, size, digest = [], [], 0, 0
        if attempts:
            self._send_assignment(runtime, options, attempts, frames, digest, now)

    def _send_assignment(
        self,
        runtime: Runtime,
        options: Options,
        attempts: list[tuple[TaskId, int, Payload]],
        frames: list[Bytes],
        digest: int,
        now: float,
    ) -> None:
        runtime.digest ^= digest
        keys = [(task_id, attempt) for task_id, attempt, _ in attempts]
        gpus: list[list[int]] = []
        if options.requirements.gpu:
            gpus = [self.scheduler.gpus_of(runtime.info.name, task_id) for task_id, _ in keys]
        batch = runtime.outbox.add(Assignment([AssignGroup(options, attempts, gpus)], frames, digest, keys))
        self._send_batch(runtime, batch, now)

    def _send_batch(self, runtime: Runtime, batch: Batch[Assignment], now: float) -> None:
        runtime.outbox.sent(batch, now)
        content = batch.content
        self.turn.send(runtime.info.name, Assign(batch.number, content.groups), tuple(content.frames))

    def resend(self, runtime: Runtime, now: float) -> None:
        """Send what is due again."""
        if runtime.state != "offline":
            for batch in runtime.outbox.due(now):
                if batch.times:
                    self.state.counters["repeats.assign"] += 1
                self._send_batch(runtime, batch, now)

    def take_back(self, name: str, attempts: list[AttemptKey]) -> None:
        """Ask for unstarted attempts back; those that have begun go on."""
        if attempts:
            self.state.counters["attempts.asked-back"] += len(attempts)
            self.turn.send(name, TakeBack(attempts))

    def stop(self, tasks: Iterable[Task], reason: str) -> None:
        """Have attempts ended on their runtimes."""
        by_runtime: dict[str, list[AttemptKey]] = {}
        for task in tasks:
            by_runtime.setdefault(task.runtime, []).append((task.id, task.attempt))
        for name, attempts in by_runtime.items():
            self.turn.send(name, Stop(attempts, reason=reason))

    def set_drain(self, name: str, drain: bool, now: float) -> None:
        """Let a runtime finish what it has begun and give it nothing new, or take that back."""
        runtime = self.state.runtimes[name]
        runtime.state, runtime.since = ("draining" if drain else "online"), now
        self.scheduler.drain(name, drain)
        self.life.news.on_runtime(name, runtime.state, "", now + self.life.wall_offset)
        self.turn.send(name, SetDrain(drain))
        if drain:
            self.take_back(name, list(runtime.held))

    # ------------------------------------------------------------------------------------------- reports

    def on_report(self, name: str, message: Report, frames: Sequence[Bytes], now: float) -> None:
        """What happened on a runtime. A repeated report changes nothing but is settled all the same."""
        runtime = self.state.runtimes.get(name)
        if runtime is None or runtime.state == "offline":
            # A stranger, or one that was given up: it must register first, then its reports can be judged.
            self.state.counters["reports.unregistered"] += 1
            self.turn.send(name, SendInventory("register first"))
            return
        runtime.seen = now
        message = sound_report(message, len(frames))
        for started in message.started:
            task = self.state.tasks.get(started.task)
            if task is not None and self._is_present(task, name, started.attempt) and isinstance(task.state, Assigned):
                self.life.change(task, "start", Running(name, now - started.age), now)
                task.started = now - started.age + self.life.wall_offset
                task.expiring = False
                runtime.running += 1
                self.scheduler.started(name, task.id, task.options, now, started.age)
        self._free(runtime, message.ended, now)
        for ended in message.ended:
            self._on_ended(runtime, ended, frames, now)
        if message.logs or message.dropped:
            self._on_logs(message.logs, {TaskId(task): count for task, count in message.dropped.items()})
        if frames:
            runtime.settled_bytes += sum(map(len, frames))
        self.turn.due.settled.setdefault((name, runtime.instance), []).append(message.batch)

    def settle(self, name: str, instance: bytes, batches: list[int]) -> None:
        """These reports are stored: the runtime may forget them, if it is still the one that sent them."""
        runtime = self.state.runtimes.get(name)
        if runtime is None or runtime.instance != instance:
            return
        runtime.settled += batches
        if (
            len(runtime.settled) >= self.settle_batches
            or runtime.settled_bytes >= SETTLE_BYTES
            or runtime.leaving
            or runtime.state != "online"
        ):
            self._tell_settled(runtime)

    def on_leaving(self, name: str) -> None:
        """The runtime drains and leaves when everything is settled: from now on it is told at once."""
        runtime = self.state.runtimes.get(name)
        if runtime is not None:
            runtime.leaving = True
            self._tell_settled(runtime)

    def _tell_settled(self, runtime: Runtime) -> None:
        if runtime.settled:
            batches, runtime.settled, runtime.settled_bytes = runtime.settled, [], 0
            self.turn.send(runtime.info.name, Settled(batches))

    def _free(self, runtime: Runtime, ends: Sequence[AttemptEnded], now: float) -> None:
        """Give the room of these attempts back to the scheduler, all at once: it learns their durations together."""
        name, tasks = runtime.info.name, self.state.tasks
        durations: list[tuple[TaskId, float]] = []
        for ended in ends:
            task = tasks.get(ended.task)
            if task is None or not self._is_present(task, name, ended.attempt):
                self._release(name, ended.task, now)
                continue
            if isinstance(task.state, Running):
                runtime.running = max(0, runtime.running - 1)
            if ended.end == AttemptEnd.SUCCEEDED:
                runtime.succeeded += 1
                durations.append((ended.task, ended.seconds))
            elif ended.end in (AttemptEnd.RETURNED, AttemptEnd.CANCELLED):
                self.scheduler.returned(name, ended.task, now)
            elif ended.error is not None and ended.error.reason in START_FAILURES:
                runtime.failed += 1
                self.scheduler.start_failed(name, ended.task, now, ended.error.message)
            else:
                runtime.failed += 1
                durations.append((ended.task, -1.0))
        if durations:
            self.scheduler.finished_many(name, durations, now)

    def _on_ended(self, runtime: Runtime, ended: AttemptEnded, frames: Sequence[Bytes], now: float) -> None:
        name = runtime.info.name
        key = (ended.task, ended.attempt)
        if key in runtime.held:
            del runtime.held[key]
            runtime.digest ^= digest_of(*key)
        runtime.ending.pop(key, None)
        task = self.state.tasks.get(ended.task)
        if (
            task is None
            or isinstance(task.state, Ended)
            or task.attempt != ended.attempt
            or task.runtime != name
            or ended.attempt <= task.over
        ):
            self.state.counters["reports.fenced"] += 1
            return
        task.over = ended.attempt
        if isinstance(task.state, Waiting | Queued):
            self.state.counters["reports.late"] += 1  # given up, but no other attempt has begun: the result is welcome
            if ended.end in (AttemptEnd.RETURNED, AttemptEnd.LOST):
                return
        if ended.end != AttemptEnd.RETURNED:
            task.losses = 0
            if not task.started:
                task.started = now - ended.age - ended.seconds + self.life.wall_offset
        self.life.on_attempt_ended(task, ended, unpack_value(ended.result, frames), now)

    def _on_logs(self, records: list[LogRecord], dropped: dict[TaskId, int]) -> None:
        kept: list[LogRecord] = []
        by_topic: dict[str, list[LogRecord]] = {}
        for record in records:
            task = self.state.tasks.get(record.task)
            if task is not None:
                if record.stream == "progress":
                    _note_progress(task, record)
                if task.logged >= self.logs_per_task:
                    dropped[record.task] = dropped.get(record.task, 0) + 1
                    continue
                task.logged += 1
            kept.append(record)
            if self.state.topics and (topic := topic_of_logs(record.task)) in self.state.topics:
                by_topic.setdefault(topic, []).append(record)
        for topic, found in by_topic.items():
            self.turn.send("*" + topic, Event(topic, "logs", {}, found))
        self.state.counters["logs.dropped"] += sum(dropped.values())
        self.turn.store(AppendLogs(kept, dropped))

    # ------------------------------------------------------------------------------------------- heartbeats

    def on_heartbeat(self, name: str, message: Heartbeat, now: float) -> None:
        """A sign of life, and a comparison of what both sides think the runtime holds."""
        runtime = self.state.runtimes.get(name)
        if runtime is None or runtime.state == "offline":
            self.turn.send(name, SendInventory("register first"))
            return
        runtime.seen, runtime.load = now, message.load
        if message.round_trip != runtime.round_trip:
            runtime.round_trip = message.round_trip if 0.0 <= message.round_trip < MAX_ROUND_TRIP else 0.0
            self.scheduler.update_runtime(name, now, runtime.round_trip)
        runtime.outbox.acknowledge_through(message.assigned)
        expected = runtime.digest
        for assignment in runtime.outbox.contents:
            expected ^= assignment.digest
        if expected == message.digest:
            runtime.mismatches = 0
        elif now >= runtime.inventory_at:
            self._ask_for_inventory(runtime, now)
        self.turn.send(name, HeartbeatSeen(message.sent))

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

    @staticmethod
    def _is_present(task: Task, name: str, attempt: int) -> bool:
        state = task.state
        return isinstance(state, Assigned | Running) and state.runtime == name and task.attempt == attempt


def topic_of_logs(task_id: TaskId) -> str:
    """The topic on which a task's log records are published."""
    return "logs." + text_of(task_id)


def _note_progress(task: Task, record: LogRecord) -> None:
    done, total = record.fields.get("done"), record.fields.get("total")
    if isinstance(done, int | float) and isinstance(total, int | float):
        task.progress = (float(done), float(total))
