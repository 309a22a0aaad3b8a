"""The controller's explanation of a task, which is plain nested data, as indented lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headway.cli.words import NOTHING, number, plain

INDENT = "  "


def story_lines(story: Mapping[str, Any]) -> list[str]:
    """A line for each thing said; what is nested is indented, and words take the place of names with underscores."""
    return list(_mapping(plain(story), 0))


def _mapping(data: Mapping[str, Any], depth: int) -> Iterator[str]:
    for name, value in data.items():
        title = INDENT * depth + name.replace("_", " ")
        if value in (None, "", [], {}):
            continue
        if isinstance(value, Mapping):
            yield f"{title}:"
            yield from _mapping(value, depth + 1)
        elif isinstance(value, list):
            yield f"{title}:"
            yield from _sequence(value, depth + 1)
        else:
            yield f"{title}: {_scalar(value)}"


def _sequence(items: Sequence[Any], depth: int) -> Iterator[str]:
    for item in items:
        if isinstance(item, Mapping):
            yield INDENT * depth + "- " + _inline(item)
        else:
            yield INDENT * depth + "- " + (_inline_list(item) if isinstance(item, list) else _scalar(item))


def _inline(item: Mapping[str, Any]) -> str:
    parts = []
    for name, value in item.items():
        if value in (None, "", [], {}):
            continue
        text = f"({_inline(value)})" if isinstance(value, Mapping) else _inline_value(value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts) or NOTHING


def _inline_value(value: Any) -> str:
    return _inline_list(value) if isinstance(value, list) else _scalar(value)


def _inline_list(items: Sequence[Any]) -> str:
    return "; ".join(_inline(item) if isinstance(item, Mapping) else _inline_value(item) for item in items)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(round(value, 4)) if isinstance(value, float) else str(value)
