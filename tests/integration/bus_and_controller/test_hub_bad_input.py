"""A person's mistakes, with the real client, the real hub and a real runtime: that task fails with the text a person needs,
and the others go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import headway
from headway_bus.errors import CannotEncode, Refused, TaskFailed

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bus() -> Iterator[headway.Client]:
    with headway.local(slots=2, path=[HERE]) as bus:
        yield bus


@pytest.fixture(autouse=True)
def others(bus: headway.Client) -> Iterator[None]:
    """Work of somebody else, before and after: none of it may suffer."""
    tasks = bus.map("bad_tasks:good", range(20))
    yield
    tasks += bus.map("bad_tasks:good", range(20))
    assert [task.result(timeout=30) for task in tasks] == [number + 1 for number in range(20)] * 2


WRONG: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # what → (target, reason, words that a person needs)
    "a module that is not there": ("no_such_package.module:f", "import", ("no_such_package",)),
    "a name that is not in it": ("bad_tasks:no_such_function", "import", ("no_such_function", "bad_tasks")),
    "a thing that cannot be called": ("bad_tasks:not_a_function", "import", ("not_a_function",)),
    "an import error inside": ("broken_on_import:f", "import", ("a_package_that_is_not_there",)),
    "a result without a form": ("bad_tasks:unencodable", "encode", ("lock",)),
    "a generator as result": ("bad_tasks:generator", "encode", ("generator",)),
    "an error that cannot be shown": ("bad_tasks:raise_wordless", "exception", ("WordlessError",)),
    "an error of an odd shape": ("bad_tasks:raise_picky", "exception", ("one 1, other 2",)),
    "recursion without end": ("bad_tasks:recurse", "exception", ("recursion",)),
    "an exit": ("bad_tasks:leave", "", ("3",)),
    "an exit without a word": ("bad_tasks:vanish", "exit", ("7",)),
    "a crash": ("bad_tasks:crash", "signal", ("SIGSEGV",)),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_task_fails_with_the_text_a_person_needs(bus: headway.Client, what: str) -> None:
    target, reason, words = WRONG[what]
    with pytest.raises(TaskFailed) as raised:
        bus.submit(target).result(timeout=30)
    error = raised.value.error
    assert error is not None
    assert not reason or error.reason == reason, error
    for word in words:
        assert word in str(raised.value) or word in error.message, raised.value


def test_a_traceback_shows_the_users_own_lines(bus: headway.Client) -> None:
    with pytest.raises(TaskFailed) as raised:
        bus.submit("bad_tasks:raise_picky").result(timeout=30)
    assert raised.value.error is not None
    assert "raise _PickyError(1, other=2)" in raised.value.error.traceback
    assert "headway_runtime" not in raised.value.error.traceback


def test_words_without_end_are_cut(bus: headway.Client) -> None:
    with pytest.raises(TaskFailed) as raised:
        bus.submit("bad_tasks:long_words").result(timeout=30)
    assert 100 < len(str(raised.value)) < 1_000_000


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (threading.Lock(), "lock"),
        ({"a": [1, {"b": object()}]}, "object"),
        ((number for number in range(3)), "generator"),
        (lambda: 1, "function"),
    ],
)
def test_an_argument_without_a_form_is_refused_before_anything_is_sent(
    bus: headway.Client, argument: Any, words: str
) -> None:
    before = len(bus.tasks(limit=10_000))
    with pytest.raises(CannotEncode, match=words):
        bus.submit("bad_tasks:good", argument)
    assert len(bus.tasks(limit=10_000)) == before


def test_one_bad_argument_of_a_map_names_its_place_or_its_value(bus: headway.Client) -> None:
    with pytest.raises(CannotEncode, match="lock"):
        bus.map("bad_tasks:good", [1, 2, threading.Lock(), 4])


@pytest.mark.parametrize("target", ["nonsense", "no colon here", "a.b", "a:b:c", "1a:f", "", ":f", "a:"])
def test_a_target_that_is_no_import_path_is_refused_with_what_was_expected(bus: headway.Client, target: str) -> None:
    with pytest.raises((Refused, ValueError, TypeError), match="module:"):
        bus.submit(target).result(timeout=30)


def test_arguments_that_do_not_fit_are_the_tasks_own_error(bus: headway.Client) -> None:
    with pytest.raises(TaskFailed, match="positional argument"):
        bus.submit("bad_tasks:good", 1, 2, 3).result(timeout=30)


def test_odd_values_come_back_as_they_went(bus: headway.Client) -> None:
    for value in (Decimal("1.10"), b"\0", "ä" * 1_000, 2**63, -(2**63), [], {}, None, (1, (2,)), {1, 2}):
        (task,) = bus.map("copy:copy", [value])
        assert task.result(timeout=30) == value
