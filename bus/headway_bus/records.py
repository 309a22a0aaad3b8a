"""The plain records that travel inside messages.

All are arrays on the wire (a field's place is its meaning, so new fields go last and have defaults), immutable, and
known to every peer. Times are seconds as floats: ``at`` fields are Unix time by the *controller's* clock, ``age`` fields
are seconds before the message was sent, by the sender's clock, so that no two clocks are ever compared.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from headway_bus.ids import TaskId


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all records."""


class Kind(StrEnum):
    """What an attempt runs."""

    CALL = "call"  # target is a Python callable, "package.module:name"
    COMMAND = "command"  # target is a line for the shell
    SCRIPT = "script"  # target is the file name of an uploaded Python script
    MODEL = "model"  # target is the name of a model that a runtime serves


class Status(StrEnum):
    """Where a task is in its life; the last four are ends, and a task has exactly one end."""

    WAITING = "waiting"  # for what it depends on, or for its delay
    QUEUED = "queued"
    ASSIGNED = "assigned"  # leased to a runtime, not started
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDS = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})


class AttemptEnd(StrEnum):
    """How an attempt ended. Only a runtime says the first three; only the controller says ``lost``."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETURNED = "returned"  # given back, never started
    LOST = "lost"  # the runtime is gone


class Reason(StrEnum):
    """Why an attempt or a task failed; ``ErrorInfo.reason`` is one of these."""

    EXCEPTION = "exception"  # the user's code raised
    EXIT = "exit"  # a command ended with a status other than 0, or the child process left on its own
    SIGNAL = "signal"  # the process was killed by a signal that headway did not send
    MEMORY = "memory"  # over its memory limit, or killed by the system for want of memory
    TIMEOUT_START = "timeout-start"
    TIMEOUT_RUN = "timeout-run"
    IMPORT = "import"  # the target cannot be imported
    DECODE = "decode"  # the arguments cannot be decoded on the runtime
    ENCODE = "encode"  # the result cannot be encoded
    START = "start"  # the runtime could not start it: no such folder, no such program, disk full
    DEPENDENCY = "dependency"  # something it came after did not succeed
    CANCELLED = "cancelled"
    LOST = "lost"  # the runtimes died under it
    REFUSED = "refused"  # the runtime does not run such a thing
    TOO_LARGE = "too-large"


START_FAILURES = frozenset({Reason.IMPORT, Reason.START, Reason.REFUSED})
"""Reasons that speak against the machine rather than the task, when they come in a row."""


class Code(StrEnum):
    """Why the bus refused a request."""

    MALFORMED = "malformed"
    VERSION = "version"
    NAME_TAKEN = "name-taken"
    NOT_GREETED = "not-greeted"
    FORBIDDEN = "forbidden"
    UNKNOWN_MESSAGE = "unknown-message"
    UNKNOWN_TARGET = "unknown-target"
    NO_CONTROLLER = "no-controller"
    TOO_LARGE = "too-large"
    LIMIT = "limit"
    NOT_FOUND = "not-found"
    AMBIGUOUS = "ambiguous"
    INVALID = "invalid"
    CYCLE = "cycle"
    STATE = "state"  # not possible in the present state
    STORE = "store"  # the store cannot take it now
    DRAINING = "draining"
    OVERLOADED = "overloaded"


class Blob(Record, frozen=True):
    """A value too large to travel in a message: it is fetched in parts, by the BLAKE2b-256 hash of its bytes.

    ``named``: the controller has stored the value without hashing it, and ``hash`` is only a name that it gave. Whoever
    fetches it checks the size; the controller checks the bytes when it reads them.
    """

    hash: bytes
    size: int
    named: bool = False


Payload = bytes | int | Blob
"""A value's bytes: in line, the index of one of the message's payload frames, or a blob to fetch."""


class Requirements(Record, frozen=True):
    """What an attempt occupies while it runs, and where it may run."""

    slots: float = 1.0
    cpu: float = 0.0  # cores
    memory: int = 0  # bytes; also the limit that the runtime sets on the attempt, 0: none
    gpu: float = 0.0
    custom: dict[str, float] = {}
    labels: dict[str, str] = {}  # every one must be the runtime's
    runtime: str = ""  # by name; empty: any


class Retry(Record, frozen=True):
    """When a failed or lost attempt is followed by another."""

    max_attempts: int = 1  # attempts that may fail, the last one included
    max_losses: int = 3  # attempts in a row that may be lost with their runtime; 0: a lost attempt is the end
    backoff: float = 1.0  # seconds before the second attempt; doubles each time, with full jitter
    backoff_max: float = 60.0
    on: list[str] = []  # names of exceptions that are worth another attempt; empty: all


class File(Record, frozen=True):
    """A file that goes with a script, or that one leaves: where it lies in the attempt's folder; with a call, its name.

    And its content.
    """

    path: str
    content: Blob


class Union(Record, frozen=True):
    """What makes a task a union: one attempt on every runtime that matches, and what becomes of their results."""

    edges: str  # a selector (:mod:`headway_bus.selector`) over names and labels
    merge: str = ""  # the function that makes one value of a list of values; empty: they are not merged
    quorum: float = 1.0  # share of the edges whose success is enough
    deadline: float = 0.0  # seconds of a round; 0: none
    late: str = "collect"  # once the quorum is there: "collect" the others until the deadline, or "drop" them
    rounds: int = 1
    feeds: bool = False  # the first argument of the next round is the merged value of this one
    associative: bool = (
        False  # merge([merge([a, b]), c]) is merge([a, b, c]): values are merged while others still come
    )
    least: int = 1  # edges that must be there before a round begins
    merge_labels: dict[str, str] = {}  # of the runtimes that may merge


class Part(Record, frozen=True):
    """That a task is a part of a union. Only the controller makes such tasks."""

    union: TaskId
    round: int
    edge: str  # its runtime; empty: it is a merge


MAX_DESCRIPTION = 100_000
"""Characters of a task's description."""


class Options(Record, frozen=True):
    """Everything about a task but its id and arguments; one record is shared by all the tasks of a ``map``."""

    kind: Kind
    target: str
    name: str = ""
    job: str = ""
    queue: str = "default"
    priority: int = 0  # higher goes first
    requirements: Requirements = Requirements()
    retry: Retry = Retry()
    after: list[TaskId] = []
    after_count: str = "all"  # "all" or "any" of them
    after_end: str = "success"  # "success": must have succeeded; "always": any end will do
    delay: float = 0.0
    timeout_start: float = 0.0  # seconds in the queue; 0: none
    timeout_run: float = 0.0  # seconds of one attempt; 0: none
    grace: float = 5.0  # seconds between TERM and KILL
    idempotent: bool = False
    retention: float = -1.0  # seconds that the record is kept after the end; below 0: as the controller is set
    meta: dict[str, int | float | str] = {}
    files: list[File] = []
    by_value: bool = False  # the payload is cloudpickle, not msgpack
    output_limit: int = 0  # bytes of output kept per attempt; 0: as the runtime is set
    key: str = ""  # the caller's own name of the task, if its id was made from one
    namespace: str = ""  # whose it is; the controller sets it by the sender's key, and refuses another
    union: Union | None = None
    part: Part | None = None
    secret: bool = False  # the arguments are encrypted in the store; no blobs, nothing in a command line
    outputs: list[str] = []  # patterns of files that a command or script leaves, which become part of its result
    replaces: TaskId = TaskId(b"")  # of which it is a new version: that one is cancelled when this one is stored
    description: str = ""
    offline: float = 0.0  # seconds for which an edge that is cut off keeps an attempt, and may begin it
    resumable: bool = False  # begun again on its edge, in its own folder, after the agent was restarted


class ErrorInfo(Record, frozen=True):
    """What went wrong, in a form that a person can read and a program can test."""

    reason: Reason
    message: str
    type: str = ""  # the exception's class, "builtins.ValueError"
    traceback: str = ""
    exit_code: int | None = None
    signal: int | None = None
    bases: list[str] = []  # names of the exception's classes, for ``Retry.on``


class Started(Record, frozen=True):
    """An attempt began ``age`` seconds before this was sent."""

    task: TaskId
    attempt: int
    age: float


class Ended(Record, frozen=True):
    """An attempt is over on its runtime, and its whole process tree is gone."""

    task: TaskId
    attempt: int
    end: AttemptEnd
    seconds: float = 0.0  # that it ran
    result: Payload = b""
    error: ErrorInfo | None = None
    age: float = 0.0  # seconds between the end and the sending
    files: list[File] = []  # that it left beside its result; one without a name is the result itself


class LogRecord(Record, frozen=True):
    """A line of output, or a structured record, of one attempt."""

    task: TaskId
    attempt: int
    sequence: int  # counts from 0 within the attempt, over all streams
    stream: str  # "stdout", "stderr", "log", "progress", "metric", "message", "system"
    at: float  # Unix seconds by the runtime's clock
    text: str
    fields: dict[str, Any] = {}


class Held(Record, frozen=True):
    """One attempt that a runtime has: what it tells a controller that has just come back."""

    task: TaskId
    attempt: int
    phase: str  # "held" (not started), "running", "ended" (not settled)
    age: float = 0.0  # seconds since it started, if it has


class RuntimeInfo(Record, frozen=True):
    """What a runtime offers."""

    name: str
    slots: float
    cpu: float = 0.0
    memory: int = 0
    gpus: list[str] = []
    custom: dict[str, float] = {}
    labels: dict[str, str] = {}
    serves: list[str] = []  # kinds, "call:module.*" patterns, "model:name"; empty: every kind but models
    host: str = ""
    pid: int = 0
    python: str = ""
    version: str = ""
    speed: float = 1.0  # declared, relative to other runtimes
    by_value: bool = False  # runs cloudpickled code
    edge: bool = False  # behind a link that breaks: it is remembered while it is away


class Estimate(Record, frozen=True):
    """Seconds from now until something happens. ``known`` is false until enough has been seen, and ``why`` says so."""

    expectation: float
    error: float
    p50: float = 0.0
    p90: float = 0.0
    known: bool = True
    why: str = ""


class Outcome(Record, frozen=True):
    """The end of a task, as its client gets it."""

    task: TaskId
    status: Status
    attempt: int
    result: Payload = b""
    error: ErrorInfo | None = None
    by_value: bool = False
    runtime: str = ""
    waited: float = 0.0  # seconds from submission to the start of the last attempt
    ran: float = 0.0
    predicted: float = -1.0  # seconds of waiting predicted when it was submitted; below 0: unknown
    files: list[File] = []  # that it left beside its result; one without a name is the result itself


class Transition(Record, frozen=True):
    """One step in a task's story."""

    at: float
    status: str
    reason: str = ""
    runtime: str = ""
    attempt: int = 0


class TaskInfo(Record, frozen=True):
    """All that is known of a task but its arguments and result."""

    task: TaskId
    status: Status
    options: Options
    attempt: int
    submitted: float
    started: float = 0.0
    ended: float = 0.0
    runtime: str = ""
    error: ErrorInfo | None = None
    failures: int = 0
    losses: int = 0
    progress: list[float] = []  # done, total
    start_estimate: Estimate | None = None
    end_estimate: Estimate | None = None
    story: list[Transition] = []
    client: str = ""
    result_size: int = -1
    start_runtime: str = ""  # of one that waits: where it is predicted to start
    modified: float = 0.0  # when any of this changed last, Unix seconds
    ran: float = 0.0  # seconds that the last attempt which is over has run


class JobInfo(Record, frozen=True):
    """How far a job is: the number of its tasks by status."""

    job: str
    counts: dict[str, int]
    first_submitted: float = 0.0
    last_ended: float = 0.0


class RuntimeState(Record, frozen=True):
    """A runtime as the controller sees it."""

    info: RuntimeInfo
    state: str  # "online", "draining", "offline", "set-aside"
    since: float
    last_seen: float
    running: int = 0
    assigned: int = 0
    planned: int = 0
    slots_free: float = 0.0
    succeeded: int = 0
    failed: int = 0
    round_trip: float = 0.0
    why: str = ""
    drain: Estimate | None = None
    load: dict[str, float] = {}  # what its last heartbeat said of itself


class QueueState(Record, frozen=True):
    """The expected waiting time for one target on one runtime."""

    runtime: str
    target: str
    waiting: Estimate
    planned: int = 0
    committed: int = 0
    running: int = 0
