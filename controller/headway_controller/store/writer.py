"""The one thread that writes: it takes everything that was handed over, commits it as one transaction, and reports.

Whoever hands over does not wait, and the busier the store is the more goes into one commit. A commit that fails
because of the disk fails for all that were in it; one that fails because of a value is repeated write by write, so that
only the bad write gets the error. The thread itself never ends before :meth:`Writer.close`: when the disk has room
again, the next commit succeeds.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from headway_bus.errors import StoreError
from headway_bus.records import Blob
from headway_controller.store.apply import Applier
from headway_controller.store.protocol import AppendLogs, DropTasks, EndTask, NewTasks, Operation, Receipt
from headway_controller.store.words import explain, is_of_the_surroundings

MAX_COMMIT_ROWS = 20_000
"""Rows after which a commit is closed: a tenth of a second's work, and the longest that the first of them waits."""

MAX_COMMIT_BYTES = 64 * 1024 * 1024
"""Payload after which a commit is closed, so that a transaction is not held in memory by the gigabyte."""


class _Write(NamedTuple):
    operations: Sequence[Operation]
    token: object
    rows: int
    size: int


class Writer:
    """Owns the writing connection for as long as its thread runs."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: threading.RLock,
        path: Path | None,
        on_stored: Callable[[list[Receipt]], None],
    ) -> None:
        """``on_stored`` is called in the writer's thread, once for each commit, in the order of the writes."""
        self._connection = connection
        self._lock = lock
        self._path = path
        self._on_stored = on_stored
        self._applier = Applier(connection)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._handover = threading.Lock()
        self._closed = False
        self._handed_over = 0
        self._done = 0
        self.counters = dict.fromkeys(("commits", "rows", "writes_failed", "tasks_known", "ends_repeated"), 0)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Rows that were handed over and neither stored nor refused."""
        return self._handed_over - self._done

    def write(self, operations: Sequence[Operation], token: object) -> None:
        """Queue one write. Raises StoreError after :meth:`close`."""
        rows = sum(map(_rows_of, operations))
        write = _Write(operations, token, rows, sum(map(_size_of, operations)))
        with self._handover:
            if self._closed:
                raise StoreError("the store is closed: the controller is stopping")
            self._handed_over += rows
            self._queue.put(write)

    def close(self) -> None:
        """Store what was handed over, report it, and end the thread."""
        with self._handover:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            writes, last = self._take()
            if writes:
                receipts = self._store(writes)
                self._done += sum(write.rows for write in writes)
                self._on_stored(receipts)
            if last:
                return

    def _take(self) -> tuple[list[_Write], bool]:
        """Wait for a write and take all that lie there with it; whether the store is being closed."""
        writes: list[_Write] = []
        rows = size = 0
        write = self._queue.get()
        while write is not None:
            writes.append(write)
            rows += write.rows
            size += write.size
            if rows >= MAX_COMMIT_ROWS or size >= MAX_COMMIT_BYTES:
                return writes, False
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                return writes, False
        return writes, True

    def _store(self, writes: list[_Write]) -> list[Receipt]:
        try:
            with self._lock:
                return self._commit(writes)
        except Exception as error:
            if len(writes) > 1 and not is_of_the_surroundings(error):
                return [receipt for write in writes for receipt in self._store([write])]
            self.counters["writes_failed"] += len(writes)
            reason = explain(error, self._path)
            return [Receipt(write.token, reason) for write in writes]

    def _commit(self, writes: list[_Write]) -> list[Receipt]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._applier.apply([write.operations for write in writes])
            self._connection.execute("COMMIT")
        except BaseException:
            self._applier.forget()
            # SQLite has rolled back on its own after most errors of the disk, and says so here.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        known = self._applier.known
        self.counters["commits"] += 1
        self.counters["rows"] += sum(write.rows for write in writes)
        self.counters["tasks_known"] += sum(map(len, known.values()))
        self.counters["ends_repeated"] += self._applier.repeated_ends
        return [Receipt(write.token, None, known.get(index, ())) for index, write in enumerate(writes)]


def _rows_of(operation: Operation) -> int:
    match operation:
        case NewTasks(tasks=rows) | DropTasks(tasks=rows) | AppendLogs(records=rows):
            return len(rows)
        case _:
            return 1


def _size_of(operation: Operation) -> int:
    match operation:
        case NewTasks(tasks=tasks):
            return sum(0 if isinstance(payload, Blob) else len(payload) for _, payload in tasks)
        case EndTask(result=result):
            return 0 if isinstance(result, Blob) else len(result)
        case AppendLogs(records=records):
            return sum(len(record.text) for record in records)
        case _:
            return 0
