"""The spool: one SQLite file on the agent's disk, written with fsync, and never overwritten when it is damaged.

::

    SPOOL/
        spool.db          what was assigned, what is to be reported, who the agent is
        blobs/            large values, by hash: inputs kept for the next time, results until they are delivered
        own/              folders of resumable tasks, kept over a restart
        files/            what ``headway edge push`` has brought
        attempts/, lock, instance    as of any runtime

Changes are gathered and written by ``commit`` in one transaction. If the disk takes nothing, they are kept, the agent is told
with :class:`SpoolError`, and the next commit tries all of them again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from headway_bus.errors import BusError
from headway_bus.ids import AttemptKey, TaskId
from headway_bus.messages import Report
from headway_bus.records import Blob, Ended, Options
from headway_edge.ledger import StoredAttempt, StoredReport

FILE = "spool.db"
APPLICATION = 0x68776564
"""SQLite's application_id of a spool."""

VERSION = 1
IDENTITY_BYTES = 8
BUSY_SECONDS = 5.0
INCREMENTAL = 2
"""What PRAGMA auto_vacuum says of a file that gives room back bit by bit."""

TIDY_PAGES = 256
"""Given back at a time."""

_TABLES = """
CREATE TABLE notes (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE attempts (
    place INTEGER PRIMARY KEY, task BLOB NOT NULL, number INTEGER NOT NULL, options BLOB NOT NULL, payload BLOB NOT NULL,
    is_blob INTEGER NOT NULL, gpus BLOB NOT NULL, starts INTEGER NOT NULL, outcome BLOB, UNIQUE (task, number));
CREATE TABLE reports (
    number INTEGER PRIMARY KEY, report BLOB NOT NULL, frames BLOB NOT NULL, made REAL NOT NULL, is_logs INTEGER NOT NULL);
"""

_encode = msgspec.msgpack.encode
_report = msgspec.msgpack.Decoder(Report).decode
_options = msgspec.msgpack.Decoder(Options).decode
_ended = msgspec.msgpack.Decoder(Ended).decode
_blob = msgspec.msgpack.Decoder(Blob).decode
_frames = msgspec.msgpack.Decoder(list[bytes]).decode
_gpus = msgspec.msgpack.Decoder(list[int]).decode

Write = tuple[str, tuple[Any, ...]]


class SpoolError(BusError):
    """The spool's disk takes nothing now. What was to be written is kept and tried again."""


class Spool:
    """The spool in a folder. ``open`` it before anything else; only one process may."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.identity = b""
        """8 bytes, made with the spool: by them the controller knows that an agent that was started anew has not forgotten."""

        self._connection: sqlite3.Connection | None = None
        self._writes: list[Write] = []
        self._fresh: dict[int, StoredReport] = {}
        self._notes: dict[str, bytes] = {}
        self._is_failing = False
        self._is_urgent = False

    # -------------------------------------------------------------------------------------- opening

    def open(self, name: str) -> None:
        """Open it, or make it. Raises BusError if it is damaged (then it was set aside), another agent's, or a newer one's."""
        try:
            self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
            is_new = self._is_new()
            if is_new:  # before anything makes the file: then it is too late
                self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            if is_new:
                self._make(name)
            self._check(name)
            self._learn_to_shrink()
        except sqlite3.DatabaseError as error:
            self._disconnect()
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise BusError(
                    f"the spool {self.path} cannot be opened: {error}; is its disk full or read-only?"
                ) from None
            raise self.set_aside(" ".join(str(error).split())) from None

    def _is_new(self) -> bool:
        """Whether there is nothing in the file: it was made just now, or its maker did not live to fill it."""
        connection = self._connected()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return not application and not objects

    def _make(self, name: str) -> None:
        connection = self._connected()
        self.path.chmod(0o600)
        # In one transaction: a spool with tables and without an identity would be taken for a damaged one.
        connection.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
        )
        notes = [("identity", os.urandom(IDENTITY_BYTES)), ("name", name.encode())]
        connection.executemany("INSERT INTO notes (name, value) VALUES (?,?)", notes)
        connection.execute("COMMIT")

    def _check(self, name: str) -> None:
        connection = self._connected()
        faults = [row[0] for row in connection.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
        if faults:
            raise sqlite3.DatabaseError("; ".join(faults))
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise sqlite3.DatabaseError("it is not a spool of headway")
        if version > VERSION:
            self._disconnect()
            text = f"the spool {self.path} was written by a newer headway (form {version}, this one knows {VERSION})"
            raise BusError(f"{text}: upgrade this agent (pip install -U headway)")
        self._notes = dict(connection.execute("SELECT name, value FROM notes"))
        self.identity = self.noted("identity")
        if len(self.identity) != IDENTITY_BYTES:
            raise sqlite3.DatabaseError("it has no identity")
        owner = self.noted("name").decode()
        if owner != name:
            self._disconnect()
            text = f"the spool {self.path} is that of the edge {owner!r}, and this agent is called {name!r}"
            raise BusError(f"{text}; start it with --name {owner}, or give it another --spool FOLDER")

    def _learn_to_shrink(self) -> None:
        """A spool of an earlier release never gave room back. Written anew once it does; without room for that, next time."""
        connection = self._connected()
        (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        if mode != INCREMENTAL:
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("VACUUM")

    def set_aside(self, why: str) -> BusError:
        """Put a damaged spool where nothing overwrites it. Returns what to tell the operator."""
        self._disconnect()
        number = 1
        while (aside := self.path.with_name(f"{FILE}.damaged-{number}")).exists():
            number += 1
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                self.path.with_name(FILE + suffix).rename(aside.with_name(aside.name + suffix))
        return BusError(
            f"the spool {self.path} is damaged: {why}. It was set aside as {aside.name}, nothing in it was changed. "
            "Start the agent again: it begins with an empty spool, and what it held is given out anew by the controller"
        )

    def _connected(self) -> sqlite3.Connection:
        assert self._connection is not None, "the spool is not open"
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Write what is left and let go of the file."""
        if self._connection is not None:
            with suppress(SpoolError):
                self.commit()
        self._disconnect()

    # -------------------------------------------------------------------------------------- writing

    @property
    def is_failing(self) -> bool:
        """Whether the last commit did not succeed."""
        return self._is_failing

    @property
    def is_urgent(self) -> bool:
        """Whether something is to be written before anybody may see what it led to. The rest can wait for company."""
        return self._is_urgent

    def commit(self) -> None:
        """Write all changes, with fsync. Raises SpoolError, and keeps them, if the disk does not take them."""
        if not self._writes:
            return
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in self._writes:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._is_failing = True
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise SpoolError(f"the spool {self.path} cannot be written: {error}; free some room on its disk") from None
        self._is_failing = self._is_urgent = False
        self._writes.clear()
        self._fresh.clear()

    def _write(self, statement: str, *values: Any, urgent: bool = True) -> None:
        self._writes.append((statement, values))
        self._is_urgent = self._is_urgent or urgent

    def add_attempt(self, attempt: StoredAttempt) -> None:
        payload, is_blob = attempt.payload, isinstance(attempt.payload, Blob)
        data = _encode(payload) if is_blob else bytes(payload)  # type: ignore[arg-type]
        self._write(
            "INSERT OR REPLACE INTO attempts (task, number, options, payload, is_blob, gpus, starts) VALUES (?,?,?,?,?,?,?)",
            *attempt.key,
            _encode(attempt.options),
            data,
            is_blob,
            _encode(attempt.gpus),
            attempt.starts,
        )

    def note_start(self, key: AttemptKey) -> None:
        self._write("UPDATE attempts SET starts = starts + 1 WHERE task = ? AND number = ?", *key)

    def note_outcome(self, key: AttemptKey, outcome: Ended) -> None:
        self._write("UPDATE attempts SET outcome = ? WHERE task = ? AND number = ?", _encode(outcome), *key)

    def remove_attempt(self, key: AttemptKey) -> None:
        self._write("DELETE FROM attempts WHERE task = ? AND number = ?", *key, urgent=False)

    def add_report(self, report: StoredReport) -> None:
        self._fresh[report.number] = report
        self._write(
            "INSERT INTO reports (number, report, frames, made, is_logs) VALUES (?,?,?,?,?)",
            report.number,
            _encode(report.report),
            _encode([bytes(frame) for frame in report.frames]),
            report.made,
            report.is_logs,
        )

    def remove_reports(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._fresh.pop(number, None)
            self._write("DELETE FROM reports WHERE number = ?", number, urgent=False)

    def note(self, name: str, value: bytes) -> None:
        self._notes[name] = value
        self._write("INSERT OR REPLACE INTO notes (name, value) VALUES (?,?)", name, value, urgent=False)

    # -------------------------------------------------------------------------------------- reading

    def noted(self, name: str) -> bytes:
        return self._notes.get(name, b"")

    def report(self, number: int) -> StoredReport:
        """Raises KeyError for a report that is not there."""
        if number in self._fresh:
            return self._fresh[number]
        row = self._connected().execute("SELECT * FROM reports WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise KeyError(number)
        return _report_of(row)

    def reports(self) -> Iterator[StoredReport]:
        """Those on disk, in order. Without their frames: together they may be larger than the memory."""
        columns = "number, report, length(frames), made, is_logs"
        rows = self._connected().execute(f"SELECT {columns} FROM reports ORDER BY number")
        for number, report, frame_bytes, made, is_logs in rows:
            yield StoredReport(number, _report(report), [], made, bool(is_logs), frame_bytes)

    def attempts(self) -> list[StoredAttempt]:
        """Those on disk, in the order in which they came."""
        rows = self._connected().execute(
            "SELECT task, number, options, payload, is_blob, gpus, starts, outcome FROM attempts ORDER BY place"
        )
        return [
            StoredAttempt(
                (TaskId(task), number),
                _options(options),
                _blob(payload) if is_blob else payload,
                _gpus(gpus),
                starts,
                _ended(outcome) if outcome is not None else None,
            )
            for task, number, options, payload, is_blob, gpus, starts, outcome in rows
        ]

    def size(self) -> int:
        """Bytes that the spool's file occupies, its log included."""
        return sum(_size_of(self.path.with_name(FILE + suffix)) for suffix in ("", "-wal"))

    def tidy(self) -> None:
        """Give room that is free within the file back to the disk."""
        with suppress(sqlite3.Error):
            # As a script: a single statement is run up to its first row, and each row of this one is one page.
            self._connected().executescript(f"PRAGMA incremental_vacuum({TIDY_PAGES})")


def _report_of(row: tuple[int, bytes, bytes, float, int]) -> StoredReport:
    number, report, frames, made, is_logs = row
    return StoredReport(number, _report(report), list(_frames(frames)), made, bool(is_logs))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
