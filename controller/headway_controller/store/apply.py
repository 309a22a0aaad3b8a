"""Operations into SQL. Runs in the writer's thread, inside the writer's transaction.

The operations of a commit come from many turns of the event loop: new tasks, ends, new tasks, ends. They are sorted
by kind, so that each kind is one statement per 1,024 rows. That changes nothing that can be seen, because an order
matters only between operations on the same task, and there new comes before updates, updates before the end, and logs
need the task alone. Where the order may be another, after dropping and reopening, the batch is cut.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId
from headway_bus.records import Blob, Options, Status
from headway_controller.store.blobs import BlobFolder
from headway_controller.store.bulk import Bulk
from headway_controller.store.protocol import (
    AppendLogs,
    DescribeTask,
    DropTasks,
    EndTask,
    NewTasks,
    Operation,
    SaveState,
    UpdateTask,
    Value,
)
from headway_controller.store.sealing import Sealer

MAX_REMEMBERED = 10_000
"""Digests of options that are known to be in the table; beyond it the memory starts anew."""

FILE_BYTES = 256 * 1024
"""The shortest value that goes into a file beside the database. In it, a megabyte is written twice, page by page: 6 ms of
processor time against 0.5 for the file."""

Row = tuple[Any, ...]

_encode = msgspec.msgpack.Encoder().encode

_OPTIONS = Bulk(
    """INSERT INTO options (digest, job, queue, name, key, namespace, body) SELECT * FROM {values}
    WHERE column1 IS NOT NULL ON CONFLICT (digest) DO NOTHING""",
    7,
)
_OPTION_BLOBS = Bulk(
    """INSERT OR IGNORE INTO option_blobs SELECT options.number, new.column2 FROM {values} AS new
    CROSS JOIN options ON options.digest = new.column1""",
    2,
)
# CROSS JOIN keeps SQLite from turning the loops round: the new rows outside, one look into an index for each inside.
_TASKS = Bulk(
    """INSERT INTO tasks (id, number, options, submitted, client, payload)
    SELECT new.column1, new.column2, options.number, new.column4, new.column5, new.column6 FROM {values} AS new
    CROSS JOIN options ON options.number = new.column3 WHERE new.column1 IS NOT NULL ON CONFLICT (id) DO NOTHING""",
    6,
)
_OPTION_NUMBER = "SELECT number FROM options WHERE digest = ?"
# Only what the row says: a submission or an end that comes again has brought another file, which is nobody's.
_TASK_BLOBS = Bulk(
    """INSERT OR IGNORE INTO task_blobs SELECT tasks.number, new.column2 FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1 AND tasks.payload = new.column3""",
    3,
)
_END_BLOBS = Bulk(
    """INSERT OR IGNORE INTO task_blobs SELECT tasks.number, new.column2 FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1 CROSS JOIN ends ON ends.number = tasks.number
    AND ends.result = new.column3""",
    3,
)
_FILE_BLOBS = Bulk(
    """INSERT OR IGNORE INTO task_blobs SELECT tasks.number, new.column2 FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1""",
    2,
)
_END_FILES = (  # of the first end, which is the one that counts
    "UPDATE ends SET files = ?1 WHERE number = (SELECT number FROM tasks WHERE id = ?2)"
    " AND attempt = ?3 AND ended = ?4 AND files IS NULL"
)
_NUMBERS = "SELECT number FROM tasks WHERE id = ?"
_RETRIES = Bulk(
    """INSERT INTO retries (number, attempt, failures, losses, not_before, story)
    SELECT tasks.number, new.column2, new.column3, new.column4, new.column5, new.column6 FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1 CROSS JOIN unfinished ON unfinished.number = tasks.number WHERE true
    ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt, failures = excluded.failures,
    losses = excluded.losses, not_before = excluded.not_before, story = excluded.story""",
    6,
)
_ENDS = Bulk(
    """INSERT INTO ends (number, status, attempt, ended, started, seconds, runtime, failures, losses, predicted,
    expires, result, error, story)
    SELECT tasks.number, new.column2, new.column3, new.column4, new.column5, new.column6, new.column7, new.column8,
    new.column9, new.column10, new.column11, new.column12, new.column13, new.column14 FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1 WHERE true ON CONFLICT (number) DO NOTHING""",
    14,
)
# Nearly every end: with nothing to tell but a result. Each value that is bound costs a third of a microsecond or less,
# and nothing at all where the statement has it.
_PLAIN_ENDS = Bulk(
    """INSERT INTO ends (number, status, attempt, ended, started, seconds, runtime, failures, losses, predicted,
    expires, result, error, story)
    SELECT tasks.number, 'succeeded', new.column2, new.column3, new.column4, new.column5, new.column6, 0, 0,
    new.column7, NULL, new.column8, NULL, X'' FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1 WHERE true ON CONFLICT (number) DO NOTHING""",
    8,
)
_LOGS = Bulk(
    """INSERT OR IGNORE INTO logs (number, attempt, sequence, stream, at, text, fields)
    SELECT tasks.number, new.column2, new.column3, new.column4, new.column5, new.column6, new.column7
    FROM {values} AS new CROSS JOIN tasks ON tasks.id = new.column1""",
    7,
)
_LOG_DROPS = Bulk(
    """INSERT INTO log_drops (number, dropped) SELECT tasks.number, new.column2 FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1 WHERE true
    ON CONFLICT (number) DO UPDATE SET dropped = dropped + excluded.dropped""",
    2,
)
_DESCRIPTIONS = Bulk(
    """INSERT INTO descriptions (number, text, at, story)
    SELECT tasks.number, new.column2, new.column3, new.column4 FROM {values} AS new
    CROSS JOIN tasks ON tasks.id = new.column1 WHERE true
    ON CONFLICT (number) DO UPDATE SET text = excluded.text, at = excluded.at, story = excluded.story""",
    4,
)
_REOPEN = Bulk(
    """DELETE FROM ends WHERE number IN (
    SELECT tasks.number FROM {values} AS old CROSS JOIN tasks ON tasks.id = old.column1)""",
    1,
)
_DROP = Bulk("DELETE FROM tasks WHERE id IN (SELECT column1 FROM {values})", 1)


class Applier:
    """Applies operations to one connection. After a rollback :meth:`forget` must be called."""

    def __init__(
        self, connection: sqlite3.Connection, blobs: BlobFolder | None = None, sealer: Sealer | None = None
    ) -> None:
        """``blobs``: where large values go; None: nowhere but into the database. ``sealer``: of secret arguments."""
        self._sealer = sealer or Sealer(None)
        self._connection = connection
        self._blobs = blobs
        self._next_number = 1 + int(connection.execute("SELECT coalesce(max(number), 0) FROM tasks").fetchone()[0])
        self._remembered: dict[bytes, int] = {}
        self._batch = _Batch()
        self.known: dict[int, list[TaskId]] = {}
        self.repeated_ends = 0

    def apply(self, writes: Sequence[Sequence[Operation]]) -> None:
        """Everything in ``writes``, in order. ``known`` says by index in ``writes`` which new tasks were not new."""
        self.known = {}
        self.repeated_ends = 0
        for index, operations in enumerate(writes):
            for operation in operations:
                self._add(index, operation)
        self._flush()

    def forget(self) -> None:
        """The transaction was rolled back: what was believed to be in the tables may not be there."""
        self._remembered.clear()
        self._batch = _Batch()

    def _add(self, index: int, operation: Operation) -> None:
        # The hot kinds by identity: a match statement takes four times as long.
        if type(operation) is EndTask:
            self._batch.ends.append(operation)
        elif type(operation) is NewTasks:
            self._batch.new.append((index, operation))
        else:
            self._add_rare(operation)

    def _add_rare(self, operation: Operation) -> None:
        match operation:
            case AppendLogs():
                self._batch.logs.append(operation)
            case UpdateTask(task=task, reopen=reopen):
                if reopen:
                    self._flush()
                    _REOPEN.run(self._connection, [(task,)])
                self._batch.updates.append(operation)
            case DropTasks(tasks=tasks):
                self._flush()
                _DROP.run(self._connection, [(task,) for task in tasks])
                self._remembered.clear()
            case DescribeTask():
                self._batch.descriptions.append(operation)
            case SaveState(key=key, value=value):
                self._save_state(key, value)
            case _:
                raise TypeError(f"{type(operation).__name__} is not an operation of the store")

    def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.new:
            self._insert_tasks(batch.new)
        if batch.updates:
            rows = [(u.task, u.attempt, u.failures, u.losses, u.not_before, u.story) for u in batch.updates]
            _RETRIES.run(self._connection, rows)
        if batch.ends:
            self._insert_ends(batch.ends)
        if batch.logs:
            self._insert_logs(batch.logs)
        if batch.descriptions:
            found = [(each.task, each.described) for each in batch.descriptions]
            _DESCRIPTIONS.run(self._connection, [(task, new.text, new.at, new.story) for task, new in found])

    def _insert_tasks(self, new: list[tuple[int, NewTasks]]) -> None:
        bodies = [_encode(group.options) for _, group in new]
        digests = [hashlib.blake2b(body, digest_size=16).digest() for body in bodies]
        self._insert_options(
            [(digest, group.options, body) for digest, body, (_, group) in zip(digests, bodies, new, strict=True)]
        )
        first = number = self._next_number
        rows: list[Row] = []
        blobs: list[Row] = []
        for digest, (_, group) in zip(digests, new, strict=True):
            submitted, client, options = group.submitted, group.client, self._remembered[digest]
            for task, given in group.tasks:
                payload: Value | str = given
                if group.options.secret and not isinstance(given, Blob):
                    payload = self._sealer.seal(task, given)  # however long: blobs are not encrypted
                elif type(given) is not bytes or len(given) >= FILE_BYTES:
                    payload = self._placed(given)
                    if isinstance(payload, Blob):
                        text = _text_of(payload)
                        blobs.append((task, payload.hash, text))
                        payload = text
                rows.append((task, number, options, submitted, client, payload))
                number += 1
        self._next_number = number
        if _TASKS.run(self._connection, rows) < len(rows):
            self._note_known(new, first)
        if blobs:
            _TASK_BLOBS.run(self._connection, blobs)

    def _insert_options(self, wanted: list[tuple[bytes, Options, bytes]]) -> None:
        missing = {digest: (options, body) for digest, options, body in wanted if digest not in self._remembered}
        if not missing:
            return
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.clear()
            missing = {digest: (options, body) for digest, options, body in wanted}
        rows = [
            (digest, o.job, o.queue, o.name or o.target, o.key, o.namespace, body)
            for digest, (o, body) in missing.items()
        ]
        _OPTIONS.run(self._connection, rows)
        blobs = [(digest, file.content.hash) for digest, (o, _) in missing.items() for file in o.files]
        if blobs:
            _OPTION_BLOBS.run(self._connection, blobs)
        for digest in missing:
            (self._remembered[digest],) = self._connection.execute(_OPTION_NUMBER, (digest,)).fetchone()

    def _note_known(self, new: list[tuple[int, NewTasks]], number: int) -> None:
        """Find out which ids did not get the number that was meant for them."""
        for index, group in new:
            for task, _ in group.tasks:
                found = self._connection.execute(_NUMBERS, (task,)).fetchone()
                if found is None:
                    raise StoreError(
                        "the options of new tasks were removed by another program; this can be tried again"
                    )
                if found[0] != number:
                    self.known.setdefault(index, []).append(task)
                number += 1

    def _insert_ends(self, ends: list[EndTask]) -> None:
        # Which of two ends of one task comes first matters, so the two sorts must not change places.
        seen = {end.task for end in ends}
        plain = [end for end in ends if is_plain(end)] if len(seen) == len(ends) else []
        if plain:
            self._insert_plain_ends(plain)
        if len(plain) < len(ends):
            self._insert_full_ends([end for end in ends if not is_plain(end)] if plain else ends)

    def _insert_plain_ends(self, ends: list[EndTask]) -> None:
        rows = [
            (end.task, end.attempt, end.ended, end.started, end.seconds, end.runtime, end.predicted, end.result)
            for end in ends
        ]
        self.repeated_ends += len(rows) - _PLAIN_ENDS.run(self._connection, rows)

    def _insert_full_ends(self, ends: list[EndTask]) -> None:
        rows: list[Row] = []
        blobs: list[Row] = []
        for end in ends:
            result: Value | str = self._placed(end.result)
            if isinstance(result, Blob):
                text = _text_of(result)
                blobs.append((end.task, result.hash, text))
                result = text
            rows.append(
                (
                    end.task,
                    str(end.status),  # a plain str: for a subclass's, sqlite3 looks for an adapter at every row
                    end.attempt,
                    end.ended,
                    end.started,
                    end.seconds,
                    end.runtime,
                    end.failures,
                    end.losses,
                    end.predicted,
                    end.expires,
                    result,
                    None if end.error is None else _encode(end.error),
                    end.story,
                )
            )
        self.repeated_ends += len(rows) - _ENDS.run(self._connection, rows)
        if files := [(_encode(end.files), end.task, end.attempt, end.ended) for end in ends if end.files]:
            self._connection.executemany(_END_FILES, files)
            _FILE_BLOBS.run(self._connection, [(end.task, file.content.hash) for end in ends for file in end.files])
        if blobs:
            _END_BLOBS.run(self._connection, blobs)

    def _placed(self, value: Value) -> Value:
        """The value as its row holds it: a large one is put into a file now, so that it is there when the row is."""
        if self._blobs is None or isinstance(value, Blob) or len(value) < FILE_BYTES:
            return value
        return self._blobs.put_new(value)

    def _insert_logs(self, logs: list[AppendLogs]) -> None:
        rows = [
            (r.task, r.attempt, r.sequence, r.stream, r.at, r.text, _encode(r.fields) if r.fields else None)
            for operation in logs
            for r in operation.records
        ]
        if rows:
            _LOGS.run(self._connection, rows)
        drops = [(task, dropped) for operation in logs for task, dropped in operation.dropped.items()]
        if drops:
            _LOG_DROPS.run(self._connection, drops)

    def _save_state(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._connection.execute("DELETE FROM state WHERE key = ?", (key,))
        else:
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))


class _Batch:
    """Operations that wait to be applied together."""

    __slots__ = ("descriptions", "ends", "logs", "new", "updates")

    def __init__(self) -> None:
        self.new: list[tuple[int, NewTasks]] = []
        self.updates: list[UpdateTask] = []
        self.ends: list[EndTask] = []
        self.logs: list[AppendLogs] = []
        self.descriptions: list[DescribeTask] = []


def is_plain(end: EndTask) -> bool:
    """Whether there is nothing to tell of it but a result."""
    return (
        end.status is Status.SUCCEEDED
        and end.error is None
        and not end.story
        and end.expires is None
        and not end.failures
        and not end.losses
        and type(end.result) is bytes
        and len(end.result) < FILE_BYTES
        and not end.files
    )


def _text_of(blob: Blob) -> str:
    text = f"{blob.hash.hex()}:{blob.size}"
    return f"{text}:named" if blob.named else text
