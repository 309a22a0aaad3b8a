"""Another controller on the same store: what it takes in, what runtimes may claim, and which numbers it gives out."""

from __future__ import annotations

from typing import Any

import pytest
from controller_bench import CLIENT, RUNTIME, Bench, broken, options, task_id

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Ended, Held, Reason, Retry, Status
from headway_controller.state import Waiting

GRACE = 5.0


def before(**fields: Any) -> Bench:
    """Task 1 is leased to the runtime when the controller is killed."""
    bench = Bench()
    bench.join()
    bench.submit(1, **fields)
    assert bench.take_assigned() == [(task_id(1), 1)]
    return bench


def after(bench: Bench) -> Bench:
    later = bench.restarted()
    later.recover(GRACE)
    later.emptiness_check()
    return later


def test_everything_that_was_accepted_and_has_not_ended_is_there_again() -> None:
    bench = before()
    bench.submit(2, job="j", priority=3)
    bench.submit(3, after=[task_id(2)])
    bench.submit(4, delay=600.0)
    later = after(bench)
    assert {number: later.status(number) for number in (1, 2, 3, 4)} == dict.fromkeys((1, 2, 3, 4), Status.WAITING)
    assert task_id(2) in later.controller.state.jobs["j"].tasks
    later.wait(GRACE)
    assert [later.status(number) for number in (1, 2, 3, 4)] == [Status.QUEUED, Status.QUEUED] + [Status.WAITING] * 2
    later.wait(600.0)
    assert later.status(4) == Status.QUEUED


def test_an_attempt_that_goes_on_is_adopted_and_not_run_again() -> None:
    later = after(before())
    registered = later.join(held=[Held(task_id(1), 1, "running", 7.0)])
    assert (registered.stop, registered.forget) == ([], [])
    assert later.status(1) == Status.RUNNING
    later.wait_beating(2 * GRACE)
    later.emptiness_check()
    later.tell(CLIENT, m.Await(9, [task_id(1)]))
    later.take(CLIENT, m.Accepted)
    later.end(1, result=b"42")
    (outcome,) = later.take_outcomes()
    assert (outcome.result, outcome.attempt) == (b"42", 1)


def test_an_unstarted_attempt_is_adopted_too() -> None:
    later = after(before())
    later.join(held=[Held(task_id(1), 1, "held")])
    assert later.status(1) == Status.ASSIGNED
    later.start(1)
    assert later.status(1) == Status.RUNNING


def test_an_end_that_was_never_reported_is_adopted() -> None:
    later = after(before())
    assert later.join(held=[Held(task_id(1), 1, "ended")]).forget == []
    later.end(1, result=b"42")
    assert later.status(1) == Status.SUCCEEDED


def test_what_nobody_claims_is_run_again_with_a_number_that_was_never_used() -> None:
    later = after(before())
    later.join()
    later.emptiness_check()  # the grace is not over: another runtime may have it
    later.wait_beating(GRACE)
    ((_, attempt),) = later.take_assigned()
    assert attempt > 1


@pytest.mark.parametrize("end", [AttemptEnd.RETURNED, AttemptEnd.FAILED])
def test_the_attempt_after_one_that_was_over_is_adopted_however_many_there_were(end: AttemptEnd) -> None:
    bench = before(retry=Retry(max_attempts=99, backoff=0.0))
    for attempt in range(1, 8):
        bench.end(1, attempt, end, error=broken() if end == AttemptEnd.FAILED else None)
        bench.wait_beating(0.1)
        assert bench.take_assigned() == [(task_id(1), attempt + 1)]
    later = after(bench)
    assert later.join(held=[Held(task_id(1), 8, "running")]).stop == []
    later.end(1, 8)
    assert later.status(1) == Status.SUCCEEDED


def test_an_attempt_that_was_over_is_not_adopted_and_its_report_counts_once() -> None:
    bench = before(retry=Retry(max_attempts=3, backoff=60.0, backoff_max=60.0))
    bench.fail_attempt(1)  # and the settlement is lost with the controller
    later = after(bench)
    later.join(held=[Held(task_id(1), 1, "ended")])
    later.fail_attempt(1)
    assert later.task(1).failures == 1
    assert later.status(1) == Status.WAITING


def test_back_off_goes_on_where_it_was() -> None:
    bench = before(retry=Retry(max_attempts=3, backoff=60.0, backoff_max=60.0))
    bench.fail_attempt(1)
    waiting = bench.task(1).state
    assert isinstance(waiting, Waiting)
    later = after(bench)
    again = later.task(1).state
    assert isinstance(again, Waiting)
    assert again.until == pytest.approx(max(waiting.until, later.now + GRACE))


def test_a_lost_attempt_may_be_claimed_by_its_runtime_when_it_comes_back() -> None:
    bench = before()
    bench.wait(60.0)
    assert bench.task(1).losses == 1
    later = after(bench)
    later.join(held=[Held(task_id(1), 1, "running", 60.0)])
    assert later.status(1) == Status.RUNNING
    later.end(1)
    assert later.status(1) == Status.SUCCEEDED


def test_after_adopting_an_earlier_attempt_later_numbers_are_not_given_out_again() -> None:
    bench = before()
    bench.wait(60.0)
    bench.join("second")
    assert bench.take_assigned("second") == [(task_id(1), 2)]
    later = after(bench)
    later.join(held=[Held(task_id(1), 1, "running", 60.0)])
    assert later.join("second", held=[Held(task_id(1), 2, "running")]).stop == [(task_id(1), 2)]
    later.end(1, 1, AttemptEnd.RETURNED)
    ((_, attempt),) = [
        key for name in (RUNTIME, "second") for each in later.take_all(name) for key in attempts_of(each)
    ]
    assert attempt > 2
    later.end(1, 2, AttemptEnd.CANCELLED, name="second")
    assert later.status(1) == Status.ASSIGNED, "the end of the one that was stopped is not taken for the new one's"


def attempts_of(message: m.Message) -> list[tuple[bytes, int]]:
    groups = message.groups if isinstance(message, m.Assign) else []
    return [(task, attempt) for group in groups for task, attempt, _ in group.attempts]


def test_a_second_restart_gives_out_higher_numbers_still() -> None:
    numbers = [1]
    bench = before()
    for _ in range(4):
        bench = after(bench)
        bench.join()
        bench.wait_beating(GRACE)
        ((_, attempt),) = bench.take_assigned()
        numbers.append(attempt)
    assert numbers == sorted(set(numbers))


def test_failures_and_losses_go_on_counting() -> None:
    bench = before(retry=Retry(max_attempts=2, backoff=0.0))
    bench.fail_attempt(1)
    later = after(bench)
    later.join()
    later.wait_beating(GRACE)
    ((_, attempt),) = later.take_assigned()
    later.fail_attempt(1, attempt)
    assert later.status(1) == Status.FAILED


class TestDependencies:
    def test_a_child_whose_parents_are_not_over_waits_for_them(self) -> None:
        bench = before()
        bench.submit(2, after=[task_id(1)])
        later = after(bench)
        later.join(held=[Held(task_id(1), 1, "running")])
        later.wait_beating(2 * GRACE)
        assert later.status(2) == Status.WAITING
        later.end(1)
        assert later.take_assigned() == [(task_id(2), 2)]

    def test_a_child_begun_before_its_parents_end_was_stored_has_stopped_before_it_begins_again(self) -> None:
        bench = before()
        bench.submit(2, after=[task_id(1)])
        bench.holding = True
        bench.tell(RUNTIME, m.Report(1, ended=[Ended(task_id(1), 1, AttemptEnd.SUCCEEDED)]))
        assert bench.take_assigned() == [(task_id(2), 1)], "nobody was told, so it may begin"
        later = after(bench)
        held = [Held(task_id(1), 1, "ended"), Held(task_id(2), 1, "running", 3.0)]
        assert later.join(slots=2, held=held).stop == [(task_id(2), 1)]
        later.end(1)
        later.wait_beating(1.0)
        assert later.status(2) == Status.WAITING, "an execution of it is still being stopped"
        later.end(2, 1, AttemptEnd.CANCELLED)
        later.wait_beating(1.0)
        assert later.take_assigned() == [(task_id(2), 2)]

    def test_a_child_of_any_that_was_running_is_adopted_though_another_parent_is_not_over(self) -> None:
        bench = Bench()
        bench.join(slots=2)
        bench.submit(1)
        bench.submit(2)
        bench.take_all(RUNTIME)
        bench.submit(3, after=[task_id(1), task_id(2)], after_count="any")
        bench.end(1)
        assert bench.take_assigned() == [(task_id(3), 1)]
        later = after(bench)
        registered = later.join(slots=2, held=[Held(task_id(2), 1, "running"), Held(task_id(3), 1, "running")])
        assert registered.stop == []
        later.emptiness_check()
        later.end(3)
        assert later.status(3) == Status.SUCCEEDED

    def test_a_parent_that_was_purged_is_not_waited_for_for_ever(self) -> None:
        bench = Bench()
        bench.join(slots=2)
        bench.submit(1)
        bench.submit(2)
        bench.take_all(RUNTIME)
        bench.submit(3, after=[task_id(1), task_id(2)])
        bench.submit(4, after=[task_id(1), task_id(2)], after_end="always")
        bench.end(1)
        bench.controller.purge(CLIENT, 1, [task_id(1)], [])
        bench.turn()
        later = bench.restarted()
        later.recover(GRACE)
        row = later.books.rows[task_id(3)]
        assert row.end is not None and row.end.error is not None
        assert row.end.error.reason == Reason.DEPENDENCY and "purged" in row.end.error.message
        later.join(slots=2, held=[Held(task_id(2), 1, "running")])
        later.end(2)
        assert later.take_assigned()[0][0] == task_id(4)

    def test_a_parent_that_failed_meanwhile_fails_its_child(self) -> None:
        bench = Bench()
        bench.submit(1)
        bench.submit(2, after=[task_id(1)], watch=False)
        bench.holding = True
        bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))
        ends = [each for write in bench.unstored for each in write.operations]
        bench.books.apply(ends[:1])  # the end of the parent was stored, that of the child was not
        later = bench.restarted()
        later.recover(GRACE)
        assert later.status(2) == Status.FAILED


def test_a_client_that_asks_the_next_controller_gets_what_ended_before() -> None:
    bench = before()
    bench.end(1, result=b"42")
    later = after(bench)
    later.tell(CLIENT, m.Await(3, [task_id(1), task_id(99)]))
    ended, accepted = sorted(later.take_all(CLIENT), key=lambda each: isinstance(each, m.Accepted))
    assert isinstance(accepted, m.Accepted) and accepted.count == 2
    assert isinstance(ended, m.TasksEnded)
    found, unknown = ended.outcomes
    assert found.result == b"42"
    assert (unknown.status, unknown.error.reason) == (Status.FAILED, Reason.LOST)


def test_a_task_that_had_to_start_by_now_expires_at_once() -> None:
    bench = Bench()
    bench.submit(1, timeout_start=10.0)
    bench.now += 60.0
    later = after(bench)
    later.wait(0.0)
    assert later.status(1) == Status.EXPIRED


def test_a_task_may_be_cancelled_before_anybody_claimed_it() -> None:
    later = after(before())
    later.tell(CLIENT, m.Cancel(1, [task_id(1)]))
    assert later.take(CLIENT, m.Changed).count == 1
    assert later.join(held=[Held(task_id(1), 1, "running")]).stop == [(task_id(1), 1)]


class TestANewVersion:
    """Stored by a controller that was killed before it had stopped the old one."""

    def replaced(self) -> Bench:
        bench = before()
        new = [m.Group(options(after=[task_id(1)], after_end="always", replaces=task_id(1)), [(task_id(2), b"")])]
        bench.holding = True
        bench.tell(CLIENT, m.Submit(bench.request(), new))
        (write,) = bench.unstored
        bench.books.apply(write.operations)
        return after(bench)

    def test_the_old_one_is_stopped_where_it_runs_and_the_new_one_waits_for_that(self) -> None:
        later = self.replaced()
        assert later.status(1) == Status.WAITING and later.status(2) == Status.WAITING
        assert later.join(slots=4, held=[Held(task_id(1), 1, "running")]).stop == [(task_id(1), 1)]
        assert later.status(2) == Status.WAITING
        later.end(1, end=AttemptEnd.CANCELLED)
        assert later.status(1) == Status.CANCELLED
        assert [task for task, _ in later.take_assigned()] == [task_id(2)]

    def test_the_old_one_ends_when_no_runtime_has_it(self) -> None:
        later = self.replaced()
        later.join(slots=4)
        later.wait_beating(100.0)
        assert later.status(1) == Status.CANCELLED
        assert [task for task, _ in later.take_assigned()] == [task_id(2)]
