"""What runtimes say of attempts: begun, over, what they wrote. Pure.

A report of an attempt that is not the present one is fenced: counted, and without effect. A report is settled, so that the
runtime may forget it, when what it led to is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway_bus.ids import TaskId, digest_of, text_of
from headway_bus.messages import Event, Report, SendInventory, Settled
from headway_bus.records import START_FAILURES, AttemptEnd, LogRecord
from headway_bus.records import Ended as AttemptEnded
from headway_controller.checks import sound_report
from headway_controller.copies import Copies, is_copy
from headway_controller.life import Life
from headway_controller.log_rate import LogRate
from headway_controller.placement import Scheduler
from headway_controller.state import (
    NOT_GIVEN_OUT,
    UNHEARD,
    Assigned,
    Bytes,
    ControllerState,
    Ended,
    Running,
    Runtime,
    Task,
    is_present,
)
from headway_controller.store.protocol import AppendLogs
from headway_controller.successes import Successes
from headway_controller.tenancy import plain_topic, topics_of
from headway_controller.turn import Turn
from headway_controller.values import unpack_value

SETTLE_BATCHES = 16
"""Reports that are settled together. A runtime needs nobody's word to go on, so the word waits for company or the next tick:
in between, a message of its own for each cost the round trip of a single task a tenth."""

MESSAGE_STREAM = "message"
MESSAGES = "messages"
"""The stream of records that are messages of tasks to clients, and the topic on which those are published."""

SETTLE_BYTES = 4 * 1024 * 1024
"""Bytes of results after which the runtime is let go of them at once."""


NOBODYS = "*"
"""No namespace: whose a line is that comes after its task's end is not known here. It is published to those who see all; others
find it in the store."""


class Reports:
    """Takes reports in, and tells runtimes when they are settled."""

    def __init__(self, state: ControllerState, turn: Turn, scheduler: Scheduler, life: Life, copies: Copies) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life
        self.copies = copies
        self._successes = Successes(state, turn, scheduler, life)
        self.settle_batches = SETTLE_BATCHES
        self.logs_per_task = 10_000
        """Records kept of a task; what is beyond is counted and dropped."""
        self.log_rate = LogRate()

    def limit_logs(self, per_task: int, per_second: float) -> None:
        """Keep so many records of a task, and so many a second of one that writes faster (0: all of them)."""
        self.logs_per_task = per_task
        self.log_rate.rate = per_second

    def on_report(self, name: str, message: Report, frames: Sequence[Bytes], now: float) -> None:
        """What happened on a runtime. A repeated report changes nothing but is settled all the same."""
        runtime = self.state.runtimes.get(name)
        if runtime is None or runtime.state in UNHEARD:
            # A stranger, or one that was given up: it must register first, then its reports can be judged.
            self.state.counters["reports.unregistered"] += 1
            self.turn.send(name, SendInventory("register first"))
            return
        runtime.seen = now
        sound = sound_report(message, len(frames))
        if sound is not message:
            runtime.unsound += 1
            self.state.counters["reports.unsound"] += 1
            if runtime.unsound == 1:
                self.turn.note("warning", "runtime reports impossible numbers", runtime=name)
            message = sound
        for started in message.started:
            task = self.state.tasks.get(started.task)
            if task is not None and is_copy(task, name, started.attempt):
                self.copies.on_started(task, started.age, now)
            elif task is not None and is_present(task, name, started.attempt) and isinstance(task.state, Assigned):
                self.life.change(task, "start", Running(name, now - started.age), now)
                task.started = now - started.age + self.life.wall_offset
                task.expiring = False
                runtime.running += 1
                self.scheduler.started(name, task.id, task.options, now, started.age)
                if task.options.idempotent:
                    self.copies.watch(task)
        others = self._successes.take(runtime, message.ended, frames, now)
        if others:
            self._free(runtime, others, now)
            for ended in others:
                self._on_ended(runtime, ended, frames, now)
        if message.logs or message.dropped:
            self._on_logs(name, message.logs, {TaskId(task): count for task, count in message.dropped.items()}, now)
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
            self.tell_settled(runtime)

    def on_leaving(self, name: str) -> None:
        """The runtime drains and leaves when everything is settled: it gets nothing new, and is told at once."""
        runtime = self.state.runtimes.get(name)
        if runtime is not None:
            runtime.leaving = True
            if runtime.state == "online":
                runtime.state = "draining"
            # Or it would be given work, return it, be given it again, and never have a moment in which all is settled.
            self.scheduler.drain(name, True)
            self.tell_settled(runtime)

    def tell_settled(self, runtime: Runtime) -> None:
        """Let the runtime forget what is stored."""
        if runtime.settled:
            batches, runtime.settled, runtime.settled_bytes = runtime.settled, [], 0
            self.turn.send(runtime.info.name, Settled(batches))

    def _free(self, runtime: Runtime, ends: Sequence[AttemptEnded], now: float) -> None:
        """Give the room of these attempts back to the scheduler, all at once: it learns their durations together."""
        name, tasks = runtime.info.name, self.state.tasks
        durations: list[tuple[TaskId, float]] = []
        ages: list[float] = []
        for ended in ends:
            task = tasks.get(ended.task)
            if task is None or not (is_present(task, name, ended.attempt) or is_copy(task, name, ended.attempt)):
                self.release(name, ended.task, now)
                continue
            if isinstance(task.state, Running):
                runtime.running = max(0, runtime.running - 1)
            if ended.end == AttemptEnd.SUCCEEDED:
                runtime.succeeded += 1
                durations.append((ended.task, ended.seconds))
                ages.append(ended.age)
            elif ended.end in (AttemptEnd.RETURNED, AttemptEnd.CANCELLED):
                self.scheduler.returned(name, ended.task, now)
            elif ended.error is not None and ended.error.reason in START_FAILURES:
                runtime.failed += 1
                self.scheduler.start_failed(name, ended.task, now, ended.error.message)
            else:
                runtime.failed += 1
                durations.append((ended.task, -1.0))
                ages.append(ended.age)
        if durations:
            self.scheduler.finished_many(name, durations, now, ages)

    def release(self, name: str, task_id: TaskId, now: float) -> None:
        """Give back the room of an attempt that is over and of which nothing is known any more: its submission could not
        be stored, it was the slower of two copies, or another attempt has taken its place elsewhere."""
        task = self.state.tasks.get(task_id)
        here = task is not None and isinstance(task.state, Assigned | Running) and task.state.runtime == name
        if not here and not (task is not None and task.copy is not None and task.copy.runtime == name):
            self.scheduler.returned(name, task_id, now)

    def _on_ended(self, runtime: Runtime, ended: AttemptEnded, frames: Sequence[Bytes], now: float) -> None:
        name = runtime.info.name
        key = (ended.task, ended.attempt)
        if key in runtime.held:
            del runtime.held[key]
            runtime.digest ^= digest_of(*key)
        runtime.ending.pop(key, None)
        task = self.state.tasks.get(ended.task)
        if task is not None and task.copy is not None and is_copy(task, name, ended.attempt):
            self.copies.on_copy_ended(task, ended, list(frames), now)
            return
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
        if task.copy is not None and self.copies.on_first_ended(task, ended, now):
            return
        if isinstance(task.state, NOT_GIVEN_OUT):
            self.state.counters["reports.late"] += 1  # given up, but no other attempt has begun: the result is welcome
            if ended.end in (AttemptEnd.RETURNED, AttemptEnd.LOST, AttemptEnd.CANCELLED):
                return
        if ended.end != AttemptEnd.RETURNED:
            task.losses = 0
            if not task.started:
                task.started = now - ended.age - ended.seconds + self.life.wall_offset
        self.life.on_attempt_ended(task, ended, unpack_value(ended.result, frames), now)

    def _on_logs(self, name: str, records: list[LogRecord], dropped: dict[TaskId, int], now: float) -> None:
        kept: list[LogRecord] = []
        by_topic: dict[str, list[LogRecord]] = {}
        for record in records:
            task = self.state.tasks.get(record.task)
            if task is not None:
                if record.attempt == task.attempt and name != task.runtime and not is_copy(task, name, record.attempt):
                    self.state.counters["logs.foreign"] += 1  # of an attempt that this runtime was not given
                    continue
                if record.stream == "progress":
                    _note_progress(task, record)
                is_output = record.stream != MESSAGE_STREAM  # a message is not given up because a task has written much
                if (is_output and task.logged >= self.logs_per_task) or self.log_rate.exceeded(record.task, now):
                    dropped[record.task] = dropped.get(record.task, 0) + 1
                    continue
                task.logged += is_output
            kept.append(record)
            if self.state.topics:
                namespace = task.options.namespace if task is not None else NOBODYS
                if record.stream == MESSAGE_STREAM:
                    for topic in topics_of(self.state, namespace, (MESSAGES,)):
                        self.turn.send("*" + topic, Event(MESSAGES, "message", {"runtime": name}, [record]))
                for topic in topics_of(self.state, namespace, (topic_of_logs(record.task),)):
                    by_topic.setdefault(topic, []).append(record)
        for topic, found in by_topic.items():
            self.turn.send("*" + topic, Event(plain_topic(topic), "logs", {}, found))
        self.state.counters["logs.dropped"] += sum(dropped.values())
        self.turn.store(AppendLogs(kept, dropped))


def topic_of_logs(task_id: TaskId) -> str:
    """The topic on which a task's log records are published."""
    return "logs." + text_of(task_id)


def _note_progress(task: Task, record: LogRecord) -> None:
    done, total = record.fields.get("done"), record.fields.get("total")
    if isinstance(done, int | float) and isinstance(total, int | float):
        task.progress = (float(done), float(total))
