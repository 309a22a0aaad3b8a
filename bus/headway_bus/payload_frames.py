"""pandas Series, DataFrame and Index as extension types. Importing this file imports pandas.

Everything is taken apart into numpy arrays and plain values, which then travel as those do: no pickle, no Arrow. A
column is ``[form, …]`` with one of the forms of :data:`_COLUMNS`. Not kept: ``attrs``, flags, and memory layout.

Every array of a structure is checked to be one: a RangeIndex has items too, 10¹² of them if its sender likes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import Any

import numpy as np
import pandas as pd

from headway_bus.errors import CannotEncode
from headway_bus.payload_types import Extension, Form, find_zone, fixed_zone, offset_of, zone_key

# ------------------------------------------------------------------------------------------------------ columns


def _take_column(values: Any) -> list[Any]:
    """One-dimensional data of a Series, a column or an Index, as ``[form, …]``."""
    dtype = values.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        naive = values.tz_convert("UTC").tz_localize(None) if isinstance(values, pd.Index) else None
        naive = naive if naive is not None else values.dt.tz_convert("UTC").dt.tz_localize(None)
        return ["zoned", naive.to_numpy(), *_take_zone(dtype.tz)]
    if isinstance(dtype, pd.CategoricalDtype):
        codes = np.asarray(values.codes if isinstance(values, pd.Index) else values.cat.codes)
        return ["category", _take_column(dtype.categories), codes, bool(dtype.ordered)]
    if isinstance(dtype, pd.StringDtype):
        texts = [None if missing else text for text, missing in zip(values, values.isna(), strict=True)]
        return ["text", "str" if str(dtype) == "str" else "string", texts]
    if isinstance(dtype, np.dtype):
        return ["objects", list(values)] if dtype.hasobject else ["plain", values.to_numpy()]
    if _is_masked(dtype):
        missing = np.asarray(values.isna())
        filled = values.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return ["masked", str(dtype), filled, missing]
    raise CannotEncode(f"pandas data of dtype {dtype} has no form on the wire; use astype() to a plain dtype first")


_MASKED = frozenset(
    ["boolean", "Float32", "Float64", *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))]
)


def _is_masked(dtype: Any) -> bool:
    return str(dtype) in _MASKED and hasattr(dtype, "numpy_dtype")


def _take_zone(zone: tzinfo) -> list[Any]:
    """[name, microseconds east of UTC]: the offset counts where there is no name, and None means that it varies."""
    if key := zone_key(zone):
        return [key, None]
    offset = offset_of(pd.Timestamp(0, tz=zone))
    if zone.utcoffset(None) is None:
        raise CannotEncode(f"the time zone {zone} has no name that another machine knows; use tz_convert(zoneinfo)")
    return ["", offset]


def _build_zone(key: str, offset: int | None) -> tzinfo:
    if offset is not None:
        return fixed_zone(offset)
    zone = find_zone(key)
    if zone is None:
        raise ValueError(f"the time zone {key!r} is not known here")
    return zone


def _build_plain(values: Any) -> Any:
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise ValueError("a column is an array of one dimension")
    return values


def _build_zoned(values: Any, key: str, offset: int | None) -> Any:
    return pd.DatetimeIndex(_build_plain(values)).tz_localize("UTC").tz_convert(_build_zone(key, offset)).array


def _build_category(categories: list[Any], codes: Any, ordered: bool) -> Any:
    dtype = pd.CategoricalDtype(_indexed(categories), ordered=ordered)
    return pd.Categorical.from_codes(_build_plain(codes), dtype=dtype)


def _build_text(dtype: str, texts: list[str | None]) -> Any:
    if dtype not in ("str", "string") or not all(text is None or type(text) is str for text in _build_list(texts)):
        raise ValueError("a column of text holds text and nothing else")
    # Before pandas 3, "str" meant str(value) of each: None became "None".
    name = "object" if dtype == "str" and int(pd.__version__.split(".")[0]) < 3 else dtype
    return pd.Series(texts, dtype=name).array


def _build_list(values: Any) -> list[Any]:
    if type(values) is not list:
        raise ValueError(f"expected an array, found {type(values).__name__}")
    return values


def _build_objects(values: list[Any]) -> Any:
    column = np.empty(len(_build_list(values)), dtype=object)
    column[:] = values
    return column


def _build_masked(dtype: str, values: Any, missing: Any) -> Any:
    if dtype not in _MASKED:
        raise ValueError(f"{dtype!r} is not a dtype with missing values")
    column = pd.array(_build_plain(values), dtype=dtype)
    column[_build_plain(missing).astype(bool)] = pd.NA
    return column


_COLUMNS: dict[str, Callable[..., Any]] = {
    "plain": _build_plain,
    "zoned": _build_zoned,
    "category": _build_category,
    "text": _build_text,
    "objects": _build_objects,
    "masked": _build_masked,
}


def _build_column(column: Any) -> Any:
    form, *parts = _build_list(column)
    return _COLUMNS[form](*parts)


def _dtype(values: Any) -> Any:
    """Objects are said to be objects, or pandas would look into them and make text or dates of them."""
    return object if isinstance(values, np.ndarray) and values.dtype == object else None


def _indexed(column: Any, name: Any = None) -> Any:
    values = _build_column(column)
    return pd.Index(values, dtype=_dtype(values), name=name)


def _as_series(column: Any, index: Any = None, name: Any = None) -> Any:
    values = _build_column(column)
    return pd.Series(values, dtype=_dtype(values), index=index, name=name)


# ------------------------------------------------------------------------------------------------------ indexes


def _take_index(index: Any) -> list[Any]:
    """``["range", start, stop, step, name]``, ``["levels", [column…], [name…]]``, ``["index", column, name, freq]``."""
    if isinstance(index, pd.RangeIndex):
        return ["range", index.start, index.stop, index.step, index.name]
    if isinstance(index, pd.MultiIndex):
        levels = [_take_column(index.get_level_values(at)) for at in range(index.nlevels)]
        return ["levels", levels, list(index.names)]
    return ["index", _take_column(index), index.name, getattr(index, "freqstr", None)]


def _build_range(start: int, stop: int, step: int, name: Any) -> Any:
    return pd.RangeIndex(start, stop, step, name=name)


def _build_levels(levels: list[Any], names: list[Any]) -> Any:
    return pd.MultiIndex.from_arrays([_indexed(level) for level in _build_list(levels)], names=names)


def _build_flat(column: Any, name: Any, freq: str | None) -> Any:
    index = _indexed(column, name)
    if freq is not None and isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
        index.freq = freq  # checked by pandas against the values
    return index


_INDEXES: dict[str, Callable[..., Any]] = {"range": _build_range, "levels": _build_levels, "index": _build_flat}


def _build_index(index: Any) -> Any:
    form, *parts = _build_list(index)
    return _INDEXES[form](*parts)


# ------------------------------------------------------------------------------------------------------ containers


def _take_series(series: Any) -> list[Any]:
    return [_take_column(series), _take_index(series.index), series.name]


def _build_series(parts: Any) -> Any:
    column, index, name = _build_list(parts)
    return _as_series(column, _build_index(index), name)


def _take_frame(frame: Any) -> list[Any]:
    columns = [_take_column(frame.iloc[:, at]) for at in range(frame.shape[1])]
    return [columns, _take_index(frame.index), _take_index(frame.columns)]


def _build_frame(parts: Any) -> Any:
    columns, index, names = _build_list(parts)
    built_index, built_names = _build_index(index), _build_index(names)
    if len(_build_list(columns)) != len(built_names):
        raise ValueError(f"{len(columns)} columns and {len(built_names)} names of columns")
    # By number first: names may occur twice, which a dict would not survive.
    frame = pd.DataFrame({at: _as_series(column) for at, column in enumerate(columns)})
    if not columns:
        frame = pd.DataFrame(index=built_index)
    frame.index, frame.columns = built_index, built_names
    return frame


# ------------------------------------------------------------------------------------------------------ scalars


def _take_scalar(value: Any) -> list[Any]:
    """``["missing"]``, ``["no time"]``, ``["span", value, unit]`` or ``["moment", value, unit, zone, offset]``."""
    if value is pd.NA:
        return ["missing"]
    if value is pd.NaT:
        return ["no time"]
    if isinstance(value, pd.Timedelta):
        return ["span", value.asm8.astype(np.int64).item(), value.unit]
    zone = [] if value.tz is None else _take_zone(value.tz)
    return ["moment", value.asm8.astype(np.int64).item(), value.unit, *zone]


def _build_scalar(parts: Any) -> Any:
    form, *rest = _build_list(parts)
    if form == "missing" and not rest:
        return pd.NA
    if form == "no time" and not rest:
        return pd.NaT
    value, unit, *zone = rest
    if type(value) is not int or unit not in ("s", "ms", "us", "ns"):
        raise ValueError(f"{value!r} {unit!r} is not a time of pandas")
    if form == "span":
        return pd.Timedelta(np.timedelta64(value, unit))
    if form != "moment":
        raise ValueError(f"{form!r} is not a scalar of pandas")
    moment = pd.Timestamp(np.datetime64(value, unit))
    return moment.tz_localize("UTC").tz_convert(_build_zone(*zone)) if zone else moment


SERIES = Form(Extension.SERIES, True, _take_series, _build_series)
FRAME = Form(Extension.FRAME, True, _take_frame, _build_frame)
INDEX = Form(Extension.INDEX, True, _take_index, _build_index)
SCALAR = Form(Extension.PANDAS_SCALAR, True, _take_scalar, _build_scalar)
ALL = (SERIES, FRAME, INDEX, SCALAR)

_KINDS: dict[type, Form] = {pd.Series: SERIES, pd.DataFrame: FRAME, pd.MultiIndex: INDEX, pd.RangeIndex: INDEX}
_KINDS |= dict.fromkeys([pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.CategoricalIndex], INDEX)
_KINDS |= dict.fromkeys([pd.Timestamp, pd.Timedelta, type(pd.NaT), type(pd.NA)], SCALAR)


def find_form(kind: type) -> Form | None:
    """The form of one of pandas' own classes, None where it has none (a Period, an Interval)."""
    return _KINDS.get(kind)
