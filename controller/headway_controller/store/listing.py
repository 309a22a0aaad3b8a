"""Which tasks a listing shows: a filter into SQL that stays quick however long the history is.

SQLite has no statistics to choose by, so the order of the tables is written down here: the one that leaves the fewest
rows goes first, and CROSS JOIN keeps it there. Only a rare queue, name or runtime in a long history means a long walk.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from headway_bus.ids import TaskId
from headway_bus.records import Status
from headway_controller.store.protocol import TaskFilter

_BY_OPTIONS = "options CROSS JOIN tasks ON tasks.options = options.number LEFT JOIN ends ON ends.number = tasks.number"
_BY_UNFINISHED = (
    "unfinished CROSS JOIN tasks ON tasks.number = unfinished.number LEFT JOIN ends ON ends.number = tasks.number"
)
_BY_ENDS = "ends CROSS JOIN tasks ON tasks.number = ends.number"
_BY_TASKS = "tasks LEFT JOIN ends ON ends.number = tasks.number"
_OPTIONS = " CROSS JOIN options ON options.number = tasks.options"


def selection(which: TaskFilter, below: int | None) -> tuple[str, list[Any]]:
    """A SELECT of task numbers, newest first, all of them less than ``below``, and the values for its marks."""
    conditions, values = _conditions(which)
    if below is not None:
        conditions.append("tasks.number < ?")
        values.append(below)
    where = " AND ".join(conditions) or "true"
    return f"SELECT tasks.number FROM {_tables(which)} WHERE {where} ORDER BY tasks.number DESC", values


def number_of(connection: sqlite3.Connection, task: bytes) -> int | None:
    """The task's number in the order of submission, or None."""
    row = connection.execute("SELECT number FROM tasks WHERE id = ?", (task,)).fetchone()
    return None if row is None else int(row[0])


def number_before(connection: sqlite3.Connection, task: TaskId | bytes) -> int:
    """Where a page ends whose last task was this. If it was purged since: where the next older id stands."""
    exact = number_of(connection, task)
    if exact is not None:
        return exact
    row = connection.execute("SELECT number FROM tasks WHERE id < ? ORDER BY id DESC LIMIT 1", (task,)).fetchone()
    return 0 if row is None else int(row[0]) + 1


def _conditions(which: TaskFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for condition, value in (
        # An empty job is not in the index, and SQLite uses it only where it sees that none is asked for.
        ("options.job <> '' AND options.job = ?", which.job),
        ("options.queue = ?", which.queue),
        ("options.name GLOB ?", which.name),
        ("ends.runtime = ?", which.runtime),
    ):
        if value:
            conditions.append(condition)
            values.append(value)
    if which.namespaces is not None:
        conditions.append(in_namespaces(which.namespaces))
        values += which.namespaces
    wanted = []
    if which.ends:
        wanted.append("ends.status IN (" + ",".join(f"'{status.value}'" for status in sorted(which.ends)) + ")")
    if which.unfinished:
        wanted.append("ends.number IS NULL")
    if wanted:
        conditions.append("(" + " OR ".join(wanted) + ")")
    if _is_rare(which):
        conditions.append("ends.status <> 'succeeded'")  # word for word the condition of the index
    return conditions, values


def _tables(which: TaskFilter) -> str:
    if which.job:
        return _BY_OPTIONS
    options = _OPTIONS if which.queue or which.name or which.namespaces is not None else ""
    if which.unfinished and not which.ends:
        return _BY_UNFINISHED + options
    return (_BY_ENDS if _is_rare(which) else _BY_TASKS) + options


def in_namespaces(namespaces: tuple[str, ...]) -> str:
    """The condition that a task's options are of one of these, which are the values of its marks."""
    return f"options.namespace IN ({','.join('?' * len(namespaces))})"


def _is_rare(which: TaskFilter) -> bool:
    return bool(which.ends) and not which.unfinished and Status.SUCCEEDED not in which.ends
