"""The one thread that writes: it takes everything that was handed over, commits it as one transaction, and reports.

A small write that meets an idle store does not wait for it: it is stored by the caller, as a row of the journal where that
will do, and the thread moves such rows into the tables before it does anything else, and soon in any case.

Whoever hands over does not wait, and the busier the store is the more goes into one commit. A commit that fails
because of the disk fails for all that were in it; one that fails because of a value is repeated write by write, so that
only the bad write gets the error. The thread itself never ends before :meth:`Writer.close`: when the disk has room
again, the next commit succeeds. Only in a file that has shown damage nothing is written any more.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId
from headway_bus.logs import get_logger
from headway_bus.records import Blob
from headway_controller.store.apply import Applier
from headway_controller.store.blobs import BlobFolder
from headway_controller.store.database import Database
from headway_controller.store.journal import Journal
from headway_controller.store.protocol import (
    AppendLogs,
    DescribeTask,
    DropTasks,
    EndTask,
    NewTasks,
    Operation,
    Receipt,
    StoreDamaged,
    UpdateTask,
)
from headway_controller.store.sealing import Sealer
from headway_controller.store.words import is_of_the_surroundings

MAX_COMMIT_ROWS = 8192
"""Rows after which a commit is closed: some 40 ms of work. More gains nothing and the first of them waits longer."""

MAX_COMMIT_BYTES = 64 * 1024 * 1024
"""Payload after which a commit is closed, so that a transaction is not held in memory by the gigabyte."""

AT_ONCE_ROWS = 4
AT_ONCE_BYTES = 65_536
"""The largest write that may be committed in the caller's thread: some 50 µs of work."""

AT_ONCE_RUN = 200
"""Writes in a row that may go into the tables this way. The next one goes to the thread, whose commit moves a long log into
the database: that waits for the disk, and the caller's event loop must not."""

MOVE_ROWS = 32
"""Rows of the journal at which the thread is called to move them. It begins right after the last of them was stored, when
the next lone write is farthest away."""

MOVE_SECONDS = 0.1
"""After that time they are moved, however few they are."""

_log = get_logger("store")


class _Write(NamedTuple):
    operations: Sequence[Operation]
    token: object
    rows: int


_LOOK = _Write((), None, 0)
"""Not a write: a call to look at the journal."""


class Writer:
    """Owns the writing connection for as long as its thread runs."""

    def __init__(
        self,
        database: Database,
        on_stored: Callable[[list[Receipt]], None],
        blobs: BlobFolder | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        """``on_stored`` is called in the writer's thread, once for each commit, in the order of the writes."""
        self._database = database
        self._connection = database.writer
        self._on_stored = on_stored
        self._applier = Applier(database.writer, blobs, sealer)
        self._journal = Journal(database.writer)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._handover = threading.Lock()
        self._closed = False
        self._handed_over = 0
        self._done = 0
        self._writes = 0
        self._reported = 0
        self._at_once = 0
        self._looks = False  # whether the thread looks at the journal by itself
        self._patient = True
        self.counters = dict.fromkeys(
            ("commits", "rows", "writes_failed", "tasks_known", "ends_repeated", "reports_failed"), 0
        )
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Rows that were handed over and neither stored nor refused."""
        return self._handed_over - self._done

    def write(self, operations: Sequence[Operation], token: object) -> None:
        """Queue one write. Raises StoreError after :meth:`close`."""
        rows = sum(map(_rows_of, operations))
        write = _Write(operations, token, rows)
        with self._handover:
            if self._closed:
                raise StoreError("the store is closed: the controller is stopping")
            self._handed_over += rows
            self._writes += 1
            self._queue.put(write)

    def write_at_once(self, operations: Sequence[Operation], token: object) -> Receipt | None:
        """Store a small write here and now, if nothing else is on its way. None: nothing was done, use :meth:`write`.

        Never waits: not for a lock, not for the disk (mode ``full`` always takes the thread), not for a long log.
        """
        rows = len(operations)
        if rows > AT_ONCE_ROWS or self._writes != self._reported or self._at_once >= AT_ONCE_RUN:
            return None
        rows = sum(map(_rows_of, operations))
        if rows > AT_ONCE_ROWS or self._database.flushes or _size_of_all(operations) > AT_ONCE_BYTES:
            return None
        if self._closed or self._database.damage or not self._database.writing.acquire(blocking=False):
            return None
        try:
            self._be_patient(False)
            if not operations:
                return Receipt(token)
            if self._journal.note(operations):
                self.counters["rows"] += rows
                self._call_mover()
                return Receipt(token)
            self._move()
            (receipt,) = self._commit([_Write(operations, token, rows)])
        except Exception:
            return None  # the thread meets the same trouble again, and knows what to do about it
        finally:
            self._database.writing.release()
        self._at_once += 1
        return receipt

    def settle(self, tasks: Iterable[TaskId] | None = None) -> None:
        """Move what was noted into the tables, so that a reader sees it there.

        ``tasks``: what it asks about; None: everything, and it must be complete. Raises StoreError if it cannot be moved, a
        full disk for example, and the reader would miss what was stored.
        """
        if self._journal.rows and not self._closed and not self._database.damage:
            try:
                with self._database.writing:
                    self._move()
            except Exception as error:
                reason = self._database.explain(error)
                if tasks is None or not self._journal.tasks.isdisjoint(tasks):
                    if isinstance(reason, StoreDamaged):
                        raise reason from error
                    raise StoreError(f"it is stored, but cannot be read yet: {reason}") from error

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
                self._report(receipts)
                self._reported += len(writes)
                self._at_once = 0
            elif last or len(self._journal.rows) >= MOVE_ROWS:
                self._move_quietly()
            if last:
                return

    def _take(self) -> tuple[list[_Write], bool]:
        """Wait for a write and take all that lie there with it; whether the store is being closed. Without any of the two
        it is time to look at the journal."""
        writes: list[_Write] = []
        rows = size = 0
        write = self._wait()
        while write is not None:
            if write is not _LOOK:
                writes.append(write)
                rows += write.rows
                size += _size_of_all(write.operations)
                if rows >= MAX_COMMIT_ROWS or size >= MAX_COMMIT_BYTES:
                    return writes, False
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                return writes, False
        return writes, True

    def _wait(self) -> _Write | None:
        if not self._looks:
            return self._queue.get()
        try:
            return self._queue.get(timeout=MOVE_SECONDS)
        except queue.Empty:
            with self._database.writing:
                self._looks = bool(self._journal.rows)
            self._move_quietly()
            return _LOOK

    def _call_mover(self) -> None:
        """See to it that the thread moves what was noted: now if it is much, else soon. The caller holds the lock."""
        if not self._looks or len(self._journal.rows) == MOVE_ROWS:
            self._looks = True
            self._queue.put(_LOOK)

    def _move_quietly(self) -> None:
        """What keeps it from being moved meets the next write, or the next reader, as well, and they say it."""
        with suppress(Exception), self._database.writing:
            if not self._database.damage:
                self._be_patient(True)
                self._move()

    def _move(self) -> None:
        """Everything noted goes into the tables. The caller holds the lock."""
        rows = self._journal.rows
        if not rows:
            return
        try:
            self._transact([operations for _, operations in rows], moved=(rows[0][0], rows[-1][0]))
        except Exception as error:
            if is_of_the_surroundings(error) or isinstance(self._database.explain(error), StoreDamaged):
                raise
            self._move_each()
        self._journal.clear()

    def _move_each(self) -> None:
        """One row does not fit: the others must not stay behind for it."""
        for number, operations in self._journal.rows:
            try:
                self._transact([operations], moved=(number, number))
            except Exception as error:
                if is_of_the_surroundings(error):
                    raise
                _log.exception("a noted write does not fit into the tables; it stays in the journal", number=number)

    def _report(self, receipts: list[Receipt]) -> None:
        try:
            self._on_stored(receipts)
        except Exception:
            # An event loop that has been closed, most likely. The thread must live on: there may be more to store.
            self.counters["reports_failed"] += 1
            _log.exception("nobody took the receipts of a commit", receipts=len(receipts))

    def _store(self, writes: list[_Write]) -> list[Receipt]:
        try:
            if self._database.damage:
                raise self._database.damage
            with self._database.writing:
                self._be_patient(True)
                self._move()
                return self._commit(writes)
        except Exception as error:
            if len(writes) > 1 and not is_of_the_surroundings(error) and not self._database.damage:
                return [receipt for write in writes for receipt in self._store([write])]
            self.counters["writes_failed"] += len(writes)
            reason = self._database.explain(error)
            return [Receipt(write.token, reason) for write in writes]

    def _be_patient(self, patient: bool) -> None:
        if self._patient is not patient:
            self._patient = patient
            self._database.be_patient(patient)

    def _transact(self, writes: Sequence[Sequence[Operation]], moved: tuple[int, int] | None = None) -> None:
        """Apply all of it or nothing; ``moved``: the first and the last row of the journal that this was."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._applier.apply(writes)
            if moved is not None:
                self._journal.strike(*moved)
            self._connection.execute("COMMIT")
        except BaseException:
            self._applier.forget()
            # SQLite has rolled back on its own after most errors of the disk, and says so here.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _commit(self, writes: list[_Write]) -> list[Receipt]:
        self._transact([write.operations for write in writes])
        known = self._applier.known
        self.counters["commits"] += 1
        self.counters["rows"] += sum(write.rows for write in writes)
        self.counters["tasks_known"] += sum(map(len, known.values()))
        self.counters["ends_repeated"] += self._applier.repeated_ends
        return [Receipt(write.token, None, known.get(index, ())) for index, write in enumerate(writes)]


def _rows_of(operation: Operation) -> int:
    # By exact type: this runs in the event loop once for each end, and a match statement takes four times as long.
    if type(operation) is EndTask or type(operation) is UpdateTask:
        return 1
    if isinstance(operation, NewTasks | DropTasks):
        return len(operation.tasks)
    return len(operation.records) if isinstance(operation, AppendLogs) else 1


def _size_of_all(operations: Sequence[Operation]) -> int:
    try:
        return sum(map(_size_of, operations))
    except TypeError:
        return 0  # a value of a wrong type: the commit finds it again and refuses that write


def _size_of(operation: Operation) -> int:
    if isinstance(operation, EndTask):
        return 0 if isinstance(operation.result, Blob) else len(operation.result)
    if isinstance(operation, NewTasks):
        return sum([0 if isinstance(payload, Blob) else len(payload) for _, payload in operation.tasks])
    if isinstance(operation, DescribeTask):
        return len(operation.described.text)
    return sum([len(record.text) for record in operation.records]) if isinstance(operation, AppendLogs) else 0
