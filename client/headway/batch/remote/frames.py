"""What a batch and its helper on a machine say to each other: four bytes of length, a JSON object, and ``size`` bytes.

``helper`` has its own half of this, because it is sent there alone.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any, Protocol

from headway.batch.remote.errors import MachineError

LENGTH_BYTES = 4
MOST_HEADER_BYTES = 1 << 20
MOST_BODY_BYTES = 4 << 20


class Reader(Protocol):
    """The part of a stream that is needed here."""

    async def readexactly(self, n: int) -> bytes: ...


def frame(op: str, body: bytes = b"", **fields: Any) -> bytes:
    """One frame as bytes."""
    header = json.dumps({"op": op, "size": len(body), **fields}).encode()
    return len(header).to_bytes(LENGTH_BYTES, "big") + header + body


async def read_frame(reader: Reader) -> tuple[dict[str, Any], bytes]:
    """The next frame. Raises IncompleteReadError at the end, MachineError for what is no frame."""
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if length > MOST_HEADER_BYTES:
        raise MachineError(
            "what comes from there is no answer of headway's; does a start-up file of its shell print something?"
        )
    try:
        header = json.loads(await reader.readexactly(length))
        size = int(header["size"])
        if not isinstance(header["op"], str) or not 0 <= size <= MOST_BODY_BYTES:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise MachineError("what comes from there is no answer of headway's") from None
    return header, await reader.readexactly(size) if size else b""


def inner_path(text: Any) -> PurePosixPath:
    """A path that a machine names, which may lead nowhere but into the job's folder. Raises MachineError."""
    path = PurePosixPath(text) if isinstance(text, str) and "\0" not in text else PurePosixPath("/")
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise MachineError(f"it wants to write to {text!r}, which is outside of the job's folder")
    return path
