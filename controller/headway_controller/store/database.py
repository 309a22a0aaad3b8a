"""The database's files and the connections to them: what may be opened, by whom, and with which settings."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from headway_bus.errors import StoreError
from headway_controller.store import schema
from headway_controller.store.lock import FileLock
from headway_controller.store.protocol import Durability, StoreDamaged
from headway_controller.store.words import damaged, explain

MAGIC = b"SQLite format 3\0"
PAGE_BYTES = 4096
CHECKPOINT_PAGES = 4000
"""The log goes into the database after this many pages, 16 MB: a busy store shall not wait for it at every commit."""

LOG_LIMIT_BYTES = 64 * 1024 * 1024
CACHE_KIBIBYTES = 64 * 1024
STATEMENTS = 256

# Bytes as they are. Without this the driver looks for an adapter at every value, by way of an error that it makes and drops:
# half of what binding one costs.
sqlite3.register_adapter(bytes, bytes)


class Database:
    """One writing connection and as many reading ones as there are readers at the same time.

    A database in memory has a single connection, and readers wait for the writer's transaction to end: connections that
    share a cache would see half of a transaction or be refused while one is open.
    """

    def __init__(
        self,
        path: Path | None,
        durability: Durability,
        lock_timeout: float = 5.0,
        steps: Sequence[schema.Step] = schema.STEPS,
    ) -> None:
        """``lock_timeout``: seconds that a write waits for another program's transaction."""
        self.path = None if durability is Durability.MEMORY else path
        self.writing = threading.RLock()
        self.damage: StoreDamaged | None = None
        """Set for good when damage is met: from then on nothing is written, not even the log into the database."""

        self._durability = durability
        self._lock_timeout = lock_timeout
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._closed = False
        self._lock: FileLock | None = None
        try:
            if self.path:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # arguments and results are private
                self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
                refuse_fragments(self.path)
            self.writer = self._connect_writer(steps)
        except BaseException as error:
            if self._lock:
                self._lock.release()
            if isinstance(error, sqlite3.Error | OSError):
                raise explain(error, self.path) from error
            raise

    def _connect_writer(self, steps: Sequence[schema.Step]) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path or ":memory:",
            timeout=self._lock_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
        try:
            refuse_strangers(connection, self.path, steps[-1].version)
            synchronous = {Durability.FULL: "FULL", Durability.NORMAL: "NORMAL", Durability.MEMORY: "OFF"}[
                self._durability
            ]
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = " + ("WAL" if self.path else "MEMORY"))
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
            schema.migrate(connection, steps)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading, on which everything is seen as at the first look."""
        if self._closed:
            raise StoreError("the store is closed: the controller is stopping")
        if self.path is None:
            with self.writing, self._in_words():
                yield self.writer
            return
        with self._in_words():
            try:
                connection = self._readers.get_nowait()
            except queue.Empty:
                connection = open_for_reading(self.path, self._lock_timeout)
            try:
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    connection.execute("ROLLBACK")
            except BaseException:
                connection.close()
                raise
            self._readers.put(connection)
            if self._closed:
                self._close_readers()

    @property
    def flushes(self) -> bool:
        """Whether a commit waits for the disk."""
        return self._durability is Durability.FULL

    def be_patient(self, patient: bool) -> None:
        """Whether the next writes may wait: for another program's transaction, and for the log to go into the database."""
        timeout, pages = (int(1000 * self._lock_timeout), CHECKPOINT_PAGES) if patient else (0, 0)
        self.writer.execute(f"PRAGMA busy_timeout = {timeout}")
        self.writer.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def close(self) -> None:
        """Close every connection, a reader's when it has finished; the log goes into the database. Nobody may be writing."""
        self._closed = True
        if self.damage and self.path:
            # The last connection to close moves the log into the database, unless it may not write.
            with suppress(sqlite3.Error):
                self._readers.put(open_for_reading(self.path))
            self.writer.close()
        self._close_readers()
        with self.writing:
            self.writer.close()
        if self._lock:
            self._lock.release()

    def _close_readers(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()

    def explain(self, error: BaseException) -> StoreError:
        """The error in words. Damage is remembered."""
        reason = explain(error, self.path)
        if isinstance(reason, StoreDamaged):
            self.damage = reason
        return reason

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self.explain(error) from error


def open_for_reading(path: Path, timeout: float = 5.0) -> sqlite3.Connection:
    """A connection that cannot change anything."""
    connection = sqlite3.connect(
        path.absolute().as_uri() + "?mode=ro", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = 1")
    return connection


def refuse_fragments(path: Path) -> None:
    """Raise StoreDamaged for files that SQLite would treat as a new database, and what they hold as rubbish.

    SQLite deletes a write-ahead log whose database is empty or missing. A new database gets its first page before it
    gets a log, so a log without it is what somebody's accident has left, and may hold every task.
    """
    log = path.with_name(path.name + "-wal")
    size = path.stat().st_size if path.exists() else 0
    if size == 0 and log.exists() and log.stat().st_size > 0:
        raise damaged(path, f"{'empty' if path.exists() else 'missing'}, while its log {log.name} is there")
    if size:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise StoreDamaged(
                    f"{path} is not a database: its first bytes are not those of SQLite. It was left as it is."
                    " Move it away, or choose another --state folder"
                )


def refuse_strangers(connection: sqlite3.Connection, path: Path | None, newest: int) -> None:
    """Raise StoreDamaged for a database that is not headway's, or of a schema later than ``newest``. Writes nothing."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = schema.version_of(connection)
    if application != schema.APPLICATION_ID and (tables or application or version):
        raise StoreDamaged(
            f"{path} is a database of another program (application id {application:#x}). It was left as it is."
            " Choose another --state folder"
        )
    if version > newest:
        raise StoreDamaged(
            f"{path} was written by a newer headway (schema {version}; this one knows schemas up to {newest}). It was"
            " left as it is. Start the newer version, or choose another --state folder"
        )
