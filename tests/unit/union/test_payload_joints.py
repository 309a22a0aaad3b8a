"""Calls that are put together from encoded values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway_bus import payloads
from headway_bus.errors import CannotDecode
from headway_bus.payload_joints import list_call, replace_first

values = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary() | st.just(datetime(2020, 1, 2, tzinfo=UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)


@given(st.lists(values, max_size=20))
def test_a_list_of_encoded_values_is_the_call_with_that_list(found: list[Any]) -> None:
    joined = list_call([payloads.encode(value) for value in found])
    assert payloads.decode_call(joined) == ((found,), {}, {})


@pytest.mark.parametrize("count", [0, 15, 16, 65_535, 65_536])
def test_of_any_length(count: int) -> None:
    (found,), _, _ = payloads.decode_call(list_call([b"\x01"] * count))
    assert found == [1] * count


def test_an_empty_result_is_none() -> None:
    assert payloads.decode_call(list_call([b"", b"\x02"])) == (([None, 2],), {}, {})


@given(st.lists(values, min_size=1, max_size=20), st.dictionaries(st.text(min_size=1), values, max_size=3), values)
def test_only_the_first_argument_is_replaced(args: list[Any], named: dict[str, Any], value: Any) -> None:
    call = payloads.encode_call(args, named, {"cwd": "x"})
    assert payloads.decode_call(replace_first(call, payloads.encode(value))) == (
        (value, *args[1:]),
        named,
        {"cwd": "x"},
    )


@pytest.mark.parametrize("call", [payloads.encode_call([], {"a": 1}), b"", b"\x93", b"\x93\x91", b"\x01", b"\xff" * 9])
def test_what_has_no_first_argument_is_refused(call: bytes) -> None:
    with pytest.raises(CannotDecode):
        replace_first(call, b"\x01")
