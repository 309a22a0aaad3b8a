"""Calls put together from values that are encoded already: nothing is decoded, so whoever joins them needs no type of theirs.

An encoded call is an array of three (see :func:`headway_bus.payloads.encode_call`), and msgpack's arrays are a head and their
items one behind the other; so a head can be replaced, and an item put in or left out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgpack

from headway_bus.errors import CannotDecode
from headway_bus.payload_types import Buffer

NOTHING = b"\xc0"
"""An encoded None. A task's empty result means it, too."""

_CALL_HEAD = b"\x93"
_NO_NAMED = b"\x80\x80"


def list_call(values: Sequence[Buffer]) -> bytes:
    """The call whose one argument is the list of these encoded values."""
    return b"".join([_CALL_HEAD, b"\x91", _array_head(len(values)), *(value or NOTHING for value in values), _NO_NAMED])


def replace_first(call: Buffer, value: Buffer) -> bytes:
    """The same call with another first argument. Raises CannotDecode if it is no call, or has no first argument."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(call)
    try:
        if unpacker.read_array_header() != 3 or unpacker.read_array_header() < 1:
            raise CannotDecode("a call without positional arguments: there is no first one to replace")
        begin = unpacker.tell()
        unpacker.skip()
        end = unpacker.tell()
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise CannotDecode(f"{len(call)} bytes are not a task's payload: {error!r}") from None
    return b"".join([bytes(call[:begin]), value or NOTHING, bytes(call[end:])])


def _array_head(count: int) -> bytes:
    if count < 16:
        return bytes([0x90 | count])
    return struct.pack(">BH", 0xDC, count) if count < 1 << 16 else struct.pack(">BI", 0xDD, count)
