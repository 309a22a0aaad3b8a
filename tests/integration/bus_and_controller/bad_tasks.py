"""Functions that go wrong in every way a user's may, for the tests of what a person then reads. Runs on a runtime."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any


def good(value: int) -> int:
    return value + 1


def unencodable() -> Any:
    return {"rows": [1, {"lock": threading.Lock()}]}


def generator() -> Any:
    return (number for number in range(3))


class _WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def raise_wordless() -> None:
    raise _WordlessError


class _PickyError(Exception):
    def __init__(self, one: int, *, other: int) -> None:
        super().__init__(f"one {one}, other {other}")


def raise_picky() -> None:
    raise _PickyError(1, other=2)


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def long_words() -> None:
    raise ValueError("x" * 10_000_000)


def leave() -> None:
    sys.exit(3)


def vanish() -> None:
    os._exit(7)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


not_a_function = 42
