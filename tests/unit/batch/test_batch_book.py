"""What a run does with each job, what it counts, and how an end becomes a record."""

from __future__ import annotations

from typing import Any

import pytest

from headway.batch.book import Book, Choice, Entry, Selection
from headway.batch.config import Job
from headway.batch.ends import is_break, record_of
from headway.batch.records import JobRecord, State
from headway.batch.runner import key_of
from headway_bus.ids import new_task_id
from headway_bus.records import ErrorInfo, Outcome, Reason, Status


def record(status: State, content: str = "c") -> JobRecord:
    return JobRecord(name="j", status=status, content=content)


@pytest.mark.parametrize(
    ("state", "content", "selection", "expected"),
    [
        (State.SUCCEED, "c", {}, Choice.SKIP),
        (State.SUCCEED, "other", {}, Choice.RUN),
        (State.SUCCEED, "c", {"force": True}, Choice.RUN),
        (State.SUCCEED, "c", {"only": ["k"]}, Choice.LEAVE),
        (State.SUCCEED, "c", {"only": ["j"]}, Choice.SKIP),
        (State.FAILED, "c", {}, Choice.RUN),
        (State.FAILED, "c", {"keep_failed": True}, Choice.SKIP),
        (State.FAILED, "other", {"keep_failed": True}, Choice.RUN),
        (State.KILLED, "c", {}, Choice.RUN),
        (State.KILLED, "c", {"keep_failed": True}, Choice.SKIP),
        (State.INTERRUPTED, "c", {"keep_failed": True}, Choice.RUN),
    ],
)
def test_h_a4_what_is_skipped(state: State, content: str, selection: dict[str, Any], expected: Choice) -> None:
    assert Selection(**selection).choose("j", state, record(state), content) is expected


def test_a_record_that_does_not_belong_to_the_state_counts_for_nothing() -> None:
    assert Selection().choose("j", State.INIT, record(State.SUCCEED), "c") is Choice.RUN
    assert Selection().choose("j", State.SUCCEED, None, "c") is Choice.RUN


def entry(name: str = "j", choice: Choice = Choice.RUN, state: State = State.INIT) -> Entry:
    return Entry(Job(name=name, command="true"), "c", choice, state)


def test_the_book_of_a_run() -> None:
    entries = [entry("a"), entry("b"), entry("s", Choice.SKIP, State.SUCCEED), entry("l", Choice.LEAVE, State.FAILED)]
    book = Book.of("batch", entries, 100.0)
    assert [each.name for each in book.open] == ["a", "b"]
    assert book.has_open
    assert book.on_submitted(entries[0], "task-a") is None
    assert book.on_started("task-a", 101.0, "host") is entries[0]
    assert book.on_started("task-a", 101.0, "host") is None
    assert book.on_started("task-b", 102.0, "host") is None  # before the answer to its submission
    assert book.on_submitted(entries[1], "task-b") is entries[1]
    assert (entries[1].state, entries[1].started, entries[1].runtime) == (State.RUNNING, 102.0, "host")
    assert entries[0].elapsed(103.0) == 2.0
    assert book.counts() == {"total": 4, "failed": 1, "init": 0, "succeed": 1, "running": 2}
    for each in entries[:2]:
        book.on_ended(each, record(State.SUCCEED))
    assert book.on_started("task-a", 104.0, "host") is None
    assert book.open == []
    assert not book.has_open
    assert book.all_succeeded
    book.on_ended(entries[1], record(State.KILLED))
    assert book.counts()["killed"] == 1
    assert not book.all_succeeded


def outcome(status: Status, error: ErrorInfo | None = None) -> Outcome:
    return Outcome(new_task_id(), status, 2, error=error, runtime="host", ran=3.0)


def test_ends_become_records() -> None:
    good = record_of(entry(), outcome(Status.SUCCEEDED), 100.0, stopping=False)
    assert (good.status, good.exit_code, good.attempts, good.elapsed) == (State.SUCCEED, 0, 2, 3.0)
    assert (good.start_datetime, good.end_datetime, good.host, good.runs) == (97.0, 100.0, "host", 1)
    failed = outcome(Status.FAILED, ErrorInfo(Reason.EXIT, "it ended with exit status 3", exit_code=3))
    bad = record_of(entry(), failed, 100.0, stopping=False, last_words="why")
    assert (bad.status, bad.exit_code, bad.message) == (State.FAILED, 3, "it ended with exit status 3: why")
    cancelled = outcome(Status.CANCELLED)
    assert record_of(entry(), cancelled, 1.0, stopping=False).status is State.KILLED
    assert record_of(entry(), cancelled, 1.0, stopping=True).status is State.INTERRUPTED
    assert not is_break(failed)
    assert is_break(outcome(Status.FAILED, ErrorInfo(Reason.START, "no such folder")))


def test_a_tasks_key_changes_with_content_run_and_count() -> None:
    first = entry("n" * 1000)
    again = Entry(first.job, "c", Choice.RUN, State.INIT, runs=1)
    other = Entry(first.job, "d", Choice.RUN, State.INIT)
    keys = [key_of("b" * 1000, first, "r"), key_of("b", first, "r"), key_of("b", first, "s"), key_of("b", again, "r")]
    keys.append(key_of("b", other, "r"))
    assert len(set(keys)) == 5
    assert max(map(len, keys)) <= 1000
