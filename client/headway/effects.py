"""What the client's core wants done: the one door through which it acts. Plain records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headway.parcels import Unit
from headway_bus.endpoint import Frame
from headway_bus.errors import BusError
from headway_bus.messages import Accepted, Event, Message
from headway_bus.records import Blob, Outcome


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message."""

    target: bytes
    message: Message
    frames: Sequence[Frame] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The bus has stored these."""

    units: list[Unit]
    accepted: Accepted


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """The bus refused this, or can no longer be asked."""

    unit: Unit
    error: BusError


@dataclass(frozen=True, slots=True)
class Ended:
    """Tasks are over: (handle, outcome, the bytes of the result or where to fetch them)."""

    ends: list[tuple[Any, Outcome, Frame | Blob]]


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request."""

    handle: Any
    message: Message
    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class Failed:
    """A request was refused, or can no longer be answered."""

    handle: Any
    error: BusError


@dataclass(frozen=True, slots=True)
class Published:
    """Something came on a topic that is subscribed to."""

    event: Event


Effect = Send | Admitted | NotAdmitted | Ended | Answered | Failed | Published
