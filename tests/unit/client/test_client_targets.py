"""How functions are named, and what is said of those that no import can reach."""

from __future__ import annotations

import collections
import functools
import math
import re
import statistics
from pathlib import PurePath
from typing import Any

import pytest

from headway.targets import name_of, target_of


def here(value: Any) -> Any:
    return value


def hidden(function: Any) -> Any:
    def wrapper(*args: Any) -> Any:
        return function(*args)

    wrapper.__qualname__ = function.__qualname__
    wrapper.__module__ = function.__module__
    return wrapper


class Holder:
    def method(self) -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    @staticmethod
    def static() -> None: ...


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("statistics:fmean", "statistics:fmean"),
        ("a.b.c:D.e", "a.b.c:D.e"),
        (statistics.fmean, "statistics:fmean"),
        (math.sqrt, "math:sqrt"),
        (len, "builtins:len"),
        (str.upper, "builtins:str.upper"),
        (PurePath, f"{PurePath.__module__}:PurePath"),
        (collections.OrderedDict.fromkeys, "collections:OrderedDict.fromkeys"),
    ],
)
def test_paths(target: Any, path: str) -> None:
    assert target_of(target) == path


def test_functions_of_a_module_and_of_a_class() -> None:
    assert target_of(here) == f"{__name__}:here"
    assert target_of(Holder.static) == f"{__name__}:Holder.static"
    assert target_of(Holder.of_class) == f"{__name__}:Holder.of_class"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("statistics.fmean", "expected 'package.module:function'"),
        ("", "expected 'package.module:function'"),
        ("a:b; import os", "expected"),
        (lambda: None, "is a lambda"),
        (Holder().method, "bound to an object"),
        (functools.partial(here, 1), "Submit the function itself"),
        (hidden(here), "does a decorator hide it?"),
    ],
)
def test_what_cannot_be_named_is_refused_with_advice(target: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        target_of(target)


def test_a_nested_function_and_one_of_the_program_itself() -> None:
    def nested() -> None: ...

    with pytest.raises(ValueError, match="defined inside a function"):
        target_of(nested)
    lost = type(here)(here.__code__, {"__name__": "__main__"}, "lost")
    lost.__module__ = "__main__"
    import sys

    main = sys.modules["__main__"]
    before = main.__spec__
    try:
        main.__spec__ = None
        with pytest.raises(ValueError, match=r"a file beside yours.*by_value=True"):
            target_of(lost)
    finally:
        main.__spec__ = before


def test_something_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="expected a function"):
        target_of(3)  # type: ignore[arg-type]


def test_names_for_listings_never_fail() -> None:
    assert name_of(lambda: None).endswith("<lambda>")
    assert name_of(functools.partial(here)) == "functools:partial"
