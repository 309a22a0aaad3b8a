"""Messages to and from edges in their smaller form; see :mod:`headway_bus.packing`."""

from __future__ import annotations

from collections.abc import Sequence

from headway_bus import codec
from headway_bus.endpoint import Frame
from headway_bus.messages import Assign, BlobPart, Message, Packed
from headway_bus.packing import METHOD, pack, unpack
from headway_controller.state import Runtime

MOST_UNPACKED = 256 * 1024 * 1024
"""Bytes that a message which came packed may have."""

WORTH_PACKING = (Assign, BlobPart)

_decoder = codec.for_what_runtimes_say()


def unpacked(packed: Packed, frames: Sequence[Frame]) -> tuple[Message, list[Frame]]:
    """What an edge has packed. Raises ProtocolError for what no correct edge sends."""
    return unpack(packed, frames, _decoder, MOST_UNPACKED)


def packed_for(runtime: Runtime | None, message: Message, frames: Sequence[Frame]) -> tuple[Message, Sequence[Frame]]:
    """The message as that runtime is best sent it."""
    if runtime is None or not runtime.info.edge or METHOD not in runtime.unpacks:
        return message, frames
    return pack(message, frames) or (message, frames)
