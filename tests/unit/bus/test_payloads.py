"""Users' values to bytes and back: every type, every refusal, every limit."""

from __future__ import annotations

import dataclasses
import enum
import math
import socket
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import msgspec
import pytest

from headway_bus import payloads
from headway_bus.errors import CannotDecode, CannotEncode, TooLarge
from headway_bus.payload_types import Extension

BERLIN = ZoneInfo("Europe/Berlin")

VALUES: list[Any] = [
    None,
    True,
    -1,
    2**64,
    -(2**63) - 1,
    -(2**200),
    2**200,
    1.5,
    math.inf,
    "grüße",
    b"\x00\xff",
    1 - 2j,
    [1, [2, []]],
    (1, (2, ()), [3]),
    {1, 2},
    frozenset([(1, 2), "a"]),
    {"a": 1, 2: (3,), (1, "x"): None, 1.5: {}, b"k": [], None: 0, date(2024, 1, 1): 1},
    Decimal("-1.50E+40"),
    UUID(int=7),
    datetime(2024, 2, 29, 12, 30, 1, 999_999),
    datetime(1, 1, 1),
    datetime.max,
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30, microseconds=7))),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    date.min,
    time(23, 59, 59, 999_999),
    time(1, 2, tzinfo=UTC),
    time(1, 2, tzinfo=BERLIN),
    timedelta.max,
    timedelta(days=-1, microseconds=1),
    Path("a/ü/../b"),
    Path("not\udcffutf8"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_value_comes_back_as_it_was(value: Any) -> None:
    back = payloads.decode(payloads.encode(value))
    assert back == value
    assert type(back) is type(value)


def test_types_inside_containers_are_kept() -> None:
    back = payloads.decode(payloads.encode([(1,), {2}, {"k": (3,)}]))
    assert [type(part) for part in back] == [tuple, set, dict]
    assert type(back[2]["k"]) is tuple


def test_fold_and_zone_are_kept() -> None:
    back = payloads.decode(payloads.encode(datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)))
    assert back.fold == 1
    assert back.tzinfo is BERLIN
    assert back.utcoffset() == timedelta(hours=1)


def test_instant_is_kept_when_the_zone_is_not_known_here() -> None:
    sent = payloads.encode(datetime(2024, 7, 1, 12, tzinfo=BERLIN))
    back = payloads.decode(sent.replace(b"Europe/Berlin", b"Europe/Bxrlin"))
    assert back == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert back.utcoffset() == timedelta(hours=2)


def test_instant_is_kept_when_the_zones_rules_differ_here() -> None:
    sent = payloads.encode(datetime(2024, 7, 1, 12, tzinfo=BERLIN))
    back = payloads.decode(sent.replace(b"Europe/Berlin", b"Europe/London"))
    assert back == datetime(2024, 7, 1, 10, tzinfo=UTC)


def test_time_of_an_unknown_zone_is_refused() -> None:
    sent = payloads.encode(time(12, tzinfo=BERLIN))
    with pytest.raises(CannotDecode, match="Europe/Bxrlin"):
        payloads.decode(sent.replace(b"Europe/Berlin", b"Europe/Bxrlin"))


def test_bytearray_and_memoryview_come_back_as_bytes() -> None:
    assert payloads.decode(payloads.encode([bytearray(b"ab"), memoryview(b"cd")])) == [b"ab", b"cd"]


def test_timestamp_of_msgpack_is_read() -> None:
    assert payloads.decode(msgpack.packb(msgpack.Timestamp(5))) == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_decoded(kind: Any) -> None:
    assert payloads.decode(kind(payloads.encode((1, "a")))) == (1, "a")


# ------------------------------------------------------------------------------------------------------ refusals


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int


class Row(msgspec.Struct):
    x: int


Pair = namedtuple("Pair", "a b")


class Word(str):
    pass


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Colour.RED, r"send its \.value or its \.name"),
        (Point(1), r"send dataclasses\.asdict\(value\)"),
        (Row(1), r"send msgspec\.structs\.asdict\(value\)"),
        (ValueError("x"), r"send str\(error\)"),
        (Pair(1, 2), r"send tuple\(value\) or value\._asdict\(\)"),
        (len, "code travels as a target"),
        (Point, "code travels as a target"),
        (range(3), r"send list\(value\)"),
        (iter([1]), r"send list\(value\)"),
        (Word("a"), "as a subclass of str .* send it as a str"),
        (OrderedDict(), "as a subclass of dict .* send it as a dict"),
        (object(), "an object has no form on the wire; supported: None, bool, int"),
        ("\ud800", "lone surrogates"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refusal_says_what_to_do(value: Any, advice: str) -> None:
    with pytest.raises(CannotEncode, match=f"^the value: .*{advice}"):
        payloads.encode(value)


def test_refusal_names_the_place() -> None:
    with socket.socket() as unsendable:
        with pytest.raises(
            CannotEncode, match=r"^argument 2, key 'x', item 3: a socket\.socket has no form on the wire"
        ):
            payloads.encode_call([0, {"x": [1, 2, 3, unsendable]}], {})
        with pytest.raises(CannotEncode, match=r"^argument 'way', item 1, a member: "):
            payloads.encode_call([0], {"way": (0, {unsendable})})
        with pytest.raises(CannotEncode, match=r"^params, key 'p': "):
            payloads.encode_call([], {}, {"params": {"p": unsendable}})
        with pytest.raises(CannotEncode, match=r"^the result, the key \(1, .* itself, item 1: "):
            payloads.encode({(1, unsendable): 1}, what="the result")


def test_refusal_beside_something_bulky_names_the_place() -> None:
    with pytest.raises(CannotEncode, match=r"^argument 2, item 0: an object has"):
        payloads.encode_call([bytes(payloads.BULK), [object()]], {})


def test_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CannotEncode, match="holding itself"):
        payloads.encode(endless)
    with pytest.raises(CannotEncode, match="holding itself"):
        payloads.encode_call([(endless,)], {})


def _nested(levels: int, wrap: Any) -> Any:
    value: Any = wrap([])
    for _ in range(levels - 1):
        value = wrap([value])
    return value


def test_nesting_is_limited_both_ways() -> None:
    deepest = _nested(payloads.MAX_NESTING, tuple)
    data = payloads.encode(deepest)
    assert payloads.decode(data) == deepest
    with pytest.raises(CannotEncode, match="64 tuples"):
        payloads.encode((deepest,))
    with pytest.raises(CannotDecode, match="nested too deeply"):
        payloads.decode(msgpack.packb(msgpack.ExtType(Extension.TUPLE, b"\x91" + data)))
    lists = _nested(500, list)
    assert payloads.decode(payloads.encode(lists)) == lists
    with pytest.raises(CannotEncode, match="500 lists"):
        payloads.encode(_nested(1100, list))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01", b"\xdd\x00\x00\x00\x01"])
def test_depth_of_ten_thousand_is_refused(opening: bytes) -> None:
    with pytest.raises(CannotDecode, match="nested too deeply"):
        payloads.decode(opening * 10_000 + b"\x01")


def test_depth_is_refused_where_the_interpreters_guard_is_off() -> None:
    """In a process of its own: a failure here is a segmentation fault."""
    program = (
        "import sys; sys.setrecursionlimit(10**6)\n"
        "from headway_bus import payloads, errors\n"
        "for data in (b'\\x91' * 2_000_000 + b'\\x01', b'\\x81\\x01' * 2_000_000):\n"
        "    try: payloads.decode(data)\n"
        "    except errors.CannotDecode as error: assert 'deeply' in str(error), error\n"
        "    else: raise SystemExit('it was accepted')\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_too_large_says_what_the_limit_is_and_how_to_move_it() -> None:
    with pytest.raises(TooLarge, match=r"the result: 103 bytes .* 100 .*payload_limit.*HEADWAY_BUS_PAYLOAD_LIMIT"):
        payloads.encode("x" * 101, limit=100, what="the result")
    with pytest.raises(TooLarge, match="the arguments: "):
        payloads.encode_call(["x" * 101], {}, limit=100)
    with pytest.raises(TooLarge, match="the arguments: "):
        payloads.encode_call([bytes(payloads.BULK)], {}, limit=100)


def test_limit_itself_is_allowed() -> None:
    assert len(payloads.encode("x" * 98, limit=100)) == 100


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b"\x01\x02", "trailing"),
        (b"\xc1", "0 bytes|1 bytes"),
        (b"\xdd\xff\xff\xff\xff", "truncated"),
        (b"\xc6\xff\xff\xff\xff", "truncated"),
        (b"\xa1\xff", "utf-8"),
        (b"\x81\x81\x01\x01\x01", "hashable"),
        (msgpack.packb(msgpack.ExtType(99, b"")), "extension type 99 is not known"),
        (msgpack.packb(msgpack.ExtType(Extension.TUPLE, b"\x01")), "expected an array"),
        (msgpack.packb(msgpack.ExtType(Extension.SET, b"\x91\x90")), "unhashable"),
        (msgpack.packb(msgpack.ExtType(Extension.DECIMAL, b"1.x")), "decimal|Conversion"),
        (msgpack.packb(msgpack.ExtType(Extension.UUID, b"1")), "16"),
        (msgpack.packb(msgpack.ExtType(Extension.DATE, b"\x7f\xff\xff\xff")), "greater than maximum|ordinal"),
        (msgpack.packb(msgpack.ExtType(Extension.DATETIME, b"\x7f" + bytes(16))), "out of range"),
        (msgpack.packb(msgpack.ExtType(Extension.TIME, b"\xff" * 8 + bytes(9))), "not a time of day"),
        (msgpack.packb(msgpack.ExtType(Extension.TIME, bytes(8) + b"\x80" + bytes(8))), "flags"),
        (msgpack.packb(msgpack.ExtType(Extension.COMPLEX, b"")), "buffer of 16 bytes"),
    ],
)
def test_bytes_that_are_no_value(data: bytes, why: str) -> None:
    with pytest.raises(CannotDecode, match=why):
        payloads.decode(data)


def test_zone_names_cannot_climb_out_of_their_folder() -> None:
    sent = payloads.encode(datetime(2024, 7, 1, 12, tzinfo=BERLIN))
    back = payloads.decode(sent.replace(b"Europe/Berlin", b"../../etc/pas"))
    assert back.tzinfo == timezone(timedelta(hours=2))


# ------------------------------------------------------------------------------------------------------ calls


def test_call_comes_back() -> None:
    data = payloads.encode_call((1, (2,)), {"k": {3}}, {"cwd": "/tmp", "env": {"A": "b"}, "params": {"p": 1.5}})
    assert payloads.decode_call(data) == (
        (1, (2,)),
        {"k": {3}},
        {"cwd": "/tmp", "env": {"A": "b"}, "params": {"p": 1.5}},
    )


def test_smallest_call() -> None:
    assert payloads.encode_call([], {}) == b"\x93\x90\x80\x80"
    assert payloads.decode_call(b"\x93\x90\x80\x80") == ((), {}, {})


@pytest.mark.parametrize("data", [b"\x01", b"\x90", b"\x92\x90\x80", b"\x93\x80\x80\x80", b"\x93\x90\x81\x01\x01\x80"])
def test_payload_that_is_no_call(data: bytes) -> None:
    with pytest.raises(CannotDecode, match=r"payload|names"):
        payloads.decode_call(data)


def test_bulky_bytes_travel_inside_anything() -> None:
    bulk = bytes(payloads.BULK)
    for value in (bulk, bytearray(bulk), [bulk, 1], {"k": (bulk, {"n": bulk})}, [[], [bulk]]):
        assert payloads.decode(payloads.encode(value)) == value
    assert payloads.decode_call(payloads.encode_call([bulk, 1], {"k": (bulk,)})) == ((bulk, 1), {"k": (bulk,)}, {})


def test_threads_encode_at_the_same_time() -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        for at in range(200):
            value = (number, [at, (at, {at})])
            if payloads.decode(payloads.encode(value)) != value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ------------------------------------------------------------------------------------------------------ by value


def test_code_by_value_comes_back() -> None:
    step = 3
    function, args, kwargs = payloads.decode_by_value(payloads.encode_by_value(lambda x: x + step, [1], {"k": 2}))
    assert function(4) == 7
    assert (args, kwargs) == ((1,), {"k": 2})


def test_code_by_value_needs_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(CannotEncode, match=r"pip install 'headway\[pickle\]'"):
        payloads.encode_by_value(len, [], {})


def test_by_value_refuses_what_cannot_be_pickled_and_what_is_too_large() -> None:
    with pytest.raises(CannotEncode, match="cannot be pickled"):
        payloads.encode_by_value(len, [threading.Lock()], {})
    with pytest.raises(TooLarge):
        payloads.encode_by_value(len, ["x" * 100], {}, limit=100)


def test_by_value_refuses_bytes_that_are_no_call() -> None:
    with pytest.raises(CannotDecode, match="cannot be unpickled"):
        payloads.decode_by_value(b"nonsense")
    with pytest.raises(CannotDecode, match="a function, its arguments"):
        payloads.decode_by_value(payloads.encode_result_by_value(1))
    with pytest.raises(CannotDecode, match="needs a module that is not here"):
        payloads.decode_by_value(b"cno_such_module\nf\n.")
