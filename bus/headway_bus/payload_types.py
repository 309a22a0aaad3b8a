"""The extension types of the standard library's values, and what is said of a value that has none.

A :class:`Form` is how one kind of value looks inside a msgpack extension: either *nested* (the data is itself a value,
msgpack again) or *raw* (bytes laid out by hand). numpy's and pandas' forms are in :mod:`headway_bus.payload_arrays` and
:mod:`headway_bus.payload_frames`, which are imported only when a value needs them.

Numbers, once given, are never given again: docs/protocol.md lists them for peers in other languages.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import types
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

Buffer = bytes | memoryview


class Extension(enum.IntEnum):
    """The numbers of the extension types. Negative ones are msgpack's own: -1, a timestamp, is read and never sent."""

    TUPLE = 1
    SET = 2
    FROZENSET = 3
    COMPLEX = 4
    INTEGER = 5
    DECIMAL = 6
    UUID = 7
    DATETIME = 8
    DATE = 9
    TIME = 10
    TIMEDELTA = 11
    PATH = 12
    ARRAY = 16
    SCALAR = 17
    SERIES = 20
    FRAME = 21
    INDEX = 22
    PANDAS_SCALAR = 23


class Form(NamedTuple):
    """How a kind of value is taken apart and built again.

    ``take`` gives, if ``nested``, a value of simpler types, else the buffers whose bytes follow one another. ``build``
    gets what ``take`` gave: the value, or the bytes as one read-only view. It may raise any Exception on bad input.
    """

    code: Extension
    nested: bool
    take: Callable[[Any], Any]
    build: Callable[[Any], Any]


# ------------------------------------------------------------------------------------------------------ numbers


def _take_integer(value: int) -> list[Buffer]:
    return [value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)]


def _build_integer(data: memoryview) -> int:
    return int.from_bytes(data, "big", signed=True)


_COMPLEX = struct.Struct(">dd")


def _build_complex(data: memoryview) -> complex:
    return complex(*_COMPLEX.unpack(data))


# ------------------------------------------------------------------------------------------------------ time

_EPOCH = datetime(1970, 1, 1)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_DAY = struct.Struct(">i")
_SPAN = struct.Struct(">iq")  # days, microseconds of the day: a timedelta's range does not fit into 64 bits
_CLOCK = struct.Struct(">qBq")  # microseconds, flags, microseconds east of UTC; the zone's name follows
_FOLD = 1
_HAS_OFFSET = 2


def zone_key(zone: tzinfo | None) -> str:
    """The IANA name of a time zone; empty where it has none that another machine would know."""
    return (zone.key or "") if isinstance(zone, ZoneInfo) else ""


def offset_of(moment: datetime | time) -> int | None:
    """Microseconds east of UTC, None where that is not known."""
    offset = moment.utcoffset()
    return None if offset is None else offset // _MICROSECOND


def fixed_zone(offset: int) -> timezone:
    """The zone that is always ``offset`` microseconds east of UTC."""
    return timezone(timedelta(microseconds=offset))


def find_zone(key: str) -> ZoneInfo | None:
    """The zone of that name, if this machine knows it. ZoneInfo itself refuses names that climb out of its folder."""
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, LookupError):
        return None


def _clock(microseconds: int, moment: datetime | time) -> list[Buffer]:
    offset = offset_of(moment)
    flags = (_FOLD if moment.fold else 0) | (0 if offset is None else _HAS_OFFSET)
    return [_CLOCK.pack(microseconds, flags, offset or 0) + zone_key(moment.tzinfo).encode()]


def _read_clock(data: memoryview) -> tuple[int, int, int | None, str]:
    microseconds, flags, offset = _CLOCK.unpack_from(data)
    if flags & ~(_FOLD | _HAS_OFFSET):
        raise ValueError(f"flags {flags} of a time are not known")
    zone = bytes(data[_CLOCK.size :]).decode()
    return microseconds, flags & _FOLD, offset if flags & _HAS_OFFSET else None, zone


def _take_datetime(value: datetime) -> list[Buffer]:
    return _clock((value.replace(tzinfo=None) - _EPOCH) // _MICROSECOND, value)


def _build_datetime(data: memoryview) -> datetime:
    """The wall clock's reading. Where this machine's rules for the zone differ, the instant is what is kept."""
    microseconds, fold, offset, key = _read_clock(data)
    wall = (_EPOCH + timedelta(microseconds=microseconds)).replace(fold=fold)
    if offset is None:
        return wall
    zone = find_zone(key) if key else None
    if zone is not None:
        local = wall.replace(tzinfo=zone)
        if offset_of(local) == offset:
            return local
    return wall.replace(tzinfo=fixed_zone(offset))


def _take_time(value: time) -> list[Buffer]:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return _clock(seconds * 1_000_000 + value.microsecond, value)


def _build_time(data: memoryview) -> time:
    microseconds, fold, offset, key = _read_clock(data)
    if not 0 <= microseconds < 86_400_000_000:
        raise ValueError(f"{microseconds} microseconds are not a time of day")
    wall = (_EPOCH + timedelta(microseconds=microseconds)).time().replace(fold=fold)
    zone = find_zone(key) if key else None
    if zone is not None:
        return wall.replace(tzinfo=zone)
    if offset is not None:
        return wall.replace(tzinfo=fixed_zone(offset))
    if key:
        raise ValueError(f"the time zone {key!r} is not known here")
    return wall


def _take_date(value: date) -> list[Buffer]:
    return [_DAY.pack(value.toordinal() - _EPOCH_DAY)]


def _build_date(data: memoryview) -> date:
    return date.fromordinal(_DAY.unpack(data)[0] + _EPOCH_DAY)


def _take_timedelta(value: timedelta) -> list[Buffer]:
    return [_SPAN.pack(value.days, value.seconds * 1_000_000 + value.microseconds)]


def _build_timedelta(data: memoryview) -> timedelta:
    days, microseconds = _SPAN.unpack(data)
    return timedelta(days=days, microseconds=microseconds)


# ------------------------------------------------------------------------------------------------------ the table


def _listed(build: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    """``build``, given nothing but a list: ``tuple("ab")`` would work, and would not be what was sent."""

    def checked(value: Any) -> Any:
        if type(value) is not list:
            raise ValueError(f"expected an array inside, found {type(value).__name__}")
        return build(value)

    return checked


_PATH = Form(
    Extension.PATH,
    False,
    # Undecodable file names (any bytes but NUL are allowed on POSIX) travel as they are.
    lambda value: [str(value).encode("utf-8", "surrogateescape")],
    lambda data: Path(bytes(data).decode("utf-8", "surrogateescape")),
)

FORMS: dict[type, Form] = {
    tuple: Form(Extension.TUPLE, True, list, _listed(tuple)),
    set: Form(Extension.SET, True, list, _listed(set)),
    frozenset: Form(Extension.FROZENSET, True, list, _listed(frozenset)),
    complex: Form(Extension.COMPLEX, False, lambda value: [_COMPLEX.pack(value.real, value.imag)], _build_complex),
    int: Form(Extension.INTEGER, False, _take_integer, _build_integer),  # only those beyond 64 bits arrive here
    Decimal: Form(
        Extension.DECIMAL, False, lambda value: [str(value).encode()], lambda data: Decimal(str(data, "ascii"))
    ),
    UUID: Form(Extension.UUID, False, lambda value: [value.bytes], lambda data: UUID(bytes=bytes(data))),
    datetime: Form(Extension.DATETIME, False, _take_datetime, _build_datetime),
    date: Form(Extension.DATE, False, _take_date, _build_date),
    time: Form(Extension.TIME, False, _take_time, _build_time),
    timedelta: Form(Extension.TIMEDELTA, False, _take_timedelta, _build_timedelta),
    PosixPath: _PATH,
    WindowsPath: _PATH,
}

SUPPORTED = (
    "None, bool, int, float, complex, Decimal, str, bytes, list, tuple, dict, set, frozenset, datetime, date, time, "
    "timedelta, UUID, Path, numpy arrays and scalars, pandas Series, DataFrame and Index"
)


# ------------------------------------------------------------------------------------------------------ refusals


def type_name(value: Any) -> str:
    """A value's class as a person writes it: ``socket.socket``, but ``dict``, not ``builtins.dict``."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def refusal(value: Any) -> str:
    """Why a value has no form, and what to send in its place."""
    name = type_name(value)
    article = "an" if name[:1].lower() in "aeiou" else "a"
    for applies, advice in _advice(value):
        if applies:
            return f"{article} {name} has no form on the wire; {advice}"
    return f"{article} {name} has no form on the wire; supported: {SUPPORTED}"


def _advice(value: Any) -> Iterator[tuple[bool, str]]:
    """(whether it applies, what to do), the most telling first."""
    is_class = isinstance(value, type)
    yield isinstance(value, enum.Enum), "send its .value or its .name"
    yield dataclasses.is_dataclass(value) and not is_class, "send dataclasses.asdict(value)"
    yield hasattr(type(value), "__struct_fields__"), "send msgspec.structs.asdict(value)"
    yield isinstance(value, BaseException), "send str(error), or raise it: a task's own error travels as text"
    yield isinstance(value, tuple) and hasattr(value, "_asdict"), "send tuple(value) or value._asdict()"
    functions = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    yield (
        isinstance(value, functions) or is_class,
        "code travels as a target, by its import path, or by value where client and runtime allow it",
    )
    yield isinstance(value, Iterator | range), "send list(value)"
    for base in (str, int, float, bytes, bytearray, dict, list, tuple, set, frozenset, datetime):
        name = base.__name__
        yield isinstance(value, base), f"as a subclass of {name} it would not come back as it is: send it as a {name}"
    yield isinstance(value, Sequence), "send list(value)"
