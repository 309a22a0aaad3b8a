"""The records of the core: attempts, what attempts of the same options share, children. No behaviour but bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, Kind, Options

SHORT_SECONDS = 0.001
"""An attempt expected to be this short or shorter may wait in a child behind others."""

CHILD_WORK_SECONDS = 0.002
"""Expected work that may lie in one child."""

CHILD_ATTEMPTS = 128
"""Attempts that may lie in one child. Half of them are done when the child speaks, so that the other half covers the
time until it is fed again."""

START_DELAY = 0.005
"""Seconds after which a start is worth a message of its own; most attempts have ended by then."""

RECALL_SECONDS = 1.0
"""Without an answer to a recall, after which it is repeated: the child's listening thread may have been kept from its
work, by code that holds the interpreter, for so long that the first one found no room."""

UNANSWERED_SECONDS = 0.1
"""Without an answer to a recall, after which the head counts as begun: whatever keeps the child, it is not idle."""

STUCK_SECONDS = 0.005
"""Seconds that a child may stay on one attempt before those behind it are taken back."""

LEFTOVER_GRACE = 1.0
"""Seconds between TERM and KILL for processes that an attempt left behind."""

SLOT_ROUNDING = 1e-9


class Phase(Enum):
    """Where an attempt is inside the runtime."""

    FETCHING = "fetching"  # its arguments are on their way
    READY = "ready"
    FED = "fed"  # given to a child, which may have begun it
    RUNNING = "running"  # a command or script
    SHELVED = "shelved"  # ready, but not to be begun while cut off
    OVER = "over"  # a late event about it is passed over


NOT_BEGUN = frozenset({Phase.FETCHING, Phase.READY, Phase.SHELVED})
"""Phases of attempts that nothing else need be asked about to end them."""


@dataclass(slots=True)
class Spec:
    """What attempts with equal options share. ``number`` stands for it on the way to children."""

    number: int
    options: Options
    refusal: ErrorInfo | None = None
    """Why this runtime does not run them; None: it does."""

    devices: str = ""
    """The GPUs that they may use, as CUDA_VISIBLE_DEVICES wants them; empty: whatever the process sees."""

    seconds: float = 0.0
    """Expected running time, a moving average; 0 while ``seen`` is 0."""

    seen: int = 0
    is_short: bool = False

    @property
    def is_pooled(self) -> bool:
        return self.options.kind in (Kind.CALL, Kind.MODEL)

    def observe(self, seconds: float) -> None:
        """One more attempt ended after ``seconds``."""
        self.seen += 1
        weight = 0.2 if self.seen > 4 else 1.0 / self.seen
        self.seconds += weight * (seconds - self.seconds)
        self.is_short = self.seconds <= SHORT_SECONDS


@dataclass(slots=True, frozen=True)
class Order:
    """An attempt must end: how its end is to be reported, and when patience ends (seconds on the core's clock)."""

    end: AttemptEnd
    error: ErrorInfo | None
    kill_at: float


class Attempt:
    """One attempt that the runtime holds, from its assignment until its end is written down for the controller."""

    __slots__ = (
        "child",
        "expected",
        "key",
        "order",
        "outcome",
        "payload",
        "phase",
        "since",
        "spec",
        "starts",
        "take_back",
    )

    def __init__(self, key: AttemptKey, payload: Frame | Blob, spec: Spec) -> None:
        self.key = key
        self.payload = payload
        self.spec = spec
        self.phase = Phase.READY
        self.child: ChildState | None = None
        self.expected = 0.0
        """Seconds that it counts for in its child's work."""
        self.since = 0.0
        """When it started; meaningful once it is a child's head, or running."""
        self.order: Order | None = None
        self.take_back = False
        self.starts = 0
        """How often it was begun before the process was restarted: of an attempt that is resumed."""

        self.outcome: Ended | None = None
        """Its end, known but not to be told before the rest of its process tree is gone."""

    def __repr__(self) -> str:
        task, number = self.key
        return f"<attempt {task.hex()}/{number} {self.phase.value}>"


@dataclass(slots=True, eq=False)
class ChildState:
    """A child process as the core sees it. It runs ``queue`` in order; the first of it is running, as far as is known."""

    number: int
    queue: dict[AttemptKey, Attempt] = field(default_factory=dict)
    slots: float = 0.0
    """Occupied while the queue is not empty; all attempts in one queue need the same."""

    work: float = 0.0
    """Expected seconds of everything in the queue."""

    head_since: float = 0.0
    announced: bool = False
    """The start of the head has been reported."""

    recalled: bool = False
    """It was asked to give back what it has not begun, and has not answered."""

    recalled_at: float = 0.0
    spoke: bool = False
    """It has said something, so it can run attempts at all."""

    ending: bool = False
    """It gets no more work: it was killed, or left processes behind."""

    def head(self) -> Attempt | None:
        """The attempt it runs, as far as is known."""
        return next(iter(self.queue.values()), None)


@dataclass(slots=True, frozen=True)
class Bounds:
    """The limits and intervals of one runtime. Bytes and seconds."""

    ends_bytes: int = 128 * 1024 * 1024
    """Ends that wait for the controller; beyond it no more results are read from children."""

    logs_bytes: int = 32 * 1024 * 1024
    """Log records that wait for the controller; beyond it new ones are dropped and counted."""

    message_bytes: int = 16 * 1024 * 1024
    """Payload frames in one report."""

    output_bytes: int = 8 * 1024 * 1024
    """Output kept per attempt, where its options give no limit."""

    blob_bytes: int = 4 * 1024**3
    """Large values kept for attempts to come, beside those in use."""

    max_children: int = 256
    ready_children: int = 8
    """Children made at the start, if there are slots for as many."""

    drain_seconds: float = 30.0
    """For running attempts to end after the order to drain and leave; then they are stopped and given back."""

    settle_seconds: float = 10.0
    """For the controller to confirm the last reports before the runtime leaves without."""
