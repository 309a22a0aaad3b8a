"""Whatever bytes come as a header, the answer is a message or a ProtocolError."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway_bus import codec
from headway_bus.errors import ProtocolError
from headway_bus.messages import Message

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "docs" / "protocol_vectors.json").read_text())
HEADERS = [bytes.fromhex(vector["hex"]) for vector in VECTORS["headers"]]
DECODERS = [codec.for_broker(), codec.for_client(), codec.for_runtime(), codec.for_controller()]

INSERTS = [
    b"\xdd\x7f\xff\xff\xff",  # an array, a map, a binary of two thousand million
    b"\xdf\x7f\xff\xff\xff",
    b"\xc6\x7f\xff\xff\xff",
    b"\xd4\x05\x00",  # an extension that nobody knows
    b"\xd6\xff\xff\xff\xff\xff",  # timestamps: the last second of 32 bits, the last of 64
    b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\x81\x01\x01\x01",  # a map as a key
    b"\xa2\xff\xff",  # no UTF-8
]


def _read_or_refuse(header: bytes) -> None:
    codec.name_of(header)
    codec.request_of(header)
    for decoder in DECODERS:
        try:
            message = decoder.decode(header)
        except ProtocolError:
            continue
        assert isinstance(message, Message)
        assert isinstance(codec.encode(message), bytes)


@given(st.binary(max_size=300))
def test_noise_is_refused(header: bytes) -> None:
    _read_or_refuse(header)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    header = bytearray(draw(st.sampled_from(HEADERS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(header)))
        end = min(len(header), at + draw(st.integers(0, 5)))
        header[at:end] = draw(st.binary(max_size=6) | st.sampled_from(INSERTS))
    return bytes(header)


@settings(max_examples=500)
@given(mutated())
def test_mutated_headers_are_read_or_refused(header: bytes) -> None:
    _read_or_refuse(header)


@pytest.mark.parametrize("insert", INSERTS, ids=bytes.hex)
def test_every_insert_at_every_place_is_read_or_refused(insert: bytes) -> None:
    for header in HEADERS:
        for at in range(0, len(header), 3):
            _read_or_refuse(header[:at] + insert + header[at + 1 :])
