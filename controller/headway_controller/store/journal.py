"""Small writes, noted in one row each until there are enough of them to be worth their tables.

A task of its own, or its end, changes six pages of the tables and their indexes, and as many go into the log: 70 µs of
processor time, on the way of somebody who waits. A row of packed bytes at the end of one table changes one page. It is in
the same file and under the same promises, and what is noted is moved into the tables together, a few dozen in one
transaction, for a tenth of the time each. Whoever reads has it moved first, so nobody sees the difference.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from headway_bus.ids import TaskId
from headway_bus.records import Blob, Options, Status
from headway_controller.store.apply import is_plain
from headway_controller.store.protocol import EndTask, NewTasks, Operation, StoreDamaged

MAX_ROWS = 1024
"""Noted writes, beyond which the next goes into the tables: moving them shall not take longer than one commit may."""

MAX_BYTES = 4096
"""The largest write that is noted: a page. What is longer would be written twice, and costs by its length."""

_NOTE = "INSERT INTO journal (body) VALUES (?)"
_NOTE_NEW = "INSERT INTO journal (body) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE id = ?)"


class _New(msgspec.Struct, array_like=True, gc=False):
    options: Options
    submitted: float
    client: str
    task: TaskId
    payload: bytes


class _End(msgspec.Struct, array_like=True, gc=False):
    task: TaskId
    attempt: int
    ended: float
    started: float
    seconds: float
    runtime: str
    predicted: float
    result: bytes


class _Entry(msgspec.Struct, array_like=True, gc=False):
    new: _New | None
    end: _End | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class Journal:
    """What is noted in the table ``journal`` and has not been moved. The caller holds the writing connection's lock."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Takes in what an earlier process has noted. Raises StoreDamaged if a row cannot be read."""
        self._connection = connection
        self.rows: list[tuple[int, Sequence[Operation]]] = []
        """Number in the table and operations, in the order in which they were noted."""

        self.tasks: set[TaskId] = set()
        """Those that the rows speak of."""

        for number, body in connection.execute("SELECT number, body FROM journal ORDER BY number"):
            try:
                operations = _operations_of(_decode(body))
            except msgspec.DecodeError as error:
                raise StoreDamaged(f"row {number} of the table journal cannot be read: {error}") from error
            self._keep(number, operations)

    def note(self, operations: Sequence[Operation]) -> bool:
        """Store these operations together, as one row. False: nothing was done, they belong into the tables at once.

        Outside of a transaction; the statement is one of its own, and has been committed when this returns.
        """
        if len(self.rows) >= MAX_ROWS or (entry := _entry_of(operations)) is None:
            return False
        body = _encode(entry)
        if len(body) > MAX_BYTES:
            return False
        if entry.new is None:
            cursor = self._connection.execute(_NOTE, (body,))
        elif entry.new.task in self.tasks:
            return False  # known: whoever says it again is told so by the tables
        else:
            cursor = self._connection.execute(_NOTE_NEW, (body, entry.new.task))
            if not cursor.rowcount:
                return False
        assert cursor.lastrowid is not None
        self._keep(cursor.lastrowid, operations)
        return True

    def strike(self, first: int, last: int) -> None:
        """Remove these rows from the table, in the transaction that moves them."""
        self._connection.execute("DELETE FROM journal WHERE number BETWEEN ? AND ?", (first, last))

    def clear(self) -> None:
        """They have been moved: that transaction is committed."""
        self.rows.clear()
        self.tasks.clear()

    def _keep(self, number: int, operations: Sequence[Operation]) -> None:
        self.rows.append((number, operations))
        for operation in operations:
            if isinstance(operation, NewTasks):
                self.tasks.add(operation.tasks[0][0])
            elif isinstance(operation, EndTask):
                self.tasks.add(operation.task)


def _entry_of(operations: Sequence[Operation]) -> _Entry | None:
    """A task, an end, or a task and an end, with nothing about them that is rare; None for all else."""
    new: _New | None = None
    end: _End | None = None
    for operation in operations:
        if type(operation) is EndTask:
            if end is not None or not is_plain(operation):
                return None
            assert isinstance(operation.result, bytes)
            end = _End(
                operation.task,
                operation.attempt,
                operation.ended,
                operation.started,
                operation.seconds,
                operation.runtime,
                operation.predicted,
                operation.result,
            )
        elif type(operation) is NewTasks and new is None and end is None and len(operation.tasks) == 1:
            options, (task, payload) = operation.options, operation.tasks[0]
            if options.secret or options.files or isinstance(payload, Blob):
                return None
            new = _New(options, operation.submitted, operation.client, task, bytes(payload))
        else:
            return None
    return _Entry(new, end)


def _operations_of(entry: _Entry) -> list[Operation]:
    operations: list[Operation] = []
    if (new := entry.new) is not None:
        operations.append(NewTasks(new.options, new.submitted, new.client, [(new.task, new.payload)]))
    if (end := entry.end) is not None:
        operations.append(
            EndTask(
                end.task,
                Status.SUCCEEDED,
                end.attempt,
                end.ended,
                end.started,
                end.seconds,
                end.runtime,
                end.result,
                predicted=end.predicted,
            )
        )
    return operations
