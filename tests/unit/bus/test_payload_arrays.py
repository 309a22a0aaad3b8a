"""numpy and pandas values on the wire."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
import pandas as pd
import pytest

from headway_bus import payloads
from headway_bus.errors import CannotDecode, CannotEncode, TooLarge
from headway_bus.payload_types import Extension

ARRAYS = [
    np.arange(6, dtype=dtype).reshape(2, 3)
    for dtype in ("i1", "u1", "<i2", ">i4", "<i8", "<u8", "<f2", ">f4", "<f8", "<c8", ">c16")
] + [
    np.array([True, False]),
    np.array(3.5),
    np.zeros((0, 3)),
    np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    np.array([1, 2], dtype="m8[ns]"),
    np.array(["a", "grün"]),
    np.array([b"ab", b"c"]),
    np.arange(12).reshape(3, 4).T,
    np.arange(10)[::2],
    np.zeros((1,) * 32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}"[:40])
def test_array_comes_back_and_can_be_written_to(array: Any) -> None:
    back = payloads.decode(payloads.encode(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable
    assert back.flags.aligned
    assert back.base is None or back.base.flags.owndata


SCALARS = [
    np.float64(1.5),
    np.float32(2.5),
    np.int8(-3),
    np.uint64(2**64 - 1),
    np.bool_(True),
    np.str_("ü"),
    np.complex64(1j),
]
SCALARS += [np.datetime64("2024-01-01T00:00", "m"), np.timedelta64(5, "s"), np.bytes_(b"ab")]


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_scalar_comes_back_as_the_same_type(scalar: Any) -> None:
    back = payloads.decode(payloads.encode(scalar))
    assert type(back) is type(scalar)
    assert back == scalar
    assert back.dtype == scalar.dtype


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.zeros(2, dtype=[("a", "i4")]),
        np.zeros(2, dtype=np.longdouble),
        np.array(["a"], dtype=np.dtypes.StringDType()) if hasattr(np.dtypes, "StringDType") else np.array([None]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_array_without_a_form_is_refused(array: Any) -> None:
    with pytest.raises(CannotEncode, match=r"item 1: a numpy\.ndarray of dtype .* use astype\(\), or send tolist\(\)"):
        payloads.encode([1, array])


def test_masked_array_is_refused_and_memmap_is_not(tmp_path: Path) -> None:
    with pytest.raises(CannotEncode, match="MaskedArray has no form"):
        payloads.encode(np.ma.masked_array([1, 2], [True, False]))
    mapped = np.memmap(tmp_path / "data", dtype="i4", mode="w+", shape=(3,))
    np.testing.assert_array_equal(payloads.decode(payloads.encode(mapped)), np.zeros(3, dtype="i4"))


def _with_bytes(value: Any) -> Any:
    """``value`` with bytes for its arrays, so that == is one answer."""
    if isinstance(value, dict):
        return {key: _with_bytes(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_bytes, value))
    return (value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value


def test_bulky_array_travels_inside_anything() -> None:
    bulk = np.arange(payloads.BULK // 4, dtype="<i4")
    for value in ([1, (bulk, {"k": bulk})], {"a": [bulk], "b": 1}):
        assert _with_bytes(payloads.decode(payloads.encode(value))) == _with_bytes(value)
    with pytest.raises(TooLarge):
        payloads.encode([bulk], limit=1000)
    with pytest.raises(CannotEncode, match=r"^argument 2, item 1: an object"):
        payloads.encode_call([bulk, (bulk, object())], {})


def _array(dtype: Any, shape: Any, elements: Any) -> bytes:
    return msgpack.packb(msgpack.ExtType(Extension.ARRAY, msgspec.msgpack.encode([dtype, shape, elements])))


@pytest.mark.parametrize(
    "data",
    [
        _array("|O", [1], bytes(8)),
        _array("O", [1], bytes(8)),
        _array("<f8", [2**40], bytes(8)),
        _array("<f8", [-1], bytes(8)),
        _array("<f8", [-1, -1], bytes(8)),
        _array("<f8", [1] * 33, bytes(8)),
        _array("<f8", [2**63, 0], b""),
        _array("<f8", [2**62, 2**62, 0], b""),
        _array("<f8", [1.0], bytes(8)),
        _array("<U0", [2**40], b""),
        _array("|S999999999", [2**30], b""),
        _array("|V8", [1], bytes(8)),
        _array("<f8,<f8", [1], bytes(16)),
        _array("<M8[99999999999Y]", [1], bytes(8)),
        _array([["a", "<f8"]], [1], bytes(8)),
        _array("<f8", [1], "12345678"),
        _array("<f8", 1, bytes(8)),
        msgpack.packb(msgpack.ExtType(Extension.SCALAR, msgspec.msgpack.encode(["<f8", [1], bytes(8)]))),
        msgpack.packb(msgpack.ExtType(Extension.ARRAY, b"")),
    ],
)
def test_hostile_array_is_refused(data: bytes) -> None:
    with pytest.raises(CannotDecode):
        payloads.decode(data)


# ------------------------------------------------------------------------------------------------------ pandas

COLUMNS = {
    "ints": pd.Series([1, 2, 3], dtype="int32"),
    "floats": pd.Series([1.5, float("nan"), 2]),
    "flags": pd.Series([True, False, True]),
    "texts": pd.Series(["a", None, "ü"]),
    "strings": pd.Series(["a", None, "ü"], dtype="string"),
    "objects": pd.Series([1, "a", None], dtype=object),
    "only texts as objects": pd.Series(["a", "b", "c"], dtype=object),
    "moments": pd.Series(pd.to_datetime(["2024-01-01", None, "2024-01-03"])),
    "zoned": pd.Series(pd.date_range("2024-10-26", periods=3, tz="Europe/Berlin")),
    "utc": pd.Series(pd.date_range("2024-10-26", periods=3, tz="UTC")),
    "fixed": pd.Series(pd.date_range("2024-10-26", periods=3, tz=timezone(timedelta(hours=2)))),
    "spans": pd.Series(pd.to_timedelta([1, 2, 3], unit="s")),
    "categories": pd.Series(["x", "y", None], dtype="category"),
    "number categories": pd.Series([3, 1, 3], dtype="category"),
    "missing ints": pd.Series([1, None, 3], dtype="Int64"),
    "missing flags": pd.Series([True, None, False], dtype="boolean"),
    "missing floats": pd.Series([1.5, None, 3], dtype="Float64"),
    "tuples": pd.Series([(1, 2), (3,), ()], dtype=object),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_series_comes_back(name: str) -> None:
    series = COLUMNS[name].rename(name)
    pd.testing.assert_series_equal(payloads.decode(payloads.encode(series)), series)


def test_frame_comes_back() -> None:
    frame = pd.DataFrame(COLUMNS)
    pd.testing.assert_frame_equal(payloads.decode(payloads.encode(frame)), frame)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1, 2.5]], columns=["same", "same"]),
        pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", None])),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", 1), ("x", 2)])),
        pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2024-01-07", periods=3, freq="W-SUN", name="week")),
        pd.DataFrame({"a": range(200_000), "b": "text"}),
    ],
    ids=["empty", "no columns", "no rows", "same names", "levels", "column levels", "weekly", "bulky"],
)
def test_frames_of_every_shape_come_back(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(payloads.decode(payloads.encode(frame)), frame)


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(2, 10, 2, name="r"),
        pd.Index([1.5, 2.5], name=("a", 1)),
        pd.Index(["a", "b"]),
        pd.CategoricalIndex(["a", "b"]),
        pd.timedelta_range("1h", periods=3, freq="h"),
        pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin"),
    ],
    ids=repr,
)
def test_index_comes_back(index: pd.Index) -> None:
    back = payloads.decode(payloads.encode(index))
    pd.testing.assert_index_equal(back, index)
    assert getattr(back, "freq", None) == getattr(index, "freq", None)


@pytest.mark.parametrize(
    "scalar",
    [
        pd.Timestamp("2024-01-01T00:00:00.123456789"),
        pd.Timestamp("2024-07-01", tz="Europe/Berlin"),
        pd.Timestamp("2024-07-01", tz="UTC"),
        pd.Timedelta("1 days 00:00:00.000000001"),
        pd.NaT,
        pd.NA,
    ],
    ids=repr,
)
def test_pandas_scalar_comes_back(scalar: Any) -> None:
    back = payloads.decode(payloads.encode([scalar]))[0]
    assert type(back) is type(scalar)
    assert repr(back) == repr(scalar)
    assert getattr(back, "unit", None) == getattr(scalar, "unit", None)


def test_pandas_without_a_form_is_refused() -> None:
    with pytest.raises(CannotEncode, match="dtype period"):
        payloads.encode(pd.Series(pd.period_range("2024-01", periods=2, freq="M")))
    with pytest.raises(CannotEncode, match="an object has no form"):
        payloads.encode(pd.Series([object()], dtype=object))
    with pytest.raises(CannotEncode, match="Period has no form"):
        payloads.encode(pd.Period("2024-01"))


def _extension(code: Extension, parts: Any) -> bytes:
    return msgpack.packb(msgpack.ExtType(code, payloads.encode(parts)))


HUGE = pd.RangeIndex(10**12)


@pytest.mark.parametrize(
    "data",
    [
        _extension(Extension.SERIES, []),
        _extension(Extension.SERIES, 5),
        _extension(Extension.SERIES, [["objects", HUGE], ["range", 0, 1, 1, None], None]),
        _extension(Extension.SERIES, [["text", "str", HUGE], ["range", 0, 1, 1, None], None]),
        _extension(Extension.SERIES, [["plain", HUGE], ["range", 0, 1, 1, None], None]),
        _extension(Extension.SERIES, [["plain", 1], ["range", 0, 10**12, 1, None], None]),
        _extension(Extension.SERIES, [["plain", np.zeros(1)], ["range", 0, 10**12, 1, None], None]),
        _extension(Extension.SERIES, [["category", HUGE, np.zeros(1, "i1"), False], ["range", 0, 1, 1, None], None]),
        _extension(Extension.SERIES, [["masked", "object", np.zeros(1), np.zeros(1)], ["range", 0, 1, 1, None], None]),
        _extension(Extension.SERIES, [["zoned", np.zeros(1, "M8[ns]"), "../x", None], ["range", 0, 1, 1, None], None]),
        _extension(
            Extension.FRAME, [[["plain", np.zeros(1)]], ["range", 0, 10**12, 1, None], ["range", 0, 1, 1, None]]
        ),
        _extension(Extension.FRAME, [[["plain", np.zeros(1)]], ["range", 0, 1, 1, None], ["range", 0, 2, 1, None]]),
        _extension(Extension.FRAME, [HUGE, ["range", 0, 1, 1, None], ["range", 0, 10**12, 1, None]]),
        _extension(Extension.FRAME, HUGE),
        _extension(Extension.INDEX, ["levels", HUGE, [None]]),
        _extension(Extension.INDEX, HUGE),
        _extension(Extension.INDEX, ["unknown"]),
        _extension(Extension.PANDAS_SCALAR, ["moment", 1, "ns", "dateutil//etc/passwd", None]),
        _extension(Extension.PANDAS_SCALAR, ["moment", 1, "years"]),
        _extension(Extension.PANDAS_SCALAR, ["else", 1, "ns"]),
    ],
)
def test_hostile_frame_is_refused(data: bytes) -> None:
    with pytest.raises(CannotDecode):
        payloads.decode(data)


def test_numpy_and_pandas_are_imported_only_when_a_value_needs_them() -> None:
    program = (
        "import sys\n"
        "from headway_bus import payloads\n"
        "payloads.decode(payloads.encode([1, (2, {3})]))\n"
        "assert 'numpy' not in sys.modules and 'pandas' not in sys.modules\n"
        f"payloads.decode({payloads.encode(np.zeros(2))!r})\n"
        "assert 'numpy' in sys.modules and 'pandas' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("package", "value"), [("numpy", np.zeros(1)), ("pandas", pd.Series([1]))])
def test_decoding_without_the_package_says_so(package: str, value: Any) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from headway_bus import errors, payloads\n"
        f"try: payloads.decode({payloads.encode(value)!r})\n"
        f"except errors.CannotDecode as error: assert 'something of {package}' in str(error), error\n"
        "else: raise SystemExit('it was decoded')\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
