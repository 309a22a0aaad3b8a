"""What a client has asked and not been answered yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headway_bus.endpoint import Frame
from headway_bus.messages import Message


@dataclass(slots=True)
class Request:
    """An open question or verb. ``safe``: saying it twice changes nothing, so an overdue answer is asked for again."""

    target: bytes
    message: Message
    frames: Sequence[Frame]
    handle: Any
    safe: bool
