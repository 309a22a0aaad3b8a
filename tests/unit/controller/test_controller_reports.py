"""Reports of attempts: late, repeated, wrong or from the past; when they are settled; numbers without sense in them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from controller_bench import KEY, RUNTIME, Bench, assigned, broken, options, task_id, through

from headway_bus import messages as m
from headway_bus.ids import text_of
from headway_bus.records import (
    AttemptEnd,
    Ended,
    Held,
    LogRecord,
    Reason,
    Started,
    Status,
)
from headway_controller.state import Running


class TestFencing:
    def test_a_report_of_an_older_attempt_changes_nothing_but_is_settled(self) -> None:
        bench = Bench()
        bench.join("first")
        bench.submit(1)
        bench.take_assigned("first")
        bench.join("second")
        bench.wait_beating(60.0, "second")
        assert bench.take_assigned("second") == [(task_id(1), 2)]
        assert bench.join("first").stop == []
        bench.end(1, 1, name="first", result=b"old")
        assert bench.status(1) == Status.ASSIGNED
        assert bench.counters["reports.fenced"] == 1
        bench.end(1, 2, name="second", result=b"new")
        assert bench.take_outcomes()[0].result == b"new"
        bench.emptiness_check()

    def test_a_report_by_another_runtime_changes_nothing(self) -> None:
        bench = assigned()
        bench.join("other")
        bench.end(1, 1, name="other")
        assert bench.status(1) == Status.ASSIGNED
        assert bench.counters["reports.fenced"] == 1

    def test_a_start_that_comes_after_the_end_changes_nothing(self) -> None:
        bench = assigned()
        bench.end(1)
        bench.take_ends()
        bench.start(1)
        assert bench.status(1) == Status.SUCCEEDED
        bench.emptiness_check()

    def test_a_report_that_comes_twice_ends_the_task_once(self) -> None:
        bench = assigned()
        for _ in range(2):
            bench.end(1, result=b"42")
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}
        assert bench.counters["tasks.succeeded"] == 1
        bench.emptiness_check()

    def test_the_same_end_twice_in_one_report_counts_once(self) -> None:
        bench = assigned()
        end = Ended(task_id(1), 1, AttemptEnd.SUCCEEDED, 1.0, b"42")
        bench.report(ended=[end, end])
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}
        bench.emptiness_check()

    def test_two_different_ends_of_one_attempt_the_first_counts(self) -> None:
        bench = assigned()
        bench.report(
            ended=[
                Ended(task_id(1), 1, AttemptEnd.SUCCEEDED),
                Ended(task_id(1), 1, AttemptEnd.FAILED, error=broken()),
            ]
        )
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}

    def test_a_report_of_an_unknown_task_is_settled_and_counted(self) -> None:
        bench = assigned()
        bench.end(77)
        assert bench.counters["reports.fenced"] == 1
        bench.emptiness_check()

    def test_a_report_before_the_registration_is_neither_believed_nor_settled(self) -> None:
        bench = assigned()
        later = bench.restarted()
        later.recover()
        later._roles[RUNTIME] = "runtime"
        later.tell(RUNTIME, m.Report(1, ended=[Ended(*KEY, AttemptEnd.SUCCEEDED)]))
        later.take(RUNTIME, m.SendInventory)
        later.emptiness_check()
        assert later.counters["reports.unregistered"] == 1

    def test_a_late_report_of_a_lost_attempt_is_welcome_while_no_other_has_begun(self) -> None:
        bench = assigned()
        bench.controller.pause(True)
        bench.join(assigned=through(bench))  # it does not have it any more
        assert (bench.status(1), bench.task(1).losses) == (Status.QUEUED, 1)
        bench.end(1, result=b"42")
        assert bench.take_outcomes()[0].result == b"42"
        assert bench.counters["reports.late"] == 1

    def test_a_late_return_of_a_lost_attempt_changes_nothing(self) -> None:
        bench = assigned()
        bench.controller.pause(True)
        bench.join(assigned=through(bench))
        bench.end(1, end=AttemptEnd.RETURNED)
        assert bench.status(1) == Status.QUEUED
        bench.controller.pause(False)
        bench.turn()
        assert bench.take_assigned() == [(task_id(1), 2)]


class TestSettlement:
    def test_a_report_is_settled_when_its_ends_are_stored(self) -> None:
        bench = assigned()
        bench.holding = True
        bench.end(1)
        assert not bench.sent
        bench.store()
        bench.take(RUNTIME, m.Settled)
        bench.take_ends(acknowledge=False)

    def test_a_repeated_report_is_settled_only_behind_the_write_of_the_first(self) -> None:
        bench = assigned()
        bench.holding = True
        bench.end(1)
        first, bench.unstored = bench.unstored, []
        bench.end(1)
        second, bench.unstored = bench.unstored, first
        assert not bench.sent
        bench.store()
        assert len(bench.take(RUNTIME, m.Settled).batches) == 1
        bench.unstored = second
        bench.store()
        bench.take(RUNTIME, m.Settled)

    def test_reports_of_an_earlier_process_of_that_name_are_not_settled_to_the_next(self) -> None:
        bench = assigned()
        bench.holding = True
        bench.end(1)
        bench.join(instance=b"another")
        bench.store()
        assert bench.take_all(RUNTIME) == []

    def test_an_end_that_waits_for_the_store_is_not_forgotten_by_the_runtime(self) -> None:
        bench = assigned()
        bench.holding = True
        bench.end(1)
        registered = bench.join(held=[Held(*KEY, "ended")], assigned=through(bench))
        assert (registered.stop, registered.forget) == ([], [])
        bench.store()
        bench.take(RUNTIME, m.Settled)

    def test_an_end_that_is_stored_need_not_be_reported_again(self) -> None:
        bench = assigned()
        bench.end(1)
        bench.take_ends()
        assert bench.join(held=[Held(*KEY, "ended")], assigned=through(bench)).forget == [KEY]


class TestWrongNumbersInReports:
    @pytest.mark.parametrize("seconds", [math.nan, math.inf, -5.0, 1e300])
    def test_a_duration_without_sense_ends_the_task_and_spoils_no_estimate(self, seconds: float) -> None:
        bench = assigned()
        bench.start(1, age=seconds)
        bench.end(1, seconds=seconds, age=seconds)
        (outcome,) = bench.take_outcomes()
        assert outcome.status == Status.SUCCEEDED and 0.0 <= outcome.ran <= 1e9 and math.isfinite(outcome.waited)
        row = bench.books.rows[task_id(1)]
        assert row.end is not None and math.isfinite(row.end.started)
        _, starts, ends = bench.controller.scheduler.waiting(bench.controller.life.intern(options()), bench.now, "")
        assert math.isfinite(starts.expectation) and math.isfinite(ends.expectation)

    @pytest.mark.parametrize("index", [1, -1, 99])
    def test_a_result_in_a_frame_that_is_not_there_fails_that_task(self, index: int) -> None:
        bench = Bench()
        bench.join(slots=2)
        bench.submit(1)
        bench.submit(2)
        bench.take_all(RUNTIME)
        ends = [
            Ended(task_id(1), 1, AttemptEnd.SUCCEEDED, result=index),
            Ended(task_id(2), 1, AttemptEnd.SUCCEEDED, result=0),
        ]
        bench.report(RUNTIME, b"x" * 50_000, ended=ends)
        first, second = sorted(bench.take_outcomes(), key=lambda outcome: outcome.task)
        assert first.error.reason == Reason.ENCODE and "payload frame" in first.error.message
        assert second.status == Status.SUCCEEDED

    def test_records_that_no_store_could_keep_are_left_out_and_the_others_kept(self) -> None:
        bench = assigned()
        good = LogRecord(*KEY, 0, "stdout", 1.0, "good")
        bad = [
            LogRecord(*KEY, 2**63, "stdout", 1.0, "sequence"),
            LogRecord(task_id(1), 2**63, 0, "stdout", 1.0, "attempt"),
            LogRecord(*KEY, 1, "stdout", math.nan, "time"),
            LogRecord(*KEY, -1, "stdout", 1.0, "sequence"),
        ]
        bench.report(logs=[bad[0], good, *bad[1:]], dropped={task_id(1): 2**63})
        assert [record.text for each in bench.books.logs for record in each.records] == ["good"]
        assert all(count < 2**60 for each in bench.books.logs for count in each.dropped.values())

    def test_a_start_with_an_age_without_sense_is_a_start_now(self) -> None:
        bench = assigned()
        bench.report(started=[Started(*KEY, math.nan)])
        state = bench.task(1).state
        assert isinstance(state, Running) and state.since == bench.now


def test_an_attempt_that_failed_without_a_word_still_says_something() -> None:
    bench = assigned()
    bench.end(1, end=AttemptEnd.FAILED)
    assert bench.take_outcomes()[0].error.message


def test_only_the_controller_may_say_that_an_attempt_is_lost() -> None:
    bench = assigned()
    bench.end(1, end=AttemptEnd.LOST)
    assert bench.take_ends() == {task_id(1): Status.FAILED}


def test_logs_go_to_the_store_and_to_those_who_follow_them() -> None:
    bench = assigned()
    topic = "logs." + text_of(task_id(1))
    record = LogRecord(*KEY, 0, "stdout", 5.0, "hello")
    bench.report(logs=[record])
    bench.emptiness_check()
    bench.tell("", m.TopicsChanged([topic], []))
    bench.report(logs=[LogRecord(*KEY, 1, "progress", 6.0, "", {"done": 3, "total": 10})])
    event = bench.take("*" + topic, m.Event)
    assert (event.topic, [each.sequence for each in event.records]) == (topic, [1])
    assert bench.task(1).progress == (3.0, 10.0)
    bench.tell("", m.TopicsChanged([], [topic]))
    bench.report(logs=[LogRecord(*KEY, 2, "stdout", 7.0, "bye")])
    bench.emptiness_check()
    assert sum(len(each.records) for each in bench.books.logs) == 3


def test_messages_go_on_when_a_task_has_written_all_the_output_that_is_kept() -> None:
    bench = assigned()
    bench.controller.reports.logs_per_task = 2
    streams = ["stdout"] * 3 + ["message"] * 3 + ["stdout"]
    records = [LogRecord(task_id(1), 1, at, stream, 0.0, f"{at}") for at, stream in enumerate(streams)]
    bench.report(logs=records)
    assert [record.text for kept in bench.books.logs for record in kept.records] == ["0", "1", "3", "4", "5"]
    assert bench.counters["logs.dropped"] == 2


def test_ends_that_come_late_are_booked_when_they_were() -> None:
    bench = assigned()
    bench.start(1)
    booked = []
    finished = bench.controller.scheduler.finished_many

    def noting(name: str, ended: Any, now: float, ages: Any = ()) -> int:
        booked.append(list(ages))
        return finished(name, ended, now, ages)

    bench.controller.scheduler.finished_many = noting  # type: ignore[method-assign]
    bench.report(ended=[Ended(task_id(1), 1, AttemptEnd.SUCCEEDED, 2.0, age=500.0)])
    assert booked == [[500.0]]
