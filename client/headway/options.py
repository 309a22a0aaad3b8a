"""The options of a submission as people write them, checked, and turned into the record that travels.

A wrong name or value is an error at once, in the caller's line, and not a refusal from the hub later.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from headway.targets import target_of
from headway_bus.ids import ID_BYTES, TaskId, parse_task_id
from headway_bus.records import MAX_DESCRIPTION, File, Kind, Options, Requirements, Retry, Union
from headway_bus.selector import SelectorError, parse

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)
MAX_META = 1_000
MAX_META_TEXT = 10_000


def _wrong(name: str, value: object, expected: str) -> TypeError:
    return TypeError(f"option {name}={value!r}: expected {expected}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        where, what = error.start + 1, ord(value[error.start])
        raise ValueError(f"option {name}: character {where} (U+{what:04X}) is none that UTF-8 has") from None
    return value


def description_of(value: object) -> str:
    """A description, if it is one that can be kept. Raises TypeError and ValueError."""
    text = _text("description", value)
    if len(text) > MAX_DESCRIPTION:
        raise ValueError(f"option description: {len(text)} characters; at most {MAX_DESCRIPTION}")
    return text


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    return value


def _whole(name: str, value: object, least: int | None = None) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _wrong(name, value, "a whole number")
    number = int(value.__index__())
    if least is not None and number < least:
        raise ValueError(f"option {name}={value!r}: expected {least} or more")
    return number


def _number(name: str, value: object, what: str = "a number, 0 or more") -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise _wrong(name, value, what)
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"option {name}={value!r}: expected {what}")
    return number


def _seconds(name: str, value: object) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return _number(name, value, "seconds, 0 or more (or a timedelta)")


def _seconds_or_none(name: str, value: object) -> float | None:
    return None if value is None else _seconds(name, value)


def _retention(name: str, value: object) -> float:
    return -1.0 if value is None else _seconds(name, value)


def _count(name: str, value: object) -> int:
    return _whole(name, value, 1)


def _natural(name: str, value: object) -> int:
    return _whole(name, value, 0)


def _size(name: str, value: object) -> int:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError(f"option {name}={value!r}: expected bytes, or a text such as '512MiB' or '2G'")
        return int(float(match[1]) * _UNITS[(match[2] or "").lower()])
    return _whole(name, value, 0)


def _one_of(*allowed: str) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if value not in allowed:
            raise ValueError(f"option {name}={value!r}: expected {' or '.join(map(repr, allowed))}")
        return str(value)

    return check


def _labels(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise _wrong(name, value, "a dict of str to str")
    return dict(value)


def _resources(name: str, value: object) -> dict[str, float]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(name, value, "a dict of resource names to amounts")
    return {key: _number(f"{name}[{key!r}]", amount) for key, amount in value.items()}


def _meta(name: str, value: object) -> dict[str, int | float | str]:
    """Numbers that are not finite are refused here: an estimate made from them would not be a number either."""
    if not isinstance(value, Mapping) or len(value) > MAX_META:
        raise _wrong(
            name, value if len(repr(value)) < 200 else type(value), f"a dict of at most {MAX_META} numbers and words"
        )
    found: dict[str, int | float | str] = {}
    for key, part in value.items():
        where = f"{name}[{key!r}]"
        if not isinstance(key, str):
            raise _wrong(where, part, "a name that is a str")
        if isinstance(part, str):
            if len(part) > MAX_META_TEXT:
                raise ValueError(
                    f"option {where}: a text of {len(part)} characters; at most {MAX_META_TEXT} are of use"
                )
            found[key] = part
        elif isinstance(part, int):
            found[key] = int(part)
        elif hasattr(part, "__float__") and math.isfinite(float(part)):
            found[key] = float(part)
        else:
            raise ValueError(f"option {where}={part!r}: expected a finite number or a word")
    return found


def task_id_of(task: object) -> TaskId:
    """The id behind a task, its bytes, or its full text."""
    found = getattr(task, "task_id", task)
    if isinstance(found, str):
        return parse_task_id(found)
    if isinstance(found, bytes) and len(found) == ID_BYTES:
        return TaskId(found)
    raise TypeError(f"{task!r} is not a task: expected a headway task or a task's id")


def _after(name: str, value: object) -> list[TaskId]:
    try:
        if isinstance(value, Iterable) and not isinstance(value, str | bytes) and not hasattr(value, "task_id"):
            return [task_id_of(each) for each in value]
        return [task_id_of(value)]
    except (TypeError, ValueError) as error:
        raise type(error)(f"option {name}: {error}") from None


def _exceptions(name: str, value: object) -> list[str]:
    """Names of exception classes. A class stands for itself and all that derive from it, as in ``except``."""
    names = []
    for each in value if isinstance(value, Iterable) and not isinstance(value, str) else [value]:
        if isinstance(each, type) and issubclass(each, BaseException):
            names.append(f"{each.__module__}.{each.__qualname__}")
        elif isinstance(each, str):
            names.append(each)
        else:
            raise _wrong(name, each, "exception classes or their names")
    return names


def _patterns(name: str, value: object) -> list[str]:
    found = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    for each in found:
        if not isinstance(each, str) or not each or each.startswith("/") or ".." in each.split("/"):
            raise ValueError(f"option {name}={value!r}: expected patterns within the attempt's folder, as in 'model/*'")
    return [str(each) for each in found]


def _task(name: str, value: object) -> TaskId:
    try:
        return task_id_of(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"option {name}: {error}") from None


def _selector(name: str, value: object) -> str:
    text = _text(name, value)
    try:
        parse(text)
    except SelectorError as error:
        raise ValueError(f"option {name}={value!r}: {error}") from None
    return text


def _merge(name: str, value: object) -> str:
    if isinstance(value, str) or callable(value):
        try:
            return target_of(value)
        except ValueError as error:
            raise ValueError(f"option {name}: {error}") from None
    raise _wrong(name, value, "a function of a list of values, or its import path")


def _share(name: str, value: object) -> float:
    share = _number(name, value, "a share above 0, at most 1")
    if not 0 < share <= 1:
        raise ValueError(f"option {name}={value!r}: expected a share above 0, at most 1")
    return share


def _callback(name: str, value: object) -> Callable[[Any], object] | None:
    if value is not None and not callable(value):
        raise _wrong(name, value, "a function that takes a log record")
    return value


Check = Callable[[str, object], Any]

_REQUIREMENTS: dict[str, tuple[str, Check]] = {
    "slots": ("slots", _number),
    "cpu": ("cpu", _number),
    "memory": ("memory", _size),
    "gpu": ("gpu", _number),
    "resources": ("custom", _resources),
    "labels": ("labels", _labels),
    "runtime": ("runtime", _text),
}
_RETRY: dict[str, tuple[str, Check]] = {
    "max_attempts": ("max_attempts", _count),
    "max_losses": ("max_losses", _natural),
    "backoff": ("backoff", _seconds),
    "backoff_max": ("backoff_max", _seconds),
    "retry_on": ("on", _exceptions),
}
_DIRECT: dict[str, Check] = {
    "name": _text,
    "job": _text,
    "queue": _text,
    "priority": _whole,
    "after": _after,
    "after_count": _one_of("all", "any"),
    "after_end": _one_of("success", "always"),
    "delay": _seconds,
    "timeout_start": _seconds,
    "timeout_run": _seconds,
    "grace": _seconds,
    "idempotent": _flag,
    "retention": _retention,
    "meta": _meta,
    "by_value": _flag,
    "output_limit": _size,
    "key": _text,
    "namespace": _text,
    "secret": _flag,
    "outputs": _patterns,
    "replaces": _task,
    "description": lambda _name, value: description_of(value),
    "offline": _seconds,
    "resumable": _flag,
}
_UNION: dict[str, tuple[str, Check]] = {
    "edges": ("edges", _selector),
    "merge": ("merge", _merge),
    "quorum": ("quorum", _share),
    "deadline": ("deadline", _seconds),
    "late": ("late", _one_of("collect", "drop")),
    "rounds": ("rounds", _count),
    "feeds": ("feeds", _flag),
    "associative": ("associative", _flag),
    "least_edges": ("least", _count),
    "merge_labels": ("merge_labels", _labels),
}
_HERE: dict[str, Check] = {"on_log": _callback, "submit_timeout": _seconds_or_none}

CHECKS: dict[str, Check] = (
    {name: check for name, (_field, check) in (_REQUIREMENTS | _RETRY | _UNION).items()} | _DIRECT | _HERE
)
"""Every option there is, and what looks at its value."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A set of options that somebody chose, by the names of :data:`CHECKS`, with checked values."""

    values: Mapping[str, Any]

    def with_(self, given: Mapping[str, object]) -> Choice:
        """These options, and the given ones over them. Raises TypeError or ValueError with name, value, expectation."""
        checked = dict(self.values)
        for name, value in given.items():
            check = CHECKS.get(name)
            if check is None:
                raise TypeError(_unknown(name))
            checked[name] = check(name, value)
        return Choice(checked)

    @property
    def on_log(self) -> Callable[[Any], object] | None:
        found: Callable[[Any], object] | None = self.values.get("on_log")
        return found

    @property
    def submit_timeout(self) -> float | None:
        found: float | None = self.values.get("submit_timeout")
        return found

    @property
    def by_value(self) -> bool:
        return bool(self.values.get("by_value", False))

    @property
    def secret(self) -> bool:
        return bool(self.values.get("secret", False))

    @property
    def key(self) -> str:
        return str(self.values.get("key", ""))

    @property
    def namespace(self) -> str:
        return str(self.values.get("namespace", ""))

    def record(self, kind: Kind, target: str, files: list[File] | None = None) -> Options:
        """The record that travels with tasks of this kind and target."""
        values = self.values
        needs = {field: values[name] for name, (field, _) in _REQUIREMENTS.items() if name in values}
        retry = {field: values[name] for name, (field, _) in _RETRY.items() if name in values}
        plan = {field: values[name] for name, (field, _) in _UNION.items() if name in values}
        if plan and "edges" not in plan:
            named = next(name for name in _UNION if name in values)
            raise ValueError(f"option {named}: it is of a union; say on which runtimes, with edges=…")
        direct = {name: values[name] for name in _DIRECT if name in values}
        if "replaces" in direct:
            direct |= _after_replaced(direct)
        return Options(
            kind,
            _text("target", target),
            requirements=Requirements(**needs),
            retry=Retry(**retry),
            files=list(files or ()),
            union=Union(**plan) if plan else None,
            **direct,
        )


def _after_replaced(direct: Mapping[str, Any]) -> dict[str, Any]:
    """It begins when the old version is over, however that ends; the bus stops it as soon as this one is stored.

    Raises ValueError where other tasks that it comes after would then count otherwise than was said.
    """
    after = direct.get("after", [])
    if (after or "after_end" in direct) and direct.get("after_end", "success") != "always":
        raise ValueError(
            "option replaces: the version that it replaces is stopped, and does not succeed; expected after_end='always' "
            "beside it, which is then of all tasks in after, too. To wait for the success of others, submit it when they have"
        )
    if after and direct.get("after_count") == "any":
        raise ValueError(
            "option replaces: with after_count='any' it could begin while the version that it replaces still runs; expected "
            "after_count='all' beside it"
        )
    return {"after": [*after, direct["replaces"]], "after_end": "always"}


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, CHECKS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown option {name!r}{hint} There are: {', '.join(sorted(CHECKS))}"


NONE_CHOSEN = Choice({})
