"""Headers to bytes and back.

A header comes from a stranger until proven otherwise. Before msgspec sees it, its size is checked; msgspec checks
types and builds nothing that the message does not declare; and its own recursion limit ends what is nested too deeply.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from headway_bus import messages
from headway_bus.errors import ProtocolError
from headway_bus.messages import Message

MAX_HEADER_BYTES = 4 * 1024 * 1024
"""The largest header that is decoded. A thousand submissions of 4 KiB each fit; larger values travel as frames."""

MAX_NAME_BYTES = 128
"""The longest name of a peer."""

MAX_QUOTED = 500
"""Characters of an error that are told."""

_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """The header's bytes."""
    return _encoder.encode(message)


def name_of(header: bytes) -> str:
    """The message's name, read without decoding the rest: for routing tables, counters and logs.

    Empty when the header does not begin as a message does: an array whose first element is a short string.
    """
    if len(header) < 2:
        return ""
    first = header[0]
    at = 1 if 0x90 <= first <= 0x9F else 3 if first == 0xDC else 0
    if not at or at >= len(header):
        return ""
    length = header[at] - 0xA0
    if not 0 < length < 32 or len(header) < at + 1 + length:
        return ""
    return header[at + 1 : at + 1 + length].decode("ascii", "replace")


def request_of(header: bytes) -> int:
    """The number of the request in a header that could not be decoded, so that the refusal finds who asked; or 0."""
    name = name_of(header)
    at = header.find(name.encode()) + len(name) if name else len(header)
    if at >= len(header):
        return 0
    first = header[at]
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(first)
    if width is None:
        return first if first < 0x80 else 0
    return int.from_bytes(header[at + 1 : at + 1 + width], "big")


class Decoder:
    """Decodes the headers that one kind of peer may receive."""

    def __init__(self, union: Any, max_bytes: int = MAX_HEADER_BYTES) -> None:
        self._decode = msgspec.msgpack.Decoder(union).decode
        self._max_bytes = max_bytes

    def decode(self, header: bytes) -> Message:
        """The message. Raises ProtocolError with what was wrong and where."""
        if len(header) > self._max_bytes:
            raise ProtocolError(f"a header of {len(header)} bytes; at most {self._max_bytes} are accepted")
        try:
            return cast(Message, self._decode(header))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            # The error may quote what was wrong, which may be megabytes; this text goes back to whoever sent them.
            text = str(error)[:MAX_QUOTED]
            raise ProtocolError(f"cannot read the header {name_of(header) or '(no name)'!s}: {text}") from None


def for_client() -> Decoder:
    return Decoder(messages.CLIENT_RECEIVES)


def for_runtime() -> Decoder:
    return Decoder(messages.RUNTIME_RECEIVES)


def for_what_runtimes_say() -> Decoder:
    """What a runtime or an edge may say to the controller, and nothing else."""
    return Decoder(messages.RuntimeToController)


def for_controller() -> Decoder:
    return Decoder(messages.CONTROLLER_RECEIVES)


def for_broker() -> Decoder:
    return Decoder(messages.BROKER_RECEIVES)
