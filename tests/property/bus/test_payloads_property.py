"""Any nested value comes back; any mutation of its bytes is refused or is another value, and costs little memory."""

from __future__ import annotations

import math
import tracemalloc
from datetime import timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway_bus import payloads
from headway_bus.errors import CannotDecode

MEMORY_PER_BYTE = 100
"""An empty dict is one byte on the wire and 64 in memory, and its place in a list is 8 more."""

fixed_zones = st.builds(
    lambda seconds: timezone(timedelta(seconds=seconds)), st.integers(-86_399, 86_399).filter(lambda s: s != 0)
)
zones = st.none() | fixed_zones | st.timezones()

hashables = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=st.none() | fixed_zones)
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
)
keys = st.recursive(hashables, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
    ),
    max_leaves=12,
)


def _typed(value: Any) -> Any:
    """The value with the types of all its parts, since ``1 == True`` and ``(1,) != [1]`` are not the same care."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [_typed(part) for part in value]
    if kind is dict:
        return kind, [(_typed(key), _typed(part)) for key, part in value.items()]
    return kind, value


@given(values)
def test_any_value_comes_back_with_its_types(value: Any) -> None:
    assert _typed(payloads.decode(payloads.encode(value))) == _typed(value)


@given(st.lists(values, max_size=3), st.dictionaries(st.text(), values, max_size=3))
def test_any_call_comes_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert payloads.decode_call(payloads.encode_call(args, kwargs)) == (tuple(args), kwargs, {})


@given(st.floats(allow_nan=True))
def test_floats_keep_every_bit_that_counts(value: float) -> None:
    back = payloads.decode(payloads.encode(value))
    assert (math.isnan(back) and math.isnan(value)) or (
        back == value and math.copysign(1, back) == math.copysign(1, value)
    )


def _decode_or_refuse(data: bytes) -> None:
    try:
        payloads.decode(data)
    except CannotDecode:
        return


@given(st.binary(max_size=200))
def test_noise_is_refused_or_is_a_value(data: bytes) -> None:
    _decode_or_refuse(data)


SEEDS = [
    payloads.encode([1, (2, {3: {4.5}}), "text", b"binary", 2**80]),
    payloads.encode([np.arange(6.0).reshape(2, 3), np.float32(1), np.array(["a"])]),
    payloads.encode(pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])})),
    payloads.encode(pd.Series([1.5, 2.5], index=pd.date_range("2024-01-01", periods=2, tz="Europe/Berlin"))),
    payloads.encode([pd.Timestamp("2024-01-01", tz="UTC"), pd.Timedelta(1, unit="s"), pd.NA]),
]


PROMISES = [b"\xdd\x7f\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc9\x7f\xff\xff\xff\x10"]
"""Beginnings of an array, a map, an extension of two thousand million."""


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS) | values.map(payloads.encode)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 4)))
        data[at:end] = draw(st.binary(max_size=6) | st.sampled_from(PROMISES))
    return bytes(data)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(mutated())
def test_mutated_bytes_are_refused_or_are_a_value(data: bytes) -> None:
    _decode_or_refuse(data)


def test_memory_stays_near_the_input() -> None:
    """The inputs that cost most: the smallest containers, and lengths that promise far more than there is."""
    size = 200_000
    inputs = [
        b"\xdd" + size.to_bytes(4, "big") + b"\x80" * size,
        b"\xdd" + size.to_bytes(4, "big") + b"\x90" * size,
        b"\xdd\x7f\xff\xff\xff" * 900,
        b"\xdf\x7f\xff\xff\xff" + b"\x01" * size,
        b"\xdd\x00\x02\x00\x00" * 900 + b"\x01" * size,
    ]
    for data in inputs:
        _decode_or_refuse(b"\x80")  # whatever is made once must not be counted
        tracemalloc.start()
        try:
            _decode_or_refuse(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MEMORY_PER_BYTE * len(data) + 100_000
