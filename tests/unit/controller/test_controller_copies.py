"""Second copies of idempotent tasks: when one begins, which of the two counts, and what becomes of the other."""

from __future__ import annotations

import pytest
from controller_bench import CLIENT, RUNTIME, Bench, broken, task_id

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Held, Requirements, Status

OTHER = "runtime-2"
FIRST, COPY = (task_id(9), 1), (task_id(9), 2)


def slow_task(share: float = 0.05, **fields: object) -> Bench:
    """Two runtimes; tasks like number 9 take a second, and number 9 has run for a minute on the first of them."""
    bench = Bench()
    bench.controller.copies.share = share
    bench.join(RUNTIME, labels={"zone": "here"})
    for number in range(1, 5):
        bench.submit(number, idempotent=True, **fields)
        bench.take_assigned(RUNTIME)
        bench.start(number)
        bench.now += 1.0
        bench.end(number, seconds=1.0)
        bench.take_ends()
    bench.submit(9, idempotent=True, **fields)
    assert bench.take_assigned(RUNTIME) == [FIRST]
    bench.start(9)
    bench.join(OTHER)
    bench.wait_beating(60.0, RUNTIME, OTHER)
    return bench


def with_copy() -> Bench:
    bench = slow_task()
    assert bench.take_assigned(OTHER) == [COPY]
    bench.start(9, 2, OTHER)
    return bench


def test_a_task_that_runs_far_too_long_gets_a_second_copy_elsewhere() -> None:
    bench = with_copy()
    assert bench.controller.state.counters["copies.started"] == 1
    story = [step.status for step in bench.task(9).story or []]
    assert "copied" in story
    assert bench.books.rows[task_id(9)].attempt == 2, "a controller that starts anew must not give number 2 away again"
    bench.emptiness_check()


def test_without_a_share_there_is_no_copy() -> None:
    slow_task(share=0.0).emptiness_check()


def test_where_nothing_has_room_for_it_there_is_no_copy() -> None:
    slow_task(requirements=Requirements(labels={"zone": "here"})).emptiness_check()


def test_the_copy_that_is_first_ends_the_task_and_the_other_is_stopped() -> None:
    bench = with_copy()
    bench.end(9, attempt=2, name=OTHER, result=b"second")
    assert bench.take(RUNTIME, m.Stop).attempts == [FIRST]
    outcome = bench.take_outcomes()[0]
    assert (outcome.status, outcome.result, outcome.runtime) == (Status.SUCCEEDED, b"second", OTHER)
    assert bench.controller.scheduler.fleet.books[RUNTIME].running, "its slot is free only when it says so"
    bench.end(9, end=AttemptEnd.CANCELLED)
    assert not bench.controller.scheduler.fleet.books[RUNTIME].running
    assert bench.controller.state.counters["reports.fenced"] == 1
    bench.emptiness_check()


def test_the_first_attempt_may_still_win() -> None:
    bench = with_copy()
    bench.end(9, result=b"first")
    assert bench.take(OTHER, m.Stop).attempts == [COPY]
    assert bench.take_outcomes()[0].result == b"first"
    bench.end(9, attempt=2, name=OTHER, result=b"second")
    assert not bench.controller.scheduler.fleet.books[OTHER].running
    bench.emptiness_check()


def test_when_the_first_fails_the_copy_goes_on_in_its_place() -> None:
    bench = with_copy()
    bench.end(9, end=AttemptEnd.FAILED, error=broken())
    assert (bench.task(9).attempt, bench.task(9).runtime) == (2, OTHER)
    bench.emptiness_check()
    bench.end(9, attempt=2, name=OTHER, result=b"second")
    assert bench.take_ends() == {task_id(9): Status.SUCCEEDED}


def test_when_the_copy_fails_nothing_has_happened() -> None:
    bench = with_copy()
    bench.end(9, attempt=2, name=OTHER, end=AttemptEnd.FAILED, error=broken())
    assert bench.task(9).copy is None
    bench.end(9, result=b"first")
    assert bench.take_ends() == {task_id(9): Status.SUCCEEDED}


@pytest.mark.parametrize("lost", [RUNTIME, OTHER])
def test_a_runtime_that_dies_leaves_the_task_to_the_other(lost: str) -> None:
    bench = with_copy()
    left = OTHER if lost == RUNTIME else RUNTIME
    bench.tell("", m.PeerChanged(lost, "runtime", lost.encode(), "bye"))
    assert bench.task(9).runtime == left
    assert bench.task(9).copy is None
    assert bench.task(9).losses == 0
    bench.end(9, attempt=bench.task(9).attempt, name=left)
    assert bench.take_ends() == {task_id(9): Status.SUCCEEDED}


def test_a_cancel_ends_both_and_is_answered_when_both_are_over() -> None:
    bench = with_copy()
    request = bench.request()
    bench.tell(CLIENT, m.Cancel(request, [task_id(9)]))
    assert bench.take(RUNTIME, m.Stop).attempts == [FIRST]
    assert bench.take(OTHER, m.Stop).attempts == [COPY]
    bench.end(9, end=AttemptEnd.CANCELLED)
    bench.emptiness_check()
    bench.end(9, attempt=2, name=OTHER, end=AttemptEnd.CANCELLED)
    assert set(map(type, bench.take_all(CLIENT))) == {m.TasksEnded, m.Changed}


def test_a_runtime_that_registers_anew_keeps_its_copy() -> None:
    bench = with_copy()
    registered = bench.join(OTHER, held=[Held(task_id(9), 2, "running", 1.0)])
    assert (registered.stop, registered.forget) == ([], [])
    assert bench.task(9).copy is not None


def test_a_copy_that_has_not_begun_is_asked_back_from_a_runtime_that_drains() -> None:
    bench = slow_task()
    assert bench.take_assigned(OTHER) == [COPY]
    bench.tell(CLIENT, m.DrainRuntime(5, OTHER))
    bench.take(CLIENT, m.Changed)
    assert bench.take(OTHER, m.SetDrain).drain
    assert bench.take(OTHER, m.TakeBack).attempts == [COPY]
