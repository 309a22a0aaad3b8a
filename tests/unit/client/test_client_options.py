"""Options as people write them: what is accepted, what becomes of it, and how a slip is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.options import CHECKS, NONE_CHOSEN, task_id_of
from headway_bus.ids import new_task_id, text_of
from headway_bus.records import Kind, Options, Requirements, Retry


def record(**options: object) -> Options:
    return NONE_CHOSEN.with_(options).record(Kind.CALL, "math:sqrt")


def test_without_options_the_record_has_the_defaults() -> None:
    assert record() == Options(Kind.CALL, "math:sqrt")


def test_every_field_of_the_record_can_be_set() -> None:
    task = new_task_id()
    options = record(
        name="n", job="j", queue="q", priority=-3, after=[task], after_count="any", after_end="always", delay=1,
        timeout_start=2, timeout_run=timedelta(minutes=1), grace=3, idempotent=True, retention=4, meta={"rows": 5, "of": "x"},
        by_value=True, output_limit="1KiB", key="k", slots=2, cpu=0.5, memory="2GiB", gpu=1, resources={"licence": 1},
        labels={"zone": "a"}, runtime="r", max_attempts=5, max_losses=0, backoff=0.1, backoff_max=9,
        retry_on=[OSError, "work.Odd"],
    )  # fmt: skip
    assert options == Options(
        Kind.CALL,
        "math:sqrt",
        "n",
        "j",
        "q",
        -3,
        Requirements(2, 0.5, 2**31, 1, {"licence": 1}, {"zone": "a"}, "r"),
        Retry(5, 0, 0.1, 9, ["builtins.OSError", "work.Odd"]),
        [task],
        "any",
        "always",
        1,
        2,
        60,
        3,
        True,
        4,
        {"rows": 5, "of": "x"},
        [],
        True,
        1024,
        "k",
    )


def test_later_options_go_over_earlier_ones_and_leave_them_as_they_were() -> None:
    first = NONE_CHOSEN.with_({"job": "a", "priority": 1})
    second = first.with_({"job": "b"})
    assert (first.values["job"], second.values["job"], second.values["priority"]) == ("a", "b", 1)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prioritty": 1}, TypeError, "did you mean 'priority'"),
        ({"priority": "high"}, TypeError, "priority='high': expected a whole number"),
        ({"priority": True}, TypeError, "expected a whole number"),
        ({"delay": -1}, ValueError, "delay=-1: expected seconds, 0 or more"),
        ({"timeout_run": float("nan")}, ValueError, "expected seconds"),
        ({"slots": float("inf")}, ValueError, "expected a number, 0 or more"),
        ({"max_attempts": 0}, ValueError, "expected 1 or more"),
        ({"memory": "much"}, ValueError, "'512MiB'"),
        ({"labels": {"a": 1}}, TypeError, "a dict of str to str"),
        ({"meta": {"x": float("nan")}}, ValueError, "meta['x']=nan: expected a finite number"),
        ({"meta": {"x": "y" * 1_000_000}}, ValueError, "1000000 characters"),
        ({"meta": {str(i): i for i in range(10_000)}}, TypeError, "at most 1000"),
        ({"after_count": "some"}, ValueError, "'all' or 'any'"),
        ({"after": "nonsense"}, ValueError, "is not a task id"),
        ({"after": [3]}, TypeError, "is not a task"),
        ({"retry_on": [3]}, TypeError, "exception classes"),
        ({"on_log": "print"}, TypeError, "a function"),
        ({"job": None}, TypeError, "a str"),
        ({"name": "x\udcff"}, ValueError, "option name: character 2 (U+DCFF)"),
        ({"description": 3}, TypeError, "a str"),
        ({"description": "x" * 100_001}, ValueError, "100001 characters; at most 100000"),
    ],
)
def test_a_slip_is_told_with_name_value_and_expectation(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        NONE_CHOSEN.with_(options)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


@given(st.sampled_from(sorted(CHECKS)), st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_nothing_but_a_type_or_value_error_comes_of_any_value(name: str, value: object) -> None:
    try:
        NONE_CHOSEN.with_({name: value}).record(Kind.CALL, "a:b")
    except (TypeError, ValueError) as error:
        assert name in str(error)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("1k", 1000), ("1.5 KiB", 1536), ("2gib", 2**31), ("3MB", 3_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert record(memory=text).requirements.memory == size


def test_what_a_task_may_be_named_by() -> None:
    class Holder:
        task_id = new_task_id()

    for way in (Holder(), Holder.task_id, text_of(Holder.task_id)):
        assert task_id_of(way) == Holder.task_id
        assert record(after=way).after == [Holder.task_id]


def test_a_new_version_comes_after_the_old_one_and_after_what_was_said() -> None:
    old, other = new_task_id(), new_task_id()
    assert (record(replaces=old).after, record(replaces=old).after_end) == ([old], "always")
    assert record(replaces=old, after_end="always").after == [old]
    both = record(replaces=old, after=[other], after_end="always")
    assert (both.after, both.after_end, both.after_count) == ([other, old], "always", "all")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"after": True}, "expected after_end='always'"),
        ({"after": True, "after_end": "success"}, "expected after_end='always'"),
        ({"after_end": "success"}, "expected after_end='always'"),
        ({"after": True, "after_end": "always", "after_count": "any"}, "expected after_count='all'"),
    ],
)
def test_a_new_version_does_not_quietly_change_what_it_waits_for(options: dict[str, object], words: str) -> None:
    """One that waits for the success of others would begin after their failure, and with "any" before the old one's end."""
    given = {name: [new_task_id()] if name == "after" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=f"option replaces: .*{words}"):
        record(replaces=new_task_id(), **given)
