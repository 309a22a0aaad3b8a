"""A message in a smaller form, for links that are paid by the byte: zstd over its header and its payload frames together.

Who can unpack says so when the two sides meet; nobody is sent what he cannot read. Nothing is packed between other peers: on a
local network it costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headway_bus.codec import Decoder, encode
from headway_bus.endpoint import Frame
from headway_bus.errors import ProtocolError
from headway_bus.messages import Message, Packed

try:
    import zstandard
except ImportError:  # an agent, or a controller, that was installed without the extra "edge"
    zstandard = None  # type: ignore[assignment]

METHOD = "zstd"
LEVEL = 6
"""Of zstd's 22: above it, messages of a few kilobytes grow no smaller."""

WORTH = 0.9
"""The share of its size that a message must shrink to, for it to be sent packed."""

_parts = msgspec.msgpack.Decoder(list[bytes]).decode
_tools: dict[str, Any] = {}


def can_pack() -> list[str]:
    """The methods that this process knows."""
    return [METHOD] if zstandard is not None else []


def pack(message: Message, frames: Sequence[Frame]) -> tuple[Message, list[Frame]] | None:
    """The message in its smaller form; None if that would not be smaller, or this process cannot."""
    if zstandard is None:
        return None
    content = msgspec.msgpack.encode([encode(message), *(bytes(frame) for frame in frames)])
    if "pack" not in _tools:
        _tools["pack"] = zstandard.ZstdCompressor(level=LEVEL)
    small = _tools["pack"].compress(content)
    if len(small) > WORTH * len(content):
        return None
    return Packed(METHOD, len(content)), [small]


def unpack(packed: Packed, frames: Sequence[Frame], decoder: Decoder, most: int) -> tuple[Message, list[Frame]]:
    """The message that was packed. Raises ProtocolError for what no correct peer sends.

    ``decoder``: for what the sender may say. ``most``: bytes that it may have, unpacked.
    """
    if packed.method != METHOD or zstandard is None or len(frames) != 1:
        raise ProtocolError(f"packed with {packed.method[:40]!r}, in {len(frames)} frames; expected {METHOD} in one")
    if not 0 < packed.size <= most:
        raise ProtocolError(f"a packed message of {packed.size} bytes; at most {most} are accepted")
    if "unpack" not in _tools:
        _tools["unpack"] = zstandard.ZstdDecompressor()
    try:
        # What the frame itself says of its size is not believed: it is unpacked as far as the message says, and no further.
        with _tools["unpack"].stream_reader(bytes(frames[0])) as reader:
            content = reader.read(packed.size + 1)
        if len(content) != packed.size:
            raise ProtocolError(f"a packed message of another size than the {packed.size} bytes that it says")
        header, *payload = _parts(content)
    except (zstandard.ZstdError, msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"a packed message cannot be read: {str(error)[:200]}") from None
    message = decoder.decode(header)
    if isinstance(message, Packed):
        raise ProtocolError("a packed message within a packed one")
    return message, list(payload)
