"""Payloads between messages, memory and the store: in line, in frames, or as blobs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headway_bus.records import Blob, Outcome, Payload
from headway_controller.state import Bytes, Value

INLINE_BYTES = 16_384
"""The longest value that travels inside a header; above it the copy costs more than a frame of its own."""


def unpack_value(payload: Payload, frames: Sequence[Bytes]) -> Value:
    """The value behind a payload. The index of a frame must have been checked."""
    return frames[payload] if isinstance(payload, int) else payload


def pack_value(value: Value, frames: list[Bytes]) -> Payload:
    """The form in which a value travels; what is too long for the header is appended to ``frames``."""
    if isinstance(value, Blob):
        return value
    if len(value) <= INLINE_BYTES:
        return value if isinstance(value, bytes) else bytes(value)
    frames.append(value)
    return len(frames) - 1


def size_of(value: Value) -> int:
    """Bytes of the value, wherever they lie."""
    return value.size if isinstance(value, Blob) else len(value)


def pack_outcome(outcome: Outcome, frames: list[Bytes]) -> Outcome:
    """The outcome as it travels."""
    result = outcome.result
    if type(result) is bytes and len(result) <= INLINE_BYTES:
        return outcome
    if isinstance(result, Blob | int):
        return outcome
    return msgspec.structs.replace(outcome, result=pack_value(result, frames))
