"""How a function is named on the bus: by its import path, because its code does not travel."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

_ADVICE = (
    "Put it into a module that the runtime can import (a file beside yours, say work.py, and `from work import …`), name it "
    "'module:function', or send it by value: bus.options(by_value=True), if the runtime allows that"
)


def target_of(target: str | Callable[..., Any]) -> str:
    """The import path of what is to be called, "package.module:function".

    Raises ValueError for a text of another form, and for a function that no import can reach; TypeError for what is
    neither.
    """
    if isinstance(target, str):
        if not _PATH.fullmatch(target):
            raise ValueError(f"target {target!r}: expected 'package.module:function', as in 'statistics:fmean'")
        return target
    if not callable(target):
        raise TypeError(
            f"target {target!r}: expected a function or 'package.module:function', not {type(target).__name__}"
        )
    if isinstance(target, functools.partial):
        raise ValueError(f"{target!r} has no import path. Submit the function itself and pass the arguments with it")
    return _path_of(target)


def name_of(target: str | Callable[..., Any]) -> str:
    """What listings call a function that travels by value: it need not be importable."""
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '') or '?'}:{getattr(target, '__qualname__', type(target).__qualname__)}"


def _path_of(function: Callable[..., Any]) -> str:
    owner = getattr(function, "__self__", None)
    if owner is not None and not inspect.ismodule(owner) and not inspect.isclass(owner):
        raise ValueError(
            f"{name_of(function)} is bound to an object, which does not travel with it. Submit a function, and pass the "
            "object's data as arguments"
        )
    home = owner if inspect.isclass(owner) else getattr(function, "__objclass__", None)  # of methods written in C
    module = getattr(function, "__module__", None) or getattr(home, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not module or not qualname:
        raise ValueError(f"{function!r} has no import path. {_ADVICE}")
    if "<lambda>" in qualname:
        raise ValueError(f"{module}:{qualname} is a lambda and has no name to import. {_ADVICE}")
    if "<locals>" in qualname:
        raise ValueError(f"{module}:{qualname} is defined inside a function and cannot be imported. {_ADVICE}")
    if module == "__main__":
        return f"{_main_module(qualname)}:{qualname}"
    _check_reachable(function, module, qualname)
    return f"{module}:{qualname}"


def _main_module(qualname: str) -> str:
    """The importable name of the program itself, which only one started with ``python -m`` has."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name: str | None = getattr(spec, "name", None)
    if not name or name == "__main__":
        raise ValueError(
            f"{qualname} is defined in the program itself (__main__), which a runtime cannot import. {_ADVICE}"
        )
    return name


def _check_reachable(function: Callable[..., Any], module: str, qualname: str) -> None:
    """A decorator that hides its function leaves a name that leads elsewhere, and the runtime would call that."""
    found: Any = sys.modules.get(module)
    if found is None:
        return
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ValueError(f"{module} has no {qualname}, so the runtime would not find it either. {_ADVICE}")
    if found is not function and found != function:
        raise ValueError(
            f"{module}:{qualname} leads to another object than the one submitted; does a decorator hide it? {_ADVICE}"
        )
