"""A store to test with, and a desk where its receipts arrive."""

from __future__ import annotations

import queue
from pathlib import Path

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Kind, Options, Status
from headway_controller.store import Durability, EndTask, NewTasks, Operation, Receipt
from headway_controller.store.sqlite_store import SqliteStore

SECONDS = 30.0
"""Longer than any commit takes; a test that waits so long has failed."""


class Desk:
    """Takes a store's receipts, commit by commit."""

    def __init__(self) -> None:
        self.commits: queue.SimpleQueue[list[Receipt]] = queue.SimpleQueue()

    def receipts(self, count: int) -> list[Receipt]:
        """The next receipts, waiting for as many."""
        found: list[Receipt] = []
        while len(found) < count:
            found += self.commits.get(timeout=SECONDS)
        return found


class Bench:
    """A store whose writes can be waited for."""

    def __init__(
        self, path: Path | None, durability: Durability = Durability.NORMAL, lock_timeout: float = 5.0
    ) -> None:
        self.desk = Desk()
        self.store = SqliteStore(path, self.desk.commits.put, durability, lock_timeout)

    def try_write(self, *operations: Operation) -> Receipt:
        self.store.write(operations, "token")
        return self.desk.receipts(1)[0]

    def write(self, *operations: Operation) -> Receipt:
        receipt = self.try_write(*operations)
        assert receipt.error is None, receipt.error
        return receipt

    def add(self, count: int = 1, options: Options | None = None, payload: bytes = b"arguments") -> list[TaskId]:
        tasks = new_task_ids(count)
        self.write(new_tasks(tasks, options, payload))
        return tasks


def call(target: str = "math:sqrt", **fields: object) -> Options:
    return Options(Kind.CALL, target, **fields)  # type: ignore[arg-type]


def new_tasks(
    tasks: list[TaskId], options: Options | None = None, payload: bytes | memoryview = b"arguments"
) -> NewTasks:
    return NewTasks(options or call(), 1000.0, "client-1", [(task, payload) for task in tasks])


def end(task: TaskId, status: Status = Status.SUCCEEDED, **fields: object) -> EndTask:
    return EndTask(task, status, 1, 2000.0, **fields)  # type: ignore[arg-type]


def lone_end(task: TaskId) -> EndTask:
    """With nothing to tell but a value."""
    return EndTask(task, Status.SUCCEEDED, 1, 1001.0, 1000.5, 0.5, "r1", b"value", predicted=0.25)
