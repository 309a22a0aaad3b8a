"""What a store has committed, and a store around it: group commits that take time, stall, and fail when the disk is full.

It keeps to :mod:`headway_controller.store.protocol`, which tests/property/store holds against the real one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId, short_text
from headway_bus.records import Options
from headway_controller.store.protocol import (
    AppendLogs,
    EndTask,
    NewTasks,
    Operation,
    Receipt,
    SaveState,
    StoredEnd,
    StoredTask,
    UpdateTask,
)

from .timeline import Process, Timeline


@dataclass(slots=True)
class Row:
    """A task as it is committed."""

    number: int
    options: Options
    submitted: float
    client: str
    payload: bytes
    stored_at: float
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    not_before: float = 0.0
    story: bytes = b""
    end: EndTask | None = None


class Disk:
    """What survives a process. Everything that is known from outside of ends is noted here, at their commit."""

    def __init__(self) -> None:
        self.rows: dict[TaskId, Row] = {}
        self.roster: list[str] = []
        """The runtimes that the controller had, as it saved them."""
        self.full = False
        self.stalled_until = 0.0
        self.repeated_ends: list[str] = []
        """Ends that met another end: none may."""
        self.counters: Counter[str] = Counter()
        self._number = 0

    def wipe(self) -> None:
        """A store in memory went with its process."""
        self.rows.clear()
        self.roster = []

    def apply(self, writes: Sequence[Sequence[Any]], now: float) -> list[list[TaskId]]:
        """Commit; returns, for each write, its new tasks that were known.

        Within a commit new tasks go first, then updates, then ends, whatever the order in which they were handed over:
        see the docstring of :mod:`headway_controller.store.apply`.
        """
        known = [self._add(write, now) for write in writes]
        operations = [operation for write in writes for operation in write]
        for operation in operations:
            if isinstance(operation, UpdateTask):
                self._update(operation)
        for operation in operations:
            if isinstance(operation, EndTask):
                self._end(operation)
            elif isinstance(operation, AppendLogs):
                self.counters["log records"] += len(operation.records)
            elif isinstance(operation, SaveState):
                if operation.key == "roster":
                    self.roster = msgpack.unpackb(operation.value)
            else:
                assert isinstance(operation, NewTasks | UpdateTask), f"the simulated store does not know {operation}"
        return known

    def _add(self, write: Sequence[Any], now: float) -> list[TaskId]:
        known = []
        for new in write:
            if isinstance(new, NewTasks):
                for task, payload in new.tasks:
                    if task in self.rows:
                        known.append(task)
                        continue
                    self._number += 1
                    self.rows[task] = Row(self._number, new.options, new.submitted, new.client, bytes(payload), now)
        return known

    def _update(self, update: UpdateTask) -> None:
        row = self.rows.get(update.task)
        if row is None:
            return
        if row.end is None:
            row.attempt, row.failures, row.losses = update.attempt, update.failures, update.losses
            row.not_before, row.story = update.not_before, update.story

    def _end(self, end: EndTask) -> None:
        row = self.rows.get(end.task)
        if row is None:
            return
        self.counters["ends"] += 1
        if row.end is None:
            row.end = end
        elif (row.end.status, row.end.attempt, bytes(row.end.result)) != (end.status, end.attempt, bytes(end.result)):
            self.repeated_ends.append(
                f"{short_text(end.task)} had {row.end.status} with attempt {row.end.attempt}, "
                f"then {end.status} with attempt {end.attempt}"
            )


def stored(task: TaskId, row: Row) -> StoredTask:
    """A row as the store's readers give it."""
    end = None
    if row.end is not None:
        it = row.end
        result = bytes(it.result)
        end = StoredEnd(
            it.status, it.attempt, it.ended, it.started, it.seconds, it.runtime, it.predicted, it.expires, it.error,
            result, len(result),
        )  # fmt: skip
    return StoredTask(
        row.number, task, row.options, row.submitted, row.client, row.payload, row.attempt, row.failures, row.losses,
        row.not_before, row.story, end,
    )  # fmt: skip


class SimulatedStore:
    """One opening of the store. What it was handed over and has not committed is gone with its process."""

    def __init__(
        self,
        disk: Disk,
        timeline: Timeline,
        process: Process,
        random: Random,
        commit_seconds: float,
        on_stored: Callable[[list[Receipt]], None],
    ) -> None:
        self._disk = disk
        self._timeline = timeline
        self._process = process
        self._random = random
        self._commit_seconds = commit_seconds
        self._on_stored = on_stored
        self._queue: list[tuple[Sequence[Operation], object]] = []
        self._committing = False
        self._told_at = 0.0

    def write(self, operations: Sequence[Operation], token: object = None) -> None:
        self._queue.append((operations, token))
        if not self._committing:
            self._begin()

    def load_unfinished(self) -> list[StoredTask]:
        rows = [(task, row) for task, row in self._disk.rows.items() if row.end is None]
        return [stored(task, row) for task, row in sorted(rows, key=lambda each: each[1].number)]

    def find(self, tasks: Sequence[TaskId]) -> list[StoredTask]:
        return [stored(task, self._disk.rows[task]) for task in dict.fromkeys(tasks) if task in self._disk.rows]

    def _begin(self) -> None:
        self._committing = True
        taken, self._queue = self._queue, []
        seconds = self._commit_seconds * self._random.expovariate(1.0)
        ready = max(self._timeline.now + seconds, self._disk.stalled_until + seconds)
        self._timeline.at(ready, lambda: self._commit(taken), self._process)

    def _commit(self, taken: list[tuple[Sequence[Operation], object]]) -> None:
        disk = self._disk
        if disk.stalled_until > self._timeline.now:
            self._timeline.at(disk.stalled_until, lambda: self._commit(taken), self._process)
            return
        disk.counters["commits"] += 1
        if disk.full:
            disk.counters["commits refused"] += 1
            error = StoreError("database or disk is full")
            receipts = [Receipt(token, error) for _, token in taken]
        else:
            known = disk.apply([each for each, _ in taken], self._timeline.now)
            receipts = [Receipt(token, None, found) for (_, token), found in zip(taken, known, strict=True)]
        # The receipts cross from the writer's thread to the loop: whoever is killed in between has stored and not told. They
        # come in the order of the commits, however long each is on its way.
        arrival = self._timeline.now + self._commit_seconds * self._random.random()
        self._told_at = max(self._told_at, arrival)
        self._timeline.at(self._told_at, lambda: self._on_stored(receipts), self._process)
        if self._queue:
            self._begin()
        else:
            self._committing = False
