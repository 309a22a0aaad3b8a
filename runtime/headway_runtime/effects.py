"""What the core asks its shell to do. The only way out of the core."""

from __future__ import annotations

from dataclasses import dataclass

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.messages import Message
from headway_bus.records import Blob
from headway_runtime.state import Attempt


@dataclass(slots=True, frozen=True)
class Tell:
    """Send a message to the controller."""

    message: Message
    frames: list[Frame]


@dataclass(slots=True, frozen=True)
class StartChild:
    """Make a child process of this number. It may be fed at once: its pipe holds what comes before it is there."""

    child: int


@dataclass(slots=True, frozen=True)
class Feed:
    """Give these attempts to a child, in this order."""

    child: int
    attempts: list[Attempt]


@dataclass(slots=True, frozen=True)
class Recall:
    """Ask a child to give back what it has not begun, and to say what it is at."""

    child: int


@dataclass(slots=True, frozen=True)
class Interrupt:
    """Ask a child to stop the attempt it runs, if it is this one."""

    child: int
    key: AttemptKey


@dataclass(slots=True, frozen=True)
class FlushChild:
    """Let a child hand over its log records, if it has any."""

    child: int


@dataclass(slots=True, frozen=True)
class EndChild:
    """Send a signal to a child and all its descendants."""

    child: int
    signal: int


@dataclass(slots=True, frozen=True)
class RetireChild:
    """Let an idle child leave."""

    child: int


@dataclass(slots=True, frozen=True)
class StartCommand:
    """Start a command or script."""

    attempt: Attempt


@dataclass(slots=True, frozen=True)
class EndCommand:
    """Send a signal to the process tree of a command or script."""

    key: AttemptKey
    signal: int


@dataclass(slots=True, frozen=True)
class Fetch:
    """Get these large values, then say so with ``on_fetched``."""

    key: AttemptKey
    blobs: list[Blob]


@dataclass(slots=True, frozen=True)
class Upload:
    """Bring large results and files to the controller, then say so with ``on_uploaded``."""

    key: AttemptKey
    values: list[Blob]
    files: list[Blob]


@dataclass(slots=True, frozen=True)
class Throttle:
    """Stop (True) or resume reading what children and commands say."""

    stop: bool


@dataclass(slots=True, frozen=True)
class Leave:
    """All is done and confirmed, or the deadline has passed: say goodbye and end."""

    why: str


Effect = (
    Tell
    | StartChild
    | Feed
    | Recall
    | Interrupt
    | FlushChild
    | EndChild
    | RetireChild
    | StartCommand
    | EndCommand
    | Fetch
    | Upload
    | Throttle
    | Leave
)
