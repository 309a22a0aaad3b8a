"""The tables, as numbered steps from an empty file to the present; an older file is brought forward on start.

A step that has been released is never edited: a change is a new step at the end. All missing steps run in one
transaction, so that a file is at one step or at another and never between two.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

APPLICATION_ID = 0x68656477
"""``hedw``: in the header of every database of headway's, so that a stranger's file is recognised as one."""


@dataclass(frozen=True)
class Step:
    """What leads from version ``version - 1`` to ``version``."""

    version: int
    statements: tuple[str, ...]


_FIRST = (
    # One row for all the tasks of a map. A number is never used twice, because readers remember what it stands for.
    """CREATE TABLE options (
        number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, job TEXT NOT NULL, queue TEXT NOT NULL,
        name TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX options_job ON options (job) WHERE job <> ''",
    "CREATE INDEX options_key ON options (key) WHERE key <> ''",
    # Written once and never changed. A key that counts up appends, keeps the order of submission (ids made within one
    # millisecond do not), and is an eighth of an id in every other table. A payload is a BLOB, or for one that lies in
    # a file TEXT: "hash in hex:size".
    """CREATE TABLE tasks (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, options INTEGER NOT NULL, submitted REAL NOT NULL,
        client TEXT NOT NULL, payload NOT NULL)""",
    "CREATE INDEX tasks_options ON tasks (options)",
    # What recovery reads, small whatever the history. A table of its own costs less than a mark in the task's row.
    "CREATE TABLE unfinished (number INTEGER PRIMARY KEY)",
    """CREATE TABLE retries (
        number INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, failures INTEGER NOT NULL, losses INTEGER NOT NULL,
        not_before REAL NOT NULL, story BLOB NOT NULL)""",
    """CREATE TABLE ends (
        number INTEGER PRIMARY KEY, status TEXT NOT NULL, attempt INTEGER NOT NULL, ended REAL NOT NULL,
        started REAL NOT NULL, seconds REAL NOT NULL, runtime TEXT NOT NULL, failures INTEGER NOT NULL,
        losses INTEGER NOT NULL, predicted REAL NOT NULL, expires REAL, result NOT NULL, error BLOB,
        story BLOB NOT NULL)""",
    "CREATE INDEX ends_ended ON ends (ended) WHERE expires IS NULL",
    "CREATE INDEX ends_expires ON ends (expires) WHERE expires IS NOT NULL",
    "CREATE INDEX ends_unsuccessful ON ends (status) WHERE status <> 'succeeded'",
    """CREATE TABLE logs (
        number INTEGER NOT NULL, attempt INTEGER NOT NULL, sequence INTEGER NOT NULL, stream TEXT NOT NULL,
        at REAL NOT NULL, text TEXT NOT NULL, fields BLOB, PRIMARY KEY (number, attempt, sequence)) WITHOUT ROWID""",
    "CREATE TABLE log_drops (number INTEGER PRIMARY KEY, dropped INTEGER NOT NULL)",
    "CREATE TABLE task_blobs (number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (number, hash)) WITHOUT ROWID",
    "CREATE TABLE option_blobs (number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (number, hash)) WITHOUT ROWID",
    "CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    # What belongs together changes together whoever writes, a person with the sqlite3 shell included.
    "CREATE TRIGGER task_new AFTER INSERT ON tasks BEGIN INSERT INTO unfinished VALUES (new.number); END",
    "CREATE TRIGGER task_ended AFTER INSERT ON ends BEGIN DELETE FROM unfinished WHERE number = new.number; END",
    """CREATE TRIGGER task_reopened AFTER DELETE ON ends BEGIN
        INSERT OR IGNORE INTO unfinished SELECT number FROM tasks WHERE number = old.number; END""",
    """CREATE TRIGGER task_dropped AFTER DELETE ON tasks BEGIN
        DELETE FROM unfinished WHERE number = old.number;
        DELETE FROM retries WHERE number = old.number;
        DELETE FROM ends WHERE number = old.number;
        DELETE FROM logs WHERE number = old.number;
        DELETE FROM log_drops WHERE number = old.number;
        DELETE FROM task_blobs WHERE number = old.number;
        DELETE FROM options WHERE number = old.options AND NOT EXISTS (SELECT 1 FROM tasks WHERE options = old.options);
        END""",
    """CREATE TRIGGER options_dropped AFTER DELETE ON options BEGIN
        DELETE FROM option_blobs WHERE number = old.number; END""",
)

# Whose the tasks of these options are. What was stored before there were namespaces is in the default one.
_NAMESPACES = ("ALTER TABLE options ADD COLUMN namespace TEXT NOT NULL DEFAULT ''",)

# What a task was described as later. Few are, so the table costs the others a look into an empty index.
_DESCRIPTIONS = (
    """CREATE TABLE descriptions (
        number INTEGER PRIMARY KEY, text TEXT NOT NULL, at REAL NOT NULL, story BLOB NOT NULL)""",
    """CREATE TRIGGER description_dropped AFTER DELETE ON tasks BEGIN
        DELETE FROM descriptions WHERE number = old.number; END""",
)

# Small writes that have not been moved into the tables yet: see journal.py.
_JOURNAL = ("CREATE TABLE journal (number INTEGER PRIMARY KEY, body BLOB NOT NULL)",)

# What few tasks leave: files beside the result, which stand in task_blobs as well. NULL: none.
_FILES = ("ALTER TABLE ends ADD COLUMN files BLOB",)

# From here on a value may lie in a segment: "name in hex:size:named". The tables are the same, but an earlier version
# could not read that text, and must say so when it is started and not later.
_NAMED: tuple[str, ...] = ()

STEPS: tuple[Step, ...] = (
    Step(1, _FIRST),
    Step(2, _NAMESPACES),
    Step(3, _DESCRIPTIONS),
    Step(4, _JOURNAL),
    Step(5, _FILES),
    Step(6, _NAMED),
)


def version_of(connection: sqlite3.Connection) -> int:
    """The step that the file is at; 0: nothing was made yet."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> int:
    """Bring the file to the last step; the number of steps taken. The connection must be in autocommit mode."""
    missing = [step for step in steps if step.version > version_of(connection)]
    if not missing:
        return 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in missing:
            for statement in step.statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {missing[-1].version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(missing)
