"""What is read of a header that cannot be decoded: its name, and the number of the request, so that a refusal finds who
asked. Both are read from bytes that anybody may have written, and never fail."""

from __future__ import annotations

import random

import msgspec
import pytest

from headway_bus import messages as m
from headway_bus.codec import MAX_HEADER_BYTES, encode, for_broker, for_controller, name_of, request_of
from headway_bus.errors import ProtocolError
from headway_bus.records import Kind, Options


@pytest.mark.parametrize(
    "request_number", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
)
def test_a_request_number_is_found_in_each_of_its_forms(request_number: int) -> None:
    assert request_of(encode(m.AskTask(request_number, "x"))) == request_number


def test_the_number_survives_a_body_that_makes_no_sense() -> None:
    header = msgspec.msgpack.encode(["submit", 77, "no list of groups"])
    with pytest.raises(ProtocolError, match="submit"):
        for_controller().decode(header)
    assert (name_of(header), request_of(header)) == ("submit", 77)


def test_a_message_without_a_request_has_none() -> None:
    assert request_of(encode(m.Received([5, 6]))) == 0
    assert (
        request_of(encode(m.Hello(1, "client", "x", b"y"))) == 1
    )  # its version stands there; a hello is never answered by it


@pytest.mark.parametrize(
    "header",
    [b"", b"\x00", b"\x93", b"\xdc", b"\xdc\x00", b"\xdc\x00\x02", b"\x91\xa0", b"\x91\xbf", b"\x92\xa4ping", b"\x92\xa4ping\xcf",
     b"\x92\xa4ping\xcf\x01", b"\xff" * 64, b"\x92\xa4\xff\xfe\xfd\xfc\x07", b"\xdd\x00\x00\x00\x02\xa4ping"],
)  # fmt: skip
def test_pieces_of_a_header_are_no_reason_to_fail(header: bytes) -> None:
    assert isinstance(name_of(header), str)
    assert isinstance(request_of(header), int)


def test_noise_is_refused_with_words_and_never_with_another_error() -> None:
    noise = random.Random(1)
    decoders = [for_broker(), for_controller()]
    good = encode(m.Submit(5, [m.Group(Options(Kind.CALL, "a:f"), [(b"x" * 16, b"payload")])]))  # type: ignore[list-item]
    for _ in range(3_000):
        header = bytearray(good if noise.random() < 0.5 else noise.randbytes(noise.randrange(60)))
        for _ in range(noise.randrange(4)):
            if header:
                header[noise.randrange(len(header))] = noise.randrange(256)
        for decoder in decoders:
            try:
                decoder.decode(bytes(header))
            except ProtocolError as error:
                assert "header" in str(error)
        assert request_of(bytes(header)) >= 0


def nested(depth: int) -> bytes:
    """``control`` with arguments of that depth."""
    return b"\x94\xa7control\x01\xa4test\x81\xa1x" + b"\x91" * depth + b"\xc0"


def test_a_depth_of_ten_thousand_is_refused_and_the_one_who_asked_is_found() -> None:
    with pytest.raises(ProtocolError, match="control"):
        for_controller().decode(nested(10_000))
    assert request_of(nested(10_000)) == 1
    assert for_controller().decode(nested(50))


def test_a_header_beyond_the_limit_is_not_looked_into() -> None:
    with pytest.raises(ProtocolError, match=str(MAX_HEADER_BYTES)):
        for_controller().decode(nested(MAX_HEADER_BYTES + 1))


def test_an_error_does_not_quote_megabytes() -> None:
    header = msgspec.msgpack.encode(["report", 1, [], [[b"x" * 16, 1, "z" * 3_000_000]]])
    with pytest.raises(ProtocolError, match="Invalid enum value") as raised:
        for_controller().decode(header)
    assert len(str(raised.value)) < 1_000
