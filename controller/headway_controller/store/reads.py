"""What is read back. Each function takes a connection on which everything is seen as at one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from headway_bus.ids import (
    ID_BYTES,
    RANDOM_BYTES,
    RANDOM_CHARACTERS,
    TEXT_CHARACTERS,
    TIME_BYTES,
    TaskId,
    is_id_prefix,
    parse_task_id,
    text_of,
)
from headway_bus.records import Blob, ErrorInfo, File, LogRecord, Options, Status
from headway_controller.store.listing import in_namespaces, number_before, number_of, selection
from headway_controller.store.protocol import (
    UNFINISHED,
    Described,
    JobCount,
    LogSlice,
    StoredEnd,
    StoredTask,
    StoredValue,
    TaskFilter,
)
from headway_controller.store.sealing import Sealer

MAX_REMEMBERED = 10_000

_decode_options = msgspec.msgpack.Decoder(Options).decode
_decode_error = msgspec.msgpack.Decoder(ErrorInfo).decode
_decode_files = msgspec.msgpack.Decoder(list[File]).decode
_decode_fields = msgspec.msgpack.Decoder(dict[str, Any]).decode
_STATUSES: Final = {status.value: status for status in Status}

_COLUMNS = """tasks.number, tasks.id, tasks.options, tasks.submitted, tasks.client, {payload},
    retries.attempt, retries.failures, retries.losses, retries.not_before, retries.story,
    ends.status, ends.attempt, ends.ended, ends.started, ends.seconds, ends.runtime, ends.failures, ends.losses,
    ends.predicted, ends.expires, ends.error, ends.story, {result}, {size}, ends.files,
    descriptions.text, descriptions.at, descriptions.story"""
_DESCRIBED = "LEFT JOIN descriptions ON descriptions.number = tasks.number"
_JOINS = "LEFT JOIN retries ON retries.number = tasks.number LEFT JOIN ends ON ends.number = tasks.number " + _DESCRIBED
_SIZE = (
    "CASE typeof(ends.result) WHEN 'text' THEN CAST(substr(ends.result, instr(ends.result, ':') + 1) AS INTEGER)"
    " ELSE length(ends.result) END"
)
_FULL = f"SELECT {_COLUMNS.format(payload='tasks.payload', result='ends.result', size=_SIZE)} "
_BRIEF = "SELECT " + _COLUMNS.format(payload="x''", result="x''", size=_SIZE) + " "
_UNFINISHED_PAGE = (
    "SELECT tasks.number, tasks.id, tasks.options, tasks.submitted, tasks.client, tasks.payload, retries.attempt,"
    " retries.failures, retries.losses, retries.not_before, retries.story,"
    " descriptions.text, descriptions.at, descriptions.story FROM unfinished"
    " CROSS JOIN tasks ON tasks.number = unfinished.number LEFT JOIN retries ON retries.number = tasks.number "
    f"{_DESCRIBED}"
    " WHERE unfinished.number > ? ORDER BY unfinished.number LIMIT ?"
)


class Reader:
    """Builds records from rows. Options are decoded once and shared by all tasks that have them."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._options: dict[int, Options] = {}

    def unfinished_after(self, connection: sqlite3.Connection, number: int, limit: int) -> list[StoredTask]:
        """Tasks without an end behind ``number``, in the order of submission."""
        rows = connection.execute(_UNFINISHED_PAGE, (number, limit)).fetchall()
        options = self._options_of(connection, rows)
        return [
            StoredTask(
                at,
                TaskId(task),
                options[kind],
                submitted,
                client,
                self._payload_of(TaskId(task), options[kind], payload),
                attempt or 0,
                failures or 0,
                losses or 0,
                not_before or 0.0,
                story or b"",
                None,
                _described(*described),
            )
            for at, task, kind, submitted, client, payload, attempt, failures, losses, not_before, story, *described in rows
        ]

    def find(self, connection: sqlite3.Connection, tasks: Sequence[TaskId]) -> list[StoredTask]:
        """The tasks that are there, with everything."""
        found: list[StoredTask] = []
        for start in range(0, len(tasks), _MAX_WANTED):
            wanted = tasks[start : start + _MAX_WANTED]
            marks = ",".join("?" * len(wanted))
            query = f"{_FULL} FROM tasks {_JOINS} WHERE tasks.id IN ({marks})"
            found += self._tasks_of(connection, connection.execute(query, wanted).fetchall())
        return found

    def find_page(
        self, connection: sqlite3.Connection, which: TaskFilter, limit: int, before: TaskId | bytes
    ) -> list[StoredTask]:
        """Tasks newest first, without payloads and results."""
        numbers, values = selection(which, number_before(connection, before) if before else None)
        query = f"{_BRIEF} FROM tasks {_JOINS} WHERE tasks.number IN ({numbers} LIMIT ?) ORDER BY tasks.number DESC"
        return self._tasks_of(connection, connection.execute(query, (*values, limit)).fetchall())

    def _tasks_of(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[StoredTask]:
        options = self._options_of(connection, rows)
        return [
            _task_of(row, options[row[2]], self._payload_of(TaskId(row[1]), options[row[2]], row[5])) for row in rows
        ]

    def _payload_of(self, task: TaskId, options: Options, stored: bytes | str) -> StoredValue:
        value = _value_of(stored)
        return self._sealer.open(task, value) if options.secret and isinstance(value, bytes) else value

    def _options_of(self, connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> dict[int, Options]:
        """The options that the rows refer to by their third column."""
        wanted = {row[2] for row in rows}
        known = self._options
        missing = [number for number in wanted if number not in known]
        if not missing:
            return known
        if len(known) + len(missing) > MAX_REMEMBERED:
            known = self._options = {}
            missing = list(wanted)
        for start in range(0, len(missing), _MAX_WANTED):
            part = missing[start : start + _MAX_WANTED]
            query = f"SELECT number, body FROM options WHERE number IN ({','.join('?' * len(part))})"
            known.update((number, _decode_options(body)) for number, body in connection.execute(query, part))
        return known


_MAX_WANTED = 1000


def find_statuses(connection: sqlite3.Connection, tasks: Sequence[TaskId]) -> dict[TaskId, Status | None]:
    """The ends of the tasks that are there; None for those that have not ended."""
    found: dict[TaskId, Status | None] = {}
    for start in range(0, len(tasks), _MAX_WANTED):
        wanted = tasks[start : start + _MAX_WANTED]
        rows = connection.execute(
            "SELECT tasks.id, ends.status FROM tasks LEFT JOIN ends ON ends.number = tasks.number"
            f" WHERE tasks.id IN ({','.join('?' * len(wanted))})",
            wanted,
        )
        found.update((TaskId(task), None if status is None else _STATUSES[status]) for task, status in rows)
    return found


def find_namespaces(connection: sqlite3.Connection, tasks: Sequence[TaskId]) -> dict[TaskId, str]:
    """Whose the tasks are that are there."""
    found: dict[TaskId, str] = {}
    for start in range(0, len(tasks), _MAX_WANTED):
        wanted = tasks[start : start + _MAX_WANTED]
        rows = connection.execute(
            "SELECT tasks.id, options.namespace FROM tasks CROSS JOIN options ON options.number = tasks.options"
            f" WHERE tasks.id IN ({','.join('?' * len(wanted))})",
            wanted,
        )
        found.update((TaskId(task), namespace) for task, namespace in rows)
    return found


def find_by_prefix(connection: sqlite3.Connection, text: str, limit: int) -> list[TaskId]:
    """Ids whose text begins with ``text``, newest first: a pass over the index of ids, unless the text is whole."""
    if not is_id_prefix(text):
        return []
    if len(text) == TEXT_CHARACTERS:
        try:
            task = parse_task_id(text)
        except ValueError:
            return []
        return [TaskId(row[0]) for row in connection.execute("SELECT id FROM tasks WHERE id = ?", (task,))]
    lowest, highest = _random_range(text[:RANDOM_CHARACTERS])
    begin = TIME_BYTES + 1
    rows = connection.execute(
        f"SELECT id FROM tasks INDEXED BY sqlite_autoindex_tasks_1 WHERE substr(id, {begin}) BETWEEN ? AND ?"
        " ORDER BY id DESC LIMIT ?",
        (lowest, highest, limit if len(text) <= RANDOM_CHARACTERS else -1),
    )
    canonical = text.lower().translate(_LOOKALIKES)
    return [TaskId(row[0]) for row in rows if text_of(row[0]).startswith(canonical)][:limit]


def find_by_key(connection: sqlite3.Connection, key: str, limit: int) -> list[TaskId]:
    """Tasks whose options carry that key, newest first."""
    rows = connection.execute(
        "SELECT tasks.id FROM options CROSS JOIN tasks ON tasks.options = options.number"
        " WHERE options.key = ? AND options.key <> '' ORDER BY tasks.number DESC LIMIT ?",
        (key, limit),
    )
    return [TaskId(row[0]) for row in rows]


def logs(connection: sqlite3.Connection, task: TaskId, attempt: int, after: int, limit: int) -> LogSlice:
    """Records in order of attempt and sequence."""
    number = number_of(connection, task)
    if number is None:
        return LogSlice([], 0)
    rows = connection.execute(
        "SELECT attempt, sequence, stream, at, text, fields FROM logs WHERE number = ?1 AND (?2 = 0 OR attempt = ?2)"
        " ORDER BY attempt, sequence LIMIT ?3 OFFSET ?4",
        (number, attempt, limit, after),
    )
    records = [
        LogRecord(task, of_attempt, sequence, stream, at, text, _decode_fields(fields) if fields else {})
        for of_attempt, sequence, stream, at, text, fields in rows
    ]
    dropped = connection.execute("SELECT dropped FROM log_drops WHERE number = ?", (number,)).fetchone()
    return LogSlice(records, dropped[0] if dropped else 0)


def job_counts(connection: sqlite3.Connection, job: str, namespaces: tuple[str, ...] | None = None) -> list[JobCount]:
    """The tasks of one job, or of every job, by end."""
    within = f" AND {in_namespaces(namespaces)}" if namespaces is not None else ""
    rows = connection.execute(
        f"""SELECT options.job, coalesce(ends.status, '{UNFINISHED}'), count(*), min(tasks.submitted), max(ends.ended)
        FROM options CROSS JOIN tasks ON tasks.options = options.number LEFT JOIN ends ON ends.number = tasks.number
        WHERE options.job <> '' AND {"options.job = ?" if job else "true"}{within} GROUP BY 1, 2 ORDER BY 1""",
        ((job,) if job else ()) + (namespaces or ()),
    )
    jobs: dict[str, list[tuple[str, int, float, float | None]]] = {}
    for name, *part in rows:
        jobs.setdefault(name, []).append((part[0], part[1], part[2], part[3]))
    return [
        JobCount(
            name, {status: n for status, n, _, _ in parts}, min(p[2] for p in parts), max(p[3] or 0.0 for p in parts)
        )
        for name, parts in jobs.items()
    ]


def counts(connection: sqlite3.Connection, namespaces: tuple[str, ...] | None = None) -> dict[str, int]:
    """All tasks by end, and those without."""
    if namespaces is not None:
        rows = connection.execute(
            f"""SELECT coalesce(ends.status, '{UNFINISHED}'), count(*) FROM options
            CROSS JOIN tasks ON tasks.options = options.number LEFT JOIN ends ON ends.number = tasks.number
            WHERE {in_namespaces(namespaces)} GROUP BY 1""",
            namespaces,
        )
        return {UNFINISHED: 0, **dict(rows.fetchall())}
    found = {UNFINISHED: int(connection.execute("SELECT count(*) FROM unfinished").fetchone()[0])}
    found.update(connection.execute("SELECT status, count(*) FROM ends GROUP BY status").fetchall())
    return found


def find_expired(connection: sqlite3.Connection, now: float, retention: float, limit: int) -> list[TaskId]:
    """Ended tasks whose time is over, those that ended first in front."""
    rows = connection.execute(
        """SELECT tasks.id FROM (
            SELECT * FROM (
                SELECT number FROM ends WHERE expires IS NOT NULL AND expires <= ?1 ORDER BY expires LIMIT ?3)
            UNION ALL SELECT * FROM (
                SELECT number FROM ends WHERE expires IS NULL AND ended <= ?2 ORDER BY ended LIMIT ?3)
        ) AS old CROSS JOIN tasks ON tasks.number = old.number LIMIT ?3""",
        (now, now - retention, limit),
    )
    return [TaskId(row[0]) for row in rows]


def load_state(connection: sqlite3.Connection, key: str) -> bytes | None:
    """The value of that name."""
    row = connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def referenced_blobs(connection: sqlite3.Connection) -> set[bytes]:
    """The hashes of every blob that a task, a result or a script's files need."""
    return {row[0] for row in connection.execute("SELECT hash FROM task_blobs UNION SELECT hash FROM option_blobs")}


def _task_of(row: tuple[Any, ...], options: Options, value: StoredValue) -> StoredTask:
    number, task, _, submitted, client, _, attempt, failures, losses, not_before, story = row[:11]
    end = None
    if row[11] is not None:
        status, attempt, ended, started, seconds, runtime, failures, losses, predicted, expires, error, story = row[
            11:23
        ]
        not_before = 0.0
        files = _decode_files(row[25]) if row[25] is not None else []
        end = StoredEnd(
            _STATUSES[status],
            attempt,
            ended,
            started,
            seconds,
            runtime,
            predicted,
            expires,
            None if error is None else _decode_error(error),
            _value_of(row[23]),
            row[24] + sum(file.content.size for file in files),
            files,
        )
    return StoredTask(
        number,
        TaskId(task),
        options,
        submitted,
        client,
        value,
        attempt or 0,
        failures or 0,
        losses or 0,
        not_before or 0.0,
        story or b"",
        end,
        _described(*row[26:29]),
    )


def _described(text: str | None, at: float, story: bytes) -> Described | None:
    return None if text is None else Described(text, at, story)


def _value_of(stored: bytes | str) -> StoredValue:
    if isinstance(stored, bytes):
        return stored
    digest, size, *rest = stored.split(":")
    return Blob(bytes.fromhex(digest), int(size), bool(rest))


def _random_range(letters: str) -> tuple[bytes, bytes]:
    """The lowest and the highest random part whose text begins so."""
    bits = 5 * (RANDOM_CHARACTERS - len(letters))
    # A whole id is parsed rather than the letters, so that the alphabet stays the business of one file.
    filled = letters + "0" * (TEXT_CHARACTERS - len(letters))
    low = int.from_bytes(parse_task_id(filled)[TIME_BYTES:ID_BYTES], "big")
    return low.to_bytes(RANDOM_BYTES, "big"), (low | (1 << bits) - 1).to_bytes(RANDOM_BYTES, "big")


_LOOKALIKES = str.maketrans("ilo", "110")
