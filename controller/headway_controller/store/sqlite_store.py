"""The embedded store: SQLite in a file, or in memory, behind the protocol."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId
from headway_bus.records import Status
from headway_controller.store import health, reads, schema
from headway_controller.store.blobs import BlobFolder
from headway_controller.store.database import Database
from headway_controller.store.protocol import (
    Durability,
    Health,
    JobCount,
    LogSlice,
    Operation,
    Receipt,
    StoredTask,
    TaskFilter,
)
from headway_controller.store.sealing import Sealer
from headway_controller.store.writer import Writer


class SqliteStore:
    """See :class:`headway_controller.store.protocol.Store` for what each method promises."""

    def __init__(
        self,
        path: Path | None,
        on_stored: Callable[[list[Receipt]], None],
        durability: Durability = Durability.NORMAL,
        lock_timeout: float = 5.0,
        steps: Sequence[schema.Step] = schema.STEPS,
    ) -> None:
        """Open the database at ``path``, or make it; ``path`` does not matter in memory mode.

        ``on_stored``: called in the writer's thread, once for each commit. ``lock_timeout``: seconds that a commit
        waits for another program's transaction. Raises StoreHeld, StoreDamaged, StoreError.
        """
        self.path = path if durability is not Durability.MEMORY else None
        self._database = Database(self.path, durability, lock_timeout, steps)
        folder = health.blob_folder_of(self.path) if self.path else None
        self.blobs = BlobFolder(folder, flush=durability is Durability.FULL)
        try:
            self._sealer = Sealer(self.path.parent if self.path else None)
            self._writer = Writer(self._database, on_stored, self.blobs if self.path else None, self._sealer)
        except Exception as error:
            reason = self._database.explain(error)
            self._database.close()
            self.blobs.close()
            raise reason from error
        self._reader = reads.Reader(self._sealer)
        self._sweeping = threading.Lock()

    @property
    def backlog(self) -> int:
        return self._writer.backlog

    def write(self, operations: Sequence[Operation], token: object = None) -> None:
        self._writer.write(operations, token)

    def write_at_once(self, operations: Sequence[Operation], token: object = None) -> Receipt | None:
        return self._writer.write_at_once(operations, token)

    def counters(self) -> dict[str, int]:
        return {**self._writer.counters, "secrets_unreadable": self._sealer.unreadable}

    def load_unfinished(self, page: int = 5000) -> Iterator[list[StoredTask]]:
        number = 0
        while True:
            with self._reading(None) as connection:
                tasks = self._reader.unfinished_after(connection, number, page)
            if not tasks:
                return
            yield tasks
            number = tasks[-1].number

    def find(self, tasks: Sequence[TaskId]) -> list[StoredTask]:
        with self._reading(tasks) as connection:
            return self._reader.find(connection, tasks)

    def find_statuses(self, tasks: Sequence[TaskId]) -> dict[TaskId, Status | None]:
        with self._reading(tasks) as connection:
            return reads.find_statuses(connection, tasks)

    def find_namespaces(self, tasks: Sequence[TaskId]) -> dict[TaskId, str]:
        with self._reading(tasks) as connection:
            return reads.find_namespaces(connection, tasks)

    def find_page(self, which: TaskFilter, limit: int = 100, before: TaskId | bytes = b"") -> list[StoredTask]:
        with self._reading() as connection:
            return self._reader.find_page(connection, which, limit, before)

    def find_by_prefix(self, text: str, limit: int = 10) -> list[TaskId]:
        with self._reading() as connection:
            return reads.find_by_prefix(connection, text, limit)

    def find_by_key(self, key: str, limit: int = 10) -> list[TaskId]:
        with self._reading() as connection:
            return reads.find_by_key(connection, key, limit)

    def logs(self, task: TaskId, attempt: int = 0, after: int = 0, limit: int = 1000) -> LogSlice:
        with self._reading((task,)) as connection:
            return reads.logs(connection, task, attempt, after, limit)

    def job_counts(self, job: str = "", namespaces: tuple[str, ...] | None = None) -> list[JobCount]:
        with self._reading() as connection:
            return reads.job_counts(connection, job, namespaces)

    def counts(self, namespaces: tuple[str, ...] | None = None) -> dict[str, int]:
        with self._reading() as connection:
            return reads.counts(connection, namespaces)

    def find_expired(self, now: float, retention: float, limit: int = 10_000) -> list[TaskId]:
        with self._reading() as connection:
            return reads.find_expired(connection, now, retention, limit)

    def load_state(self, key: str) -> bytes | None:
        with self._reading() as connection:
            return reads.load_state(connection, key)

    def sweep_blobs(self, before: float) -> int:
        with self._sweeping:
            with self._reading() as connection:
                keep = reads.referenced_blobs(connection)
            return self.blobs.sweep(keep, before)

    def backup(self, path: Path) -> None:
        # A blob whose task is purged during the backup is in the copied database, so it must not be swept meanwhile.
        with self._sweeping, self._reading(None) as connection:
            health.backup(connection, path, self.blobs)

    def check(self) -> Health:
        try:
            with self._reading() as connection:
                return health.check(connection, self.path, self.blobs)
        except StoreError as error:
            return Health(False, [str(error)])

    @contextmanager
    def _reading(self, tasks: Sequence[TaskId] | None = ()) -> Iterator[sqlite3.Connection]:
        """``tasks``: about which it must not miss anything that was stored, None: about any. What it shows of others may be a
        moment old where the disk takes nothing."""
        self._writer.settle(tasks)
        with self._database.reading() as connection:
            yield connection

    def close(self) -> None:
        self._writer.close()
        self._database.close()
        self.blobs.close()
