"""Byte by byte from what is right to what is wrong: mutations of correct headers, payloads and key lists."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

INTERESTING = bytes([0x00, 0x01, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC4, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB,
                     0xCC, 0xCF, 0xD0, 0xD3, 0xD4, 0xD8, 0xD9, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xFF])  # fmt: skip
"""Where msgpack's types begin and end."""

LARGE = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
         b"\xc9\xff\xff\xff\xff\x05", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\0" * 7]  # fmt: skip
"""Lengths and numbers that promise far more than follows."""

MOST_BYTES = 65_536


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """One to six changes of some bytes."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        rng.choice(CHANGES)(found, others, rng)
    return bytes(found[:MOST_BYTES])


def _place(found: bytearray, rng: random.Random) -> int:
    return rng.randrange(len(found) + 1)


def _flip(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if found:
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)


def _set(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if found:
        found[rng.randrange(len(found))] = rng.choice(INTERESTING)


def _insert(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(found, rng)
    found[place:place] = rng.randbytes(rng.randint(1, 8))


def _enlarge(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(found, rng)
    found[place : place + rng.randint(0, 5)] = rng.choice(LARGE)


def _remove(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(found, rng)
    del found[place : place + rng.randint(1, 16)]


def _cut(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    del found[_place(found, rng) :]


def _repeat(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    start = _place(found, rng)
    found[start:start] = found[start : start + rng.randint(1, 32)] * rng.randint(1, 20)


def _nest(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(found, rng)
    found[place:place] = rng.choice([b"\x91", b"\x81\xa1x", b"\x81\xc0"]) * rng.choice([1, 10, 100, 2000])


def _splice(found: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other) + 1)
    found[_place(found, rng) :] = other[start:]


CHANGES: list[Callable[[bytearray, Sequence[bytes], random.Random], None]] = [
    _flip, _flip, _set, _set, _insert, _enlarge, _remove, _cut, _repeat, _nest, _splice,
]  # fmt: skip
