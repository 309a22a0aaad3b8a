"""What a user says about a task, made harmless.

``meta`` comes from strangers: it may hold NaN, infinities, strings of a megabyte, ten thousand keys. Words become part
of the key that tasks are learned under; finite numbers become features; everything else is left out and counted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

MAX_ENTRIES = 64
"""Entries of one ``meta`` that are looked at, in the order of its keys' first appearance."""
MAX_WORDS = 8
MAX_NUMBERS = 32
MAX_WORD_CHARACTERS = 64
"""Longer words are known by their hash: equal words stay equal, and none takes a megabyte of memory."""


class Cleaned(NamedTuple):
    words: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, float], ...]
    refused: int
    """Entries that were left out: not finite, of another type, or beyond the limits."""


EMPTY = Cleaned((), (), 0)


def clean(meta: Mapping[str, object]) -> Cleaned:
    """Words and finite numbers of ``meta``, both sorted by key."""
    if not meta:
        return EMPTY
    words: list[tuple[str, str]] = []
    numbers: list[tuple[str, float]] = []
    refused = 0
    for at, (key, value) in enumerate(meta.items()):
        if at >= MAX_ENTRIES:
            refused += len(meta) - at
            break
        name = shortened(str(key))
        if isinstance(value, bool):
            words.append((name, str(value)))
        elif isinstance(value, str):
            words.append((name, shortened(value)))
        else:
            number = finite(value)
            if number is None:
                refused += 1
            else:
                numbers.append((name, number))
    words.sort()
    numbers.sort()
    refused += max(0, len(words) - MAX_WORDS) + max(0, len(numbers) - MAX_NUMBERS)
    return Cleaned(tuple(words[:MAX_WORDS]), tuple(numbers[:MAX_NUMBERS]), refused)


def shortened(text: str) -> str:
    if len(text) <= MAX_WORD_CHARACTERS:
        return text
    return "#" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def finite(value: object) -> float | None:
    """The number as a float, or None if it is none or has no finite form."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond 1e308
        return None
    return number if math.isfinite(number) else None


def logarithm(number: float) -> float:
    """log(1 + x), continued to negative numbers by its mirror image, so that no size can break a model."""
    return math.log1p(number) if number >= 0.0 else -math.log1p(-number)
