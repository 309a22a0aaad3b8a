"""Headers to bytes and back, and what becomes of headers that no correct peer sends."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway_bus import codec, messages
from headway_bus.errors import ProtocolError
from headway_bus.ids import TaskId
from headway_bus.records import Kind, Options

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "docs" / "protocol_vectors.json").read_text())
TASK = TaskId(bytes(16))


def _wire(*fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize("vector", VECTORS["headers"], ids=lambda vector: vector["message"])
def test_name_and_request_are_found_without_decoding(vector: dict[str, str]) -> None:
    header = bytes.fromhex(vector["hex"])
    assert codec.name_of(header) == vector["message"]
    kind = next(
        each for each in messages.Message.__subclasses__() if messages.tag_of(each.__name__) == vector["message"]
    )
    if kind.__struct_fields__[:1] == ("request",):
        message: Any = codec.Decoder(kind).decode(header)
        assert codec.request_of(header) == message.request


@pytest.mark.parametrize("request_number", [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1])
def test_request_of_any_width_is_found(request_number: int) -> None:
    assert codec.request_of(_wire("ask_broker", request_number)) == request_number


@pytest.mark.parametrize(
    "header", [b"", b"\x91", b"\x90", b"\xdc", b"\x91\xa0", b"\x91\xa5hell", b"\x01", b"\x92\xa1a"]
)
def test_header_without_a_name_has_none(header: bytes) -> None:
    assert codec.name_of(header) in ("", "a")
    assert codec.request_of(header) == 0


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"", r"\(no name\): Input data was truncated"),
        (b"\xc1", "cannot read the header"),
        (_wire("no_such_message"), "no_such_message: Invalid value 'no_such_message'"),
        (_wire("accepted", 1, 1), "accepted: Invalid value 'accepted'"),
        (_wire(), "Expected `array` of at least length 1"),
        (_wire("hello", 1), "hello: Expected `array` of at least length 5, got 2"),
        (_wire("hello", "1", "client", "", b""), r"hello: Expected `int`, got `str` - at `\$\[1\]`"),
        (_wire("hello", 1, "client", b"", b""), r"Expected `str`, got `bytes` - at `\$\[3\]`"),
        (_wire("ask_broker", 1.0), "Expected `int`, got `float`"),
        (_wire("subscribe", "topic"), "Expected `array`, got `str`"),
        (_wire("ping", 1.0) + b"\x01", "trailing characters"),
        (msgspec.msgpack.encode({"type": "ping"}), "Expected `array`, got `object`"),
        (b"\x92\xa9subscribe\xdd\xff\xff\xff\xff", "truncated"),
        (b"\x92\xa9subscribe\x91\xa2\xff\xff", "utf-8"),
    ],
)
def test_bad_header_is_refused_with_what_and_where(header: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        codec.for_broker().decode(header)


def test_header_beyond_the_limit_is_refused_unread() -> None:
    header = _wire("subscribe", ["x" * codec.MAX_HEADER_BYTES])
    with pytest.raises(ProtocolError, match=rf"a header of {len(header)} bytes; at most {codec.MAX_HEADER_BYTES}"):
        codec.for_broker().decode(header)


def test_depth_of_ten_thousand_is_refused() -> None:
    deep = b"\x94\xa7control\x01\xa5pause\x81\xa1k" + b"\x91" * 10_000 + b"\x01"
    with pytest.raises(ProtocolError, match="control: maximum recursion depth"):
        codec.for_controller().decode(deep)


def test_promised_lengths_cost_no_memory() -> None:
    header = b"\x94\xa7control\x01\xa5pause\x81\xa1k" + b"\xdd\x7f\xff\xff\xff" * 500
    decoder = codec.for_controller()
    with pytest.raises(ProtocolError):
        decoder.decode(header)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decoder.decode(header)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_each_kind_of_peer_reads_its_own_messages() -> None:
    submit = codec.encode(messages.Submit(1, [messages.Group(Options(Kind.CALL, "math:sqrt"), [(TASK, b"")])]))
    assert isinstance(codec.for_controller().decode(submit), messages.Submit)
    for other in (codec.for_broker(), codec.for_client(), codec.for_runtime()):
        with pytest.raises(ProtocolError, match="submit"):
            other.decode(submit)
