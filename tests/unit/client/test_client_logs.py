"""Stored and live log records become one stream: each once, in order, whatever comes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.logs import Merge
from headway_bus.ids import TaskId
from headway_bus.records import LogRecord

TASK = TaskId(bytes(16))


def record(sequence: int, attempt: int = 1) -> LogRecord:
    return LogRecord(TASK, attempt, sequence, "stdout", 0.0, f"line {attempt}.{sequence}")


def test_live_records_that_were_stored_before_are_passed_over() -> None:
    merge = Merge()
    assert merge.from_store([record(0), record(1)], 2) == [record(0), record(1)]
    assert merge.from_topic([record(1), record(2)]) == ([record(2)], False)
    assert merge.from_store([record(2), record(3)], 4) == [record(3)]


def test_a_gap_among_live_records_is_noticed_and_nothing_behind_it_given_out() -> None:
    merge = Merge()
    assert merge.from_topic([record(0), record(2)]) == ([record(0)], True)
    assert merge.from_store([record(0), record(1), record(2)], 3) == [record(1), record(2)]


def test_each_attempt_counts_for_itself() -> None:
    merge = Merge()
    merge.from_topic([record(0), record(1)])
    assert merge.from_topic([record(0, attempt=2)]) == ([record(0, attempt=2)], False)


def test_a_drop_that_the_store_knows_of_is_no_gap() -> None:
    merge = Merge()
    assert merge.from_store([record(0), record(9)], 2) == [record(0), record(9)]
    assert merge.from_topic([record(10)]) == ([record(10)], False)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=30))
def test_any_interleaving_gives_each_record_once_and_in_order(steps: list[tuple[bool, int]]) -> None:
    stored = [record(at) for at in range(40)]
    merge, given_out, live_at = Merge(), [], 0
    for from_store, count in [*steps, (True, 40)]:
        if from_store:
            page = stored[merge.stored : merge.stored + count]
            given_out += merge.from_store(page, merge.stored + len(page))
        else:
            fresh, _missing = merge.from_topic(stored[live_at : live_at + count])
            given_out += fresh
            live_at += count + 1  # one published record is lost each time
    assert given_out == stored
