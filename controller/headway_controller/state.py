"""What the controller remembers. Plain records; the rules that change them stand in ``life``, ``fleet`` and ``audience``.

Times are of two kinds. Those named ``since``, ``until``, ``seen`` are seconds of the controller's own monotonic clock;
those named ``submitted``, ``started``, ``ended``, ``at`` are Unix time, and are shown and stored but never computed with.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from headway_bus.handover import Outbox
from headway_bus.ids import AttemptKey, TaskId
from headway_bus.messages import Accepted, AssignGroup
from headway_bus.records import Blob, ErrorInfo, Options, Outcome, RuntimeInfo, Status, Transition
from headway_controller.store.protocol import Described

Bytes = bytes | memoryview
Value = Bytes | Blob
"""A payload as the controller holds it: never an index, because it belongs to no message."""


class Waiting(msgspec.Struct, gc=False):
    """For dependencies (``unmet``), for a time (``until``), or for the runtimes to say whether they have it."""

    since: float
    until: float = 0.0
    unmet: set[TaskId] = set()
    why: str = ""  # "dependencies", "delay", "retry", "recovering"
    met: int = 0
    """Parents that ended as it was asked. Counted, and not looked up again: a task may wait longer than the memory of
    ended tasks lasts, and for a hundred thousand parents."""

    bar: str = ""
    """Why one of the parents cannot count any more; empty: there is none such."""


class Queued(msgspec.Struct, frozen=True, gc=False):
    since: float


class Assigned(msgspec.Struct, frozen=True, gc=False):
    runtime: str
    since: float


class Running(msgspec.Struct, frozen=True, gc=False):
    runtime: str
    since: float


class Gathering(msgspec.Struct, frozen=True, gc=False):
    """A union: it runs nowhere itself, its parts do (see ``unions``)."""

    since: float


class Ended(msgspec.Struct, frozen=True, gc=False):
    """Kept until it is stored and those who wait for it have been told; then only the store knows the task."""

    outcome: Outcome
    since: float


State = Waiting | Queued | Assigned | Running | Gathering | Ended

# Unions that are looked at for every task: made once, they are found out seven times as fast as ``isinstance(x, A | B)``.
ON_A_RUNTIME = (Assigned, Running)
NOT_GIVEN_OUT = (Waiting, Queued)

AWAY = "away"
"""The state of an edge that is not heard and still has attempts leased; everybody else is told that it is offline."""

UNHEARD = frozenset({"offline", AWAY})
"""States of runtimes that must register before anything else that they say counts."""

LEASED = "leased"
"""The step of a task's story that says that an edge may have it, whatever a controller that is started anew hears."""

STATUS_OF: dict[type, Status] = {
    Waiting: Status.WAITING,
    Queued: Status.QUEUED,
    Assigned: Status.ASSIGNED,
    Running: Status.RUNNING,
    Gathering: Status.RUNNING,
}


class Copy(msgspec.Struct, frozen=True, gc=False):
    """A second attempt beside the one that runs (see ``copies``). ``started``: Unix time, 0: it has not begun."""

    runtime: str
    attempt: int
    since: float
    started: float = 0.0


class Task(msgspec.Struct):
    """One task that has not ended, or whose end is not yet stored and told."""

    id: TaskId
    options: Options
    payload: Value
    client: str
    submitted: float
    state: State
    attempt: int = 0
    """The number given last; reports of lower ones are fenced."""

    over: int = 0
    """The highest attempt whose end was heard: a report of it that comes once more says nothing new. An attempt that
    was lost is not among them, for it may still be going on."""

    highest: int = 0
    """The highest number that a runtime was heard to use, if it is beyond ``attempt``: it is not given out again."""

    failures: int = 0
    losses: int = 0
    """In a row; an attempt that ends in any other way sets it back."""

    watchers: tuple[str, ...] = ()
    predicted: float = -1.0
    started: float = 0.0
    runtime: str = ""
    """Where the last attempt was given to."""

    cancelling: bool = False
    expiring: bool = False
    error: ErrorInfo | None = None
    progress: tuple[float, ...] = ()
    logged: int = 0
    """Log records that were kept."""

    copy: Copy | None = None
    described: Described | None = None
    """What it is described as since that was changed; None: as its options say."""

    story: list[Transition] | None = None
    """What the other fields do not tell: earlier attempts, losses, returns. None: nothing."""


def status_of(task: Task) -> Status:
    """The task's status as the world knows it."""
    state = task.state
    return state.outcome.status if isinstance(state, Ended) else STATUS_OF[type(state)]


@lru_cache(maxsize=10_000)
def owner_of(client: str) -> str:
    """Whose a client is: a key's second and third connections, ``alice.2``, are ``alice``, too."""
    start, dot, number = client.rpartition(".")
    return start if dot and number.isdigit() else client


def is_present(task: Task, name: str, attempt: int) -> bool:
    """Whether this attempt is the one that the task has now, on that runtime."""
    state = task.state
    return isinstance(state, ON_A_RUNTIME) and state.runtime == name and task.attempt == attempt


@dataclass(slots=True)
class Assignment:
    """One assign batch that a runtime has not yet confirmed. ``digest`` is over its attempts."""

    groups: list[AssignGroup]
    frames: list[Bytes]
    digest: int
    attempts: list[AttemptKey]


@dataclass(slots=True)
class Runtime:
    """A runtime that has registered. ``held`` and ``digest`` are what it should hold, by all that it said so far."""

    info: RuntimeInfo
    instance: bytes
    seen: float
    since: float
    state: str = "online"  # "online", "draining", "offline", "away"
    outbox: Outbox[Assignment] = field(default_factory=Outbox)
    held: dict[AttemptKey, None] = field(default_factory=dict)
    """By attempt and not by task: one that is being stopped may be there beside the next one of the same task."""

    ending: dict[AttemptKey, None] = field(default_factory=dict)
    """Attempts that it said are over and whose reports have not come yet."""

    digest: int = 0
    mismatches: int = 0
    inventory_at: float = 0.0
    """Not before this time is it asked for its inventory again."""

    settled: list[int] = field(default_factory=list)
    """Reports that are stored, which it will be told."""

    settled_bytes: int = 0
    """Results that it keeps until then."""

    unsound: int = 0
    """Reports from it in which a number was impossible."""

    leaving: bool = False
    unpacks: list[str] = field(default_factory=list)
    """Forms of packed messages that it can read."""

    heartbeat: float = 0.0
    """Seconds between its signs of life, where it wished for longer ones than the bus's; 0: as the bus has it."""

    round_trip: float = 0.0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    deaths: int = 0
    why: str = ""
    load: dict[str, float] = field(default_factory=dict)


def is_recovering(task: Task) -> bool:
    """Whether an earlier controller may have given it to a runtime, which has yet to say so."""
    return isinstance(task.state, Waiting) and task.state.why == "recovering"


def is_leasable(task: Task, runtime: Runtime) -> bool:
    """Whether an attempt of the task outlives the silence of that runtime."""
    return runtime.info.edge and task.options.offline > 0.0


@dataclass(slots=True)
class Client:
    """A client that waits for ends. ``ready``: ends beyond the window, which follow as it acknowledges."""

    name: str
    connected: bool = True
    outbox: Outbox[tuple[list[Outcome], list[Bytes]]] = field(default_factory=Outbox)
    ready: deque[Outcome] = field(default_factory=deque)
    accepted: list[Accepted] = field(default_factory=list)
    """Answers that go out with the next ends."""


@dataclass(slots=True)
class Job:
    """The live tasks of a job and their number by state's class; ended ones are counted by the store."""

    tasks: dict[TaskId, None] = field(default_factory=dict)


@dataclass(slots=True)
class PendingCancel:
    """A cancel whose answer waits until nothing of its tasks runs any more."""

    client: str
    request: int
    left: set[TaskId]
    count: int
    refused: list[tuple[str, str]]


@dataclass(slots=True)
class ControllerState:
    """All tables of the controller."""

    instance: bytes
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    dependents: dict[TaskId, list[TaskId]] = field(default_factory=dict)
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    cancels: list[PendingCancel] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)
    has_scoped_topics: bool = False
    """Whether there are any of somebody who has not all namespaces."""

    scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The namespaces of those clients that have not all of them."""

    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    """What the keys of runtimes are labelled with."""

    counters: Counter[str] = field(default_factory=Counter)
