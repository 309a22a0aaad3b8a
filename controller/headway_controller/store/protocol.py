"""What a store does, and the plain records that go in and come out. Nothing here knows SQLite.

Two sides. *Writing*: the event loop hands over operations with :meth:`Store.write` and goes on; a writer commits them
in groups and reports each commit once, as a list of receipts. *Reading*: plain blocking methods, to be run in a thread.

A store keeps tasks, their ends, their logs and a few named values. It knows nothing of scheduling: which unfinished
task is queued, assigned or running is the controller's knowledge and is recovered from the runtimes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId
from headway_bus.records import Blob, ErrorInfo, File, LogRecord, Options, Status

if TYPE_CHECKING:
    from headway_controller.store.blobs import BlobFolder


class StoreHeld(StoreError):
    """Another process has the database. The text says which, as far as it is known."""


class StoreDamaged(StoreError):
    """The file is not a database of headway's, is damaged, or was written by a newer version.

    Trying again does not mend it, and nothing was changed in the file.
    """


class Durability(StrEnum):
    """What an acknowledged write survives."""

    FULL = "full"  # loss of power: every commit waits for the disk
    NORMAL = "normal"  # kill -9 of any process; the last moments may be lost with the machine
    MEMORY = "memory"  # nothing: no file at all


Value = bytes | memoryview | Blob
"""A payload or a result: its bytes, or the name of a blob that holds them. What is read back is never a memoryview."""

StoredValue = bytes | Blob


class Operation(msgspec.Struct, frozen=True, gc=False):
    """Base of what can be written."""


class NewTasks(Operation, frozen=True, gc=False):
    """Tasks that share their options. One that is known already stays as it is and is named in the receipt."""

    options: Options
    submitted: float  # Unix seconds
    client: str
    tasks: Sequence[tuple[TaskId, Value]]


class UpdateTask(Operation, frozen=True, gc=False):
    """How an unfinished task stands after an attempt that was not its last. The last update counts.

    ``reopen``: the task had ended and shall be unfinished again; its end and its result are forgotten. Without it, an
    ended task stays ended and the update has no effect.
    """

    task: TaskId
    attempt: int = 0  # the last attempt that was begun
    failures: int = 0
    losses: int = 0
    not_before: float = 0.0  # Unix seconds
    story: bytes = b""  # the controller's own encoding; the store does not look into it
    reopen: bool = False


class EndTask(Operation, frozen=True, gc=False):
    """A task is over. The first end counts; another end of the same task has no effect."""

    task: TaskId
    status: Status
    attempt: int
    ended: float  # Unix seconds
    started: float = 0.0
    seconds: float = 0.0  # that the last attempt ran
    runtime: str = ""
    result: Value = b""
    error: ErrorInfo | None = None
    failures: int = 0
    losses: int = 0
    predicted: float = -1.0  # seconds of waiting; below 0: unknown
    story: bytes = b""
    expires: float | None = None  # Unix seconds from which it may be purged; None: after the general retention
    files: tuple[File, ...] = ()  # that it left beside its result


class Described(msgspec.Struct, frozen=True, gc=False):
    """What a task is described as since it was changed; ``story``: of the changes, in the controller's own encoding."""

    text: str
    at: float  # Unix seconds
    story: bytes


class DescribeTask(Operation, frozen=True, gc=False):
    """A task's description from now on, whether it has ended or not. The last one counts."""

    task: TaskId
    described: Described


class AppendLogs(Operation, frozen=True, gc=False):
    """Log records, recognised by (task, attempt, sequence) if they come twice; ``dropped`` adds to what was dropped."""

    records: Sequence[LogRecord]
    dropped: dict[TaskId, int] = {}


class DropTasks(Operation, frozen=True, gc=False):
    """Forget these tasks with everything that belongs to them. Unknown ones are passed over."""

    tasks: Sequence[TaskId]


class SaveState(Operation, frozen=True, gc=False):
    """A named value of the controller's own; ``None`` removes it."""

    key: str
    value: bytes | None


class Receipt(msgspec.Struct, frozen=True):
    """What became of one :meth:`Store.write`: all of it is stored, or (``error``) none of it."""

    token: object
    error: StoreError | None = None
    known: Sequence[TaskId] = ()  # of its new tasks, those that were in the store before


class StoredEnd(msgspec.Struct, frozen=True, gc=False):
    """The end of a task. ``result`` is empty in listings; ``result_size`` is in bytes."""

    status: Status
    attempt: int
    ended: float
    started: float
    seconds: float
    runtime: str
    predicted: float
    expires: float | None
    error: ErrorInfo | None
    result: StoredValue
    result_size: int
    files: list[File] = []


class StoredTask(msgspec.Struct, frozen=True, gc=False):
    """A task as the store has it. ``number`` counts up in the order of submission. ``payload`` is empty in listings."""

    number: int
    task: TaskId
    options: Options
    submitted: float
    client: str
    payload: StoredValue
    attempt: int
    failures: int
    losses: int
    not_before: float
    story: bytes
    end: StoredEnd | None
    described: Described | None = None  # None: as the options say


class TaskFilter(msgspec.Struct, frozen=True):
    """Which tasks to list; an empty field lets everything through."""

    job: str = ""
    queue: str = ""
    name: str = ""  # a shell-style pattern
    runtime: str = ""  # that the task ended on
    ends: frozenset[Status] = frozenset()  # with ``unfinished``: which of the two sorts; neither given: both
    unfinished: bool = False
    namespaces: tuple[str, ...] | None = None  # None: all of them


class JobCount(msgspec.Struct, frozen=True):
    """A job's tasks by end; the key ``unfinished`` counts the others."""

    job: str
    counts: dict[str, int]
    first_submitted: float
    last_ended: float


class LogSlice(msgspec.Struct, frozen=True):
    """Log records in order, and how many records of the task were dropped before they reached the store."""

    records: list[LogRecord]
    dropped: int


class Health(msgspec.Struct, frozen=True):
    """The state of the store in words. ``well`` is false when something in ``findings`` needs a person."""

    well: bool
    findings: list[str]


UNFINISHED = "unfinished"


class Store(Protocol):
    """The embedded store and its alternatives. Every method raises StoreError; the reading ones block."""

    blobs: BlobFolder

    def write(self, operations: Sequence[Operation], token: object = None) -> None:
        """Queue operations that shall be stored together or not at all. Does not block, may be called in any thread."""

    def write_at_once(self, operations: Sequence[Operation], token: object = None) -> Receipt | None:
        """Store a small write before returning, where that takes no waiting; None: nothing was done, ``write`` it."""

    @property
    def backlog(self) -> int:
        """Rows that were handed over and are not committed: what to look at before accepting more."""

    def counters(self) -> dict[str, int]:
        """Commits, rows, failed writes, known tasks, repeated ends, since the start."""

    def load_unfinished(self, page: int = 5000) -> Iterator[list[StoredTask]]:
        """Every task without an end, payload included, in the order of submission, in lists of up to ``page``."""

    def find(self, tasks: Sequence[TaskId]) -> list[StoredTask]:
        """Those of ``tasks`` that are in the store, with payload and result, in no particular order."""

    def find_statuses(self, tasks: Sequence[TaskId]) -> dict[TaskId, Status | None]:
        """How those of ``tasks`` that are in the store ended; None: not yet. Cheaper than :meth:`find`."""

    def find_namespaces(self, tasks: Sequence[TaskId]) -> dict[TaskId, str]:
        """Whose those of ``tasks`` are that are in the store."""

    def find_page(self, which: TaskFilter, limit: int = 100, before: TaskId | bytes = b"") -> list[StoredTask]:
        """Tasks newest first, from behind ``before`` (the last one of the page before) on."""

    def find_by_prefix(self, text: str, limit: int = 10) -> list[TaskId]:
        """Ids whose text (:func:`headway_bus.ids.text_of`) begins so."""

    def find_by_key(self, key: str, limit: int = 10) -> list[TaskId]:
        """Tasks that the caller named so (``Options.key``), newest first."""

    def logs(self, task: TaskId, attempt: int = 0, after: int = 0, limit: int = 1000) -> LogSlice:
        """Records of one attempt (0: of all), skipping ``after`` of them."""

    def job_counts(self, job: str = "", namespaces: tuple[str, ...] | None = None) -> list[JobCount]:
        """One job, or all of them, by the tasks in these namespaces (None: in all); one without such is not listed."""

    def counts(self, namespaces: tuple[str, ...] | None = None) -> dict[str, int]:
        """All tasks in these namespaces (None: in all) by end, and ``unfinished``."""

    def find_expired(self, now: float, retention: float, limit: int = 10_000) -> list[TaskId]:
        """Ended tasks that may be purged: past their own ``expires`` or, without one, ``retention`` s after the end."""

    def load_state(self, key: str) -> bytes | None:
        """The value of that name."""

    def sweep_blobs(self, before: float) -> int:
        """Delete blobs that no task refers to and that were last touched before that Unix time; how many."""

    def backup(self, path: Path) -> None:
        """A copy of the present state at ``path`` (blobs in ``path`` + ``.blobs``), which must not exist."""

    def check(self) -> Health:
        """Look through the whole store; takes seconds for each GB."""

    def close(self) -> None:
        """Commit what was handed over, report it, and let go of the files."""
