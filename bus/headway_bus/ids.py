"""What things are called on the wire, and how a person writes it.

A task id is 16 bytes: 6 bytes of Unix time in milliseconds (big-endian), then 10 random bytes. So ids made later sort
later, and a database that stores tasks by id appends instead of scattering its writes.

People see the same bytes as 26 letters and digits (Crockford's base 32, lower case, no i, l, o, u) with the random part
*first*: the first eight characters already tell any two tasks apart, which a time-first form would not allow.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from typing import NewType

TaskId = NewType("TaskId", bytes)
PeerName = NewType("PeerName", bytes)
AttemptKey = tuple[TaskId, int]
"""A task's id and the number of the attempt, counted from 1: what tells a late report from the present one."""

ID_BYTES = 16
TIME_BYTES = 6
RANDOM_BYTES = ID_BYTES - TIME_BYTES
RANDOM_CHARACTERS = 16
TEXT_CHARACTERS = 26
SHORT_CHARACTERS = 8

_SPREAD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd: spreads small attempt numbers over all bits
_MASK = (1 << 64) - 1
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)} | {"i": 1, "l": 1, "o": 0}


def new_task_id(now: float | None = None) -> TaskId:
    """A fresh id. ``now``: Unix seconds, the machine's clock if not given."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    return TaskId(milliseconds.to_bytes(TIME_BYTES, "big") + os.urandom(RANDOM_BYTES))


def new_task_ids(count: int) -> list[TaskId]:
    """``count`` fresh ids with one look at the clock and one call for randomness."""
    prefix = int(time.time() * 1000).to_bytes(TIME_BYTES, "big")
    noise = os.urandom(RANDOM_BYTES * count)
    return [TaskId(prefix + noise[at : at + RANDOM_BYTES]) for at in range(0, RANDOM_BYTES * count, RANDOM_BYTES)]


def named_task_id(name: str, namespace: str = "") -> TaskId:
    """The id that a caller's own name stands for: a UUID keeps its bytes, anything else is hashed.

    The same name in the same namespace is the same task, which is what makes a repeated submission harmless.
    """
    try:
        return TaskId(uuid.UUID(name).bytes)
    except ValueError:
        return TaskId(hashlib.blake2b(f"{namespace}\0{name}".encode(), digest_size=ID_BYTES).digest())


def part_task_id(union: TaskId, run: int, number: int, edge: str) -> TaskId:
    """The id of a union's part on that edge in that round; ``run`` counts how often the union was run."""
    return named_task_id(f"{text_of(union)} {run} {number} {edge}", "union")


def text_of(task: TaskId | bytes) -> str:
    """The id as a person sees it: 26 characters, the random part first."""
    return _encode(task[TIME_BYTES:], RANDOM_CHARACTERS) + _encode(
        task[:TIME_BYTES], TEXT_CHARACTERS - RANDOM_CHARACTERS
    )


def short_text(task: TaskId | bytes) -> str:
    """The first eight characters of :func:`text_of`: enough to name a task in a listing."""
    return text_of(task)[:SHORT_CHARACTERS]


def parse_task_id(text: str) -> TaskId:
    """The id behind its full text. Raises ValueError with what was expected."""
    letters = text.strip().lower()
    if len(letters) != TEXT_CHARACTERS or any(letter not in _VALUES for letter in letters):
        raise ValueError(f"{text!r} is not a task id: expected {TEXT_CHARACTERS} letters and digits")
    noise = _decode(letters[:RANDOM_CHARACTERS], RANDOM_BYTES)
    return TaskId(_decode(letters[RANDOM_CHARACTERS:], TIME_BYTES) + noise)


def is_id_prefix(text: str) -> bool:
    """Whether ``text`` could be the beginning of a task id's text."""
    return 0 < len(text) <= TEXT_CHARACTERS and all(letter in _VALUES for letter in text.lower())


def submitted_time(task: TaskId | bytes) -> float:
    """Unix seconds at which the id was made, to the millisecond (not meaningful for named ids)."""
    return int.from_bytes(task[:TIME_BYTES], "big") / 1000


def digest_of(task: TaskId | bytes, attempt: int) -> int:
    """A 64-bit number that stands for an attempt in the digests of heartbeats, which are the XOR of all attempts held."""
    return int.from_bytes(task[8:16], "big") ^ (attempt * _SPREAD & _MASK)


def _encode(data: bytes, width: int) -> str:
    number = int.from_bytes(data, "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (width - 1), -1, -5))


def _decode(letters: str, width: int) -> bytes:
    number = 0
    for letter in letters:
        number = number << 5 | _VALUES[letter]
    try:
        return number.to_bytes(width, "big")
    except OverflowError:
        raise ValueError(f"{letters!r} is not part of a task id") from None
