"""What is seen from outside: which code ran when and where, what was accepted, which ends were told.

Promises that can be judged at once are judged here; ``broken`` holds what was found.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headway_bus.ids import AttemptKey, TaskId, short_text
from headway_bus.messages import Assign, Message, Registered, Report, Settled, TasksEnded
from headway_bus.records import AttemptEnd, Outcome, Reason, Status

from .disk import Disk

End = tuple[str, int, bytes]

RETURN_SECONDS = 5.0
"""For which a new controller waits for the runtimes of its predecessor: as long as for a heartbeat that is missed."""


@dataclass(slots=True)
class Execution:
    """One run of the user's code."""

    number: int
    task: TaskId
    attempt: int
    runtime: str
    life: int
    """Which of the processes of that name."""
    begin: float
    end: float | None = None
    is_orphan: bool = False
    """Its runtime was killed; it dies in a moment."""

    @property
    def result(self) -> bytes:
        """What it returns if it succeeds: no two executions return the same."""
        return f"{short_text(self.task)}/{self.attempt} on {self.runtime}, execution {self.number}".encode()

    def __str__(self) -> str:
        return f"execution {self.number} of {short_text(self.task)}/{self.attempt} on {self.runtime}"


@dataclass
class Ledger:
    """Notes of one world."""

    disk: Disk
    durability: str
    is_present: Callable[[TaskId, int, str], bool]
    """Whether the living controller takes this attempt, on that runtime, for the present one."""

    broken: list[str] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    executions: dict[TaskId, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    accepted: set[TaskId] = field(default_factory=set)
    cancelled: set[TaskId] = field(default_factory=set)
    """Somebody asked for that."""

    idempotent: set[TaskId] = field(default_factory=set)
    """A second copy of these may run beside the first."""

    resumable: set[TaskId] = field(default_factory=set)
    """An edge that was started anew begins these again, under the same number."""

    edges: dict[str, bool] = field(default_factory=dict)
    """Those with a spool, and whether one knows, in its present life, how long it was cut off: its clock may be wrong."""

    told: dict[TaskId, End] = field(default_factory=dict)
    memory_lost: bool = False
    """A store in memory has gone with its controller."""

    _lost: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _registered: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _controllers: list[tuple[float, list[str]]] = field(default_factory=list)
    _stored: list[tuple[float, frozenset[TaskId]]] = field(default_factory=list)
    """Which tasks each controller found in the store."""

    _forgotten: set[tuple[str, TaskId, int]] = field(default_factory=set)
    _assigned: dict[tuple[TaskId, int, str], float] = field(default_factory=dict)
    _reports: dict[tuple[str, int], list[AttemptKey]] = field(default_factory=dict)
    _numbers: int = 0

    # -------------------------------------------------------------------------------------- executions

    def begun(self, key: AttemptKey, runtime: str, life: int, now: float) -> Execution:
        """The user's code of this attempt starts: nothing of the same task may run elsewhere (I3)."""
        task, attempt = key
        self._numbers += 1
        execution = Execution(self._numbers, task, attempt, runtime, life, now)
        for earlier in self.executions[task]:
            same = (earlier.attempt, earlier.runtime) == (attempt, runtime) and self._is_noted(earlier, execution)
            was_forgotten = (runtime, task, attempt) in self._forgotten
            if same and not was_forgotten and not self.memory_lost:
                self.broken.append(f"{execution} began, and so did {earlier} before: one attempt runs once")
            if earlier.end is not None or earlier.is_orphan:
                continue
            # An old attempt may begin late, where its runtime stood still: then it is that one that was given up.
            old, new = (execution, earlier) if attempt < earlier.attempt else (earlier, execution)
            if task not in self.idempotent and not self._is_given_up(old, new):
                self.broken.append(f"{execution} began at {now:.3f} while {earlier} still ran, which nobody gave up")
        self._judge_lease(execution, now)
        self.executions[task].append(execution)
        self.counters["executions"] += 1
        return execution

    def occupies(self, execution: Execution, occupied: float, slots: float) -> None:
        """With this execution so many slots of a runtime are in use (I5)."""
        if occupied > slots + 1e-6:
            self.broken.append(f"with {execution} {occupied:g} slots are in use of {slots:g}")

    def over(self, execution: Execution, now: float) -> None:
        execution.end = now

    def _is_noted(self, earlier: Execution, execution: Execution) -> bool:
        """Whether the runtime knows that the attempt was begun before: within one life, or by its spool. A controller that does
        not find the task in the store counts its attempts from one, and what was settled is known to nobody by then."""
        if earlier.life != execution.life and (execution.runtime not in self.edges or execution.task in self.resumable):
            return False
        between = [stored for start, stored in self._stored if earlier.begin <= start <= execution.begin]
        return all(execution.task in stored for stored in between)

    def _judge_lease(self, execution: Execution, now: float) -> None:
        """What the controller has given to others, an edge that knows the time does not begin any more (I3)."""
        task, since = execution.task, self._assigned_at(execution)
        if not self.edges.get(execution.runtime) or task in self.idempotent or self.memory_lost:
            return
        if any(since < start <= now for start, _ in self._controllers):
            return  # what an earlier controller had not stored yet, the next one does not know to be leased
        for (other, attempt, target), when in self._assigned.items():
            if other == task and attempt > execution.attempt and when < now:
                text = f"{execution} began at {now:.3f}, and attempt {attempt} was given to {target} at {when:.3f}"
                self.broken.append(f"{text}: the lease was over")

    def _is_given_up(self, old: Execution, new: Execution) -> bool:
        """Whether a controller had reason to take the old execution for lost when it assigned the new one."""
        since, until = self._assigned_at(old), self._assigned_at(new)
        if any(since <= lost for lost in self._lost[old.runtime]):
            return True
        for start, roster in self._controllers:
            has_come_back = any(start <= when <= until for when in self._registered[old.runtime])
            was_waited_for = until - start >= RETURN_SECONDS or old.runtime not in roster
            if since < start <= until and was_waited_for and not has_come_back:
                return True
        return False

    def _assigned_at(self, execution: Execution) -> float:
        return self._assigned.get(_key_of(execution), execution.begin)

    # -------------------------------------------------------------------------------------- the controller

    def controller_started(self, now: float, roster: list[str]) -> None:
        """``roster``: the runtimes that its predecessor had."""
        self._controllers.append((now, roster))
        self._stored.append((now, frozenset(self.disk.rows)))
        self._reports.clear()

    def registered(self, runtime: str, now: float) -> None:
        self._registered[runtime].append(now)

    def noted(self, event: str, fields: dict[str, Any], now: float) -> None:
        """A line of the controller's log."""
        if event in ("runtime lost", "runtime left"):
            self._lost[fields["runtime"]].append(now)
        self.counters[f"note: {event}"] += 1

    def heard(self, source: str, message: Message) -> None:
        """The controller hears a report."""
        if isinstance(message, Report):
            good = [(each.task, each.attempt) for each in message.ended if each.end is AttemptEnd.SUCCEEDED]
            self._reports[(source, message.batch)] = good

    def said(self, target: str, message: Message, now: float) -> None:
        """The controller says something that it may only say when it is stored (I1, I2)."""
        if isinstance(message, Assign):
            for group in message.groups:
                for task, attempt, _ in group.attempts:
                    if group.options.idempotent:
                        self.idempotent.add(task)
                    if group.options.resumable:
                        self.resumable.add(task)
                    self._assigned.setdefault((task, attempt, target), now)
        elif isinstance(message, Registered):
            self._forgotten |= {(target, task, attempt) for task, attempt in message.forget}
        elif isinstance(message, TasksEnded):
            for outcome in message.outcomes:
                self._judge_told(outcome)
        elif isinstance(message, Settled):
            for batch in message.batches:
                for task, attempt in self._reports.get((target, batch), ()):
                    if (target, task, attempt) not in self._forgotten:
                        self._judge_settled(task, attempt, target)

    def _judge_told(self, outcome: Outcome) -> None:
        row = self.disk.rows.get(outcome.task)
        if is_unknown(outcome):
            # "Not known" is true only if it is not there.
            if row is not None:
                self.broken.append(f"{short_text(outcome.task)} is stored and was called unknown: {outcome.error}")
            return
        if row is None or row.end is None or (row.end.status, row.end.attempt) != (outcome.status, outcome.attempt):
            self.broken.append(f"the end {outcome.status} of {short_text(outcome.task)} was told and is not stored")

    def _judge_settled(self, task: TaskId, attempt: int, runtime: str) -> None:
        row = self.disk.rows.get(task)
        if row is not None and row.end is None and self.is_present(task, attempt, runtime):
            self.broken.append(f"the success of {short_text(task)}/{attempt} was settled and is not stored")

    # -------------------------------------------------------------------------------------- clients

    def admitted(self, task: TaskId) -> None:
        """A client hears that its task is accepted (I1)."""
        self.accepted.add(task)
        if task not in self.disk.rows and not self.memory_lost:
            self.broken.append(f"{short_text(task)} was accepted and is not stored")

    def ended(self, task: TaskId, outcome: Outcome, data: bytes) -> None:
        """A client hears of an end (I2): it is everybody's."""
        self.counters["ends told"] += 1
        if is_unknown(outcome):
            self.counters["ends told as unknown"] += 1
            if task in self.accepted and not self.memory_lost:
                self.broken.append(f"{short_text(task)} was accepted, and a client is told that it is not known")
            return
        if outcome.status is Status.CANCELLED and task not in self.cancelled:
            self.broken.append(f"{short_text(task)} was cancelled, and nobody asked for it")
        origin = f"{short_text(task)}/{outcome.attempt} on {outcome.runtime},".encode()
        if outcome.status is Status.SUCCEEDED and not data.startswith(origin):
            self.broken.append(f"{origin.decode()} is said to have returned {data[:80]!r}")
        end = (str(outcome.status), outcome.attempt, data)
        if self.told.setdefault(task, end) != end and not self.memory_lost:
            self.broken.append(f"two ends were told of {short_text(task)}: {self.told[task]} and {end}")


def _key_of(execution: Execution) -> tuple[TaskId, int, str]:
    return execution.task, execution.attempt, execution.runtime


def is_unknown(outcome: Outcome) -> bool:
    """Whether a client is told that nobody knows the task."""
    return outcome.attempt == 0 and outcome.error is not None and "does not know" in outcome.error.message and (
        outcome.error.reason is Reason.LOST
    )  # fmt: skip
