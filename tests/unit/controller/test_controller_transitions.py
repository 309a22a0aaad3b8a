"""Every row of the table of a task's life, each by the messages that lead along it; and no row without such messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from controller_bench import CLIENT, RUNTIME, Bench, broken, task_id

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Held, Reason, Retry, Status, Union
from headway_bus.records import Ended as AttemptEnded
from headway_controller import life
from headway_controller.state import Assigned, Ended, Gathering, Queued, Running, State, Task, Waiting
from headway_controller.transitions import TABLE, ImpossibleTransition, move

Row = tuple[type, str]
TWICE = Retry(max_attempts=2, backoff=4.0)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Row]]:
    """The rows that were gone along, in order."""
    rows: list[Row] = []

    def note(task: Task, event: str, state: State) -> None:
        rows.append((type(task.state), event))
        move(task, event, state)

    monkeypatch.setattr(life, "move", note)
    yield rows


def assigned(bench: Bench, **options: object) -> None:
    bench.submit(1, **options)
    bench.join()
    assert bench.take_assigned() == [(task_id(1), 1)]


def running(bench: Bench, **options: object) -> None:
    assigned(bench, **options)
    bench.start(1)


def given_up(bench: Bench, **options: object) -> None:
    """Queued with an attempt that its runtime said it does not have; the next one is not assigned."""
    assigned(bench, **options)
    bench.controller.pause(True)
    bench.join(assigned=bench.controller.state.runtimes[RUNTIME].outbox.last_number)
    assert isinstance(bench.task(1).state, Queued)


def recovering(bench: Bench) -> Bench:
    assigned(bench)
    later = bench.restarted()
    later.recover()
    assert isinstance(later.task(1).state, Waiting)
    return later


def released(bench: Bench) -> None:
    bench.submit(1, delay=3.0)
    bench.wait(3.0)


def adopted_from_waiting(bench: Bench) -> None:
    recovering(bench).join(held=[Held(task_id(1), 1, "running", 2.0)])


def adopted_unstarted_from_waiting(bench: Bench) -> None:
    recovering(bench).join(held=[Held(task_id(1), 1, "held")])


def parent_failed(bench: Bench) -> None:
    bench.submit(2)
    bench.submit(1, after=[task_id(2)])
    bench.tell(CLIENT, m.Cancel(1, [task_id(2)]))


def cancelled_waiting(bench: Bench) -> None:
    bench.submit(1, delay=60.0)
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))


def expired_waiting(bench: Bench) -> None:
    bench.submit(1, delay=60.0, timeout_start=5.0)
    bench.wait(5.0)


def adopted_from_queued(bench: Bench) -> None:
    given_up(bench)
    bench.join(held=[Held(task_id(1), 1, "running")])


def adopted_unstarted_from_queued(bench: Bench) -> None:
    given_up(bench)
    bench.join(held=[Held(task_id(1), 1, "held")])


def late_success(bench: Bench) -> None:
    given_up(bench)
    bench.end(1)


def late_failure(bench: Bench) -> None:
    given_up(bench)
    bench.fail_attempt(1)


def late_failure_with_another_to_come(bench: Bench) -> None:
    given_up(bench, retry=TWICE)
    bench.fail_attempt(1)


def cancelled_queued(bench: Bench) -> None:
    bench.submit(1)
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))


def expired_queued(bench: Bench) -> None:
    bench.submit(1, timeout_start=5.0)
    bench.wait(5.0)


def adopted_from_assigned(bench: Bench) -> None:
    assigned(bench)
    bench.join(held=[Held(task_id(1), 1, "running")])


def given_back_unstarted(bench: Bench) -> None:
    assigned(bench)
    bench.end(1, end=AttemptEnd.RETURNED)


def lost_unstarted(bench: Bench) -> None:
    assigned(bench)
    bench.tell("", m.PeerChanged(RUNTIME, "runtime", b"x", "bye"))


def failed_at_once_with_another_to_come(bench: Bench) -> None:
    assigned(bench, retry=TWICE)
    bench.fail_attempt(1)


def succeeded_without_a_start(bench: Bench) -> None:
    assigned(bench)
    bench.end(1)


def failed_without_a_start(bench: Bench) -> None:
    assigned(bench)
    bench.fail_attempt(1)


def cancelled_assigned(bench: Bench) -> None:
    assigned(bench)
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))
    bench.end(1, end=AttemptEnd.CANCELLED)


def expired_assigned(bench: Bench) -> None:
    assigned(bench, timeout_start=1.0)
    bench.wait(1.0)
    bench.end(1, end=AttemptEnd.RETURNED)


def adopted_again(bench: Bench) -> None:
    running(bench)
    bench.join(held=[Held(task_id(1), 1, "running", 1.0)])


def given_back_running(bench: Bench) -> None:
    running(bench)
    bench.end(1, end=AttemptEnd.RETURNED)


def lost_running(bench: Bench) -> None:
    running(bench)
    bench.wait(60.0)


def failed_with_another_to_come(bench: Bench) -> None:
    running(bench, retry=TWICE)
    bench.fail_attempt(1)


def succeeded(bench: Bench) -> None:
    running(bench)
    bench.end(1)


def failed(bench: Bench) -> None:
    running(bench)
    bench.fail_attempt(1)


def cancelled_running(bench: Bench) -> None:
    running(bench)
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))
    bench.end(1, end=AttemptEnd.CANCELLED)


def expired_running(bench: Bench) -> None:
    running(bench, timeout_run=1.0)
    bench.fail_attempt(1, error=broken(Reason.TIMEOUT_RUN, "it ran for longer than its limit of 1 s"))


def revived(bench: Bench) -> None:
    running(bench)
    bench.fail_attempt(1)
    row = bench.books.rows[task_id(1)]
    bench.controller.revive(CLIENT, 1, [row], [], bench.now)
    bench.turn()


def gathering(bench: Bench, **plan: Any) -> None:
    bench.join()
    bench.submit(1, union=Union("*", **plan))


def gathered_when_it_was_time(bench: Bench) -> None:
    bench.submit(1, union=Union("*"), delay=10.0)
    bench.wait(10.0)


def union_ended(bench: Bench, end: AttemptEnd) -> None:
    gathering(bench)
    ((part, attempt),) = bench.take_assigned()
    bench.report(ended=[AttemptEnded(part, attempt, end, error=None if end == AttemptEnd.SUCCEEDED else broken())])


def union_cancelled(bench: Bench) -> None:
    gathering(bench)
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))


def union_expired(bench: Bench) -> None:
    gathering(bench, deadline=10.0)
    bench.wait_beating(11.0)


def union_revived(bench: Bench) -> None:
    union_cancelled(bench)
    bench.controller.revive(CLIENT, 1, [bench.books.rows[task_id(1)]], [], bench.now)
    bench.turn()


WAYS: dict[Row, Callable[[Bench], None]] = {
    (Waiting, "release"): released,
    (Waiting, "adopt"): adopted_from_waiting,
    (Waiting, "adopt_unstarted"): adopted_unstarted_from_waiting,
    (Waiting, "fail"): parent_failed,
    (Waiting, "cancel"): cancelled_waiting,
    (Waiting, "expire"): expired_waiting,
    (Queued, "assign"): assigned,
    (Queued, "adopt"): adopted_from_queued,
    (Queued, "adopt_unstarted"): adopted_unstarted_from_queued,
    (Queued, "succeed"): late_success,
    (Queued, "fail"): late_failure,
    (Queued, "retry"): late_failure_with_another_to_come,
    (Queued, "cancel"): cancelled_queued,
    (Queued, "expire"): expired_queued,
    (Assigned, "start"): running,
    (Assigned, "adopt"): adopted_from_assigned,
    (Assigned, "give_back"): given_back_unstarted,
    (Assigned, "lose"): lost_unstarted,
    (Assigned, "retry"): failed_at_once_with_another_to_come,
    (Assigned, "succeed"): succeeded_without_a_start,
    (Assigned, "fail"): failed_without_a_start,
    (Assigned, "cancel"): cancelled_assigned,
    (Assigned, "expire"): expired_assigned,
    (Running, "adopt"): adopted_again,
    (Running, "give_back"): given_back_running,
    (Running, "lose"): lost_running,
    (Running, "retry"): failed_with_another_to_come,
    (Running, "succeed"): succeeded,
    (Running, "fail"): failed,
    (Running, "cancel"): cancelled_running,
    (Running, "expire"): expired_running,
    (Ended, "revive"): revived,
    (Waiting, "gather"): gathered_when_it_was_time,
    (Queued, "gather"): gathering,
    (Ended, "gather"): union_revived,
    (Gathering, "succeed"): lambda bench: union_ended(bench, AttemptEnd.SUCCEEDED),
    (Gathering, "fail"): lambda bench: union_ended(bench, AttemptEnd.FAILED),
    (Gathering, "cancel"): union_cancelled,
    (Gathering, "expire"): union_expired,
}


def test_every_row_of_the_table_has_a_way_here() -> None:
    assert {(source.__name__, event) for source, event in TABLE} == {(source.__name__, event) for source, event in WAYS}


@pytest.mark.parametrize("row", WAYS, ids=lambda row: f"{row[0].__name__}-{row[1]}")
def test_row(row: Row, moved: list[Row]) -> None:
    bench = Bench()
    WAYS[row](bench)
    assert row in moved
    assert set(moved) <= set(TABLE)


@pytest.mark.parametrize("state", [Waiting(0.0), Queued(0.0), Assigned("r", 0.0), Running("r", 0.0)])
def test_what_is_not_in_the_table_is_an_error_with_the_story(state: State) -> None:
    bench = Bench()
    bench.submit(1)
    task = bench.task(1)
    task.state = state
    with pytest.raises(ImpossibleTransition, match=r"'revive' does not lead to.*story: just submitted"):
        move(task, "revive", Queued(1.0))
    assert task.state is state


def test_an_end_is_final() -> None:
    bench = Bench()
    bench.holding = True
    bench.ask_submit(1)
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))
    task = bench.task(1)
    assert isinstance(task.state, Ended) and bench.status(1) == Status.CANCELLED
    for event in ("succeed", "fail", "cancel", "expire", "assign", "start", "lose"):
        with pytest.raises(ImpossibleTransition):
            move(task, event, task.state)
