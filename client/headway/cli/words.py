"""How lengths of time, moments, sizes and estimates are written for people, and how records become plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec

from headway.cli.output import NOTHING
from headway_bus.ids import ID_BYTES, text_of
from headway_bus.records import Estimate

UNKNOWN = "unknown"


def duration(seconds: float) -> str:
    """A length of time to two or three figures: "340 ms", "1.25 s", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    if not math.isfinite(seconds):
        return UNKNOWN
    sign, size = ("-" if seconds < 0 else ""), abs(seconds)
    if size < 59.5:
        return sign + _below_a_minute(size)
    whole = round(size)
    for limit, unit, length, smaller, part in _UNITS:
        if whole < limit:
            count, rest = divmod(whole, length)
            return f"{sign}{count} {unit}" + (f" {rest // part} {smaller}" if rest // part else "")
    return f"{sign}{whole // 86400} d"


_UNITS = ((3600, "min", 60, "s", 1), (86400, "h", 3600, "min", 60), (100 * 86400, "d", 86400, "h", 3600))
"""Below which length, in which unit, of how many seconds, with which smaller one, of how many seconds."""


def _below_a_minute(size: float) -> str:
    if size == 0:
        return "0 s"
    if size < 0.9995:
        return f"{size * 1000:.3g} ms"
    return f"{size:.3g} s"


def moment(at: float, now: float) -> str:
    """Unix seconds in this machine's zone: the time if it is today, the date with it otherwise; "-" for 0."""
    if not at:
        return NOTHING
    then = datetime.fromtimestamp(at)
    same_day = then.date() == datetime.fromtimestamp(now).date()
    return then.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")


def iso(at: float) -> str | None:
    """Unix seconds as ISO 8601 in UTC with milliseconds, None for 0: what ``--json`` prints."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") if at else None


def size(count: float) -> str:
    """Bytes in binary units: "0 B", "1.5 KiB", "100 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.3g} TiB"


def estimate(value: Estimate | None) -> str:
    """An estimate as a length: "12 s ± 3 s", or "unknown"."""
    if value is None or not value.known:
        return UNKNOWN
    return f"{duration(value.expectation)} ± {duration(value.error)}"


def predicted_moment(value: Estimate | None, now: float) -> str:
    """An estimate as a moment: "~14:32:10 ± 3 s", or "unknown"."""
    if value is None or not value.known:
        return UNKNOWN
    return f"~{moment(now + value.expectation, now)} ± {duration(value.error)}"


def number(value: float) -> str:
    """A count that may have a fraction: "4", "0.5"."""
    return f"{value:g}"


def plain(value: Any) -> Any:
    """``value`` in what JSON has: records become objects, ids their text, other bytes hex, NaN and infinities null."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {plain_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes_text(bytes(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return _foreign(value)


def plain_key(key: Any) -> str:
    """A mapping's key as JSON has it: always text."""
    return bytes_text(key) if isinstance(key, bytes) else str(plain(key))


def bytes_text(data: bytes) -> str:
    """A task id as its text, other bytes as hex."""
    return text_of(data) if len(data) == ID_BYTES else data.hex()


def _foreign(value: Any) -> Any:
    """Numpy's numbers and arrays by their own conversion, everything else as it prints."""
    convert = getattr(value, "tolist", None)
    return plain(convert()) if callable(convert) else str(value)
