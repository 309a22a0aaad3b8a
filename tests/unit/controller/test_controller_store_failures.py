"""What the controller says, and does not say, while the store cannot write. Each was a world's broken promise once."""

from __future__ import annotations

import pytest
from controller_bench import CLIENT, RUNTIME, Bench, options, task_id

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Code, Ended, Held, Reason, Status
from headway_controller.core import STORE_RETRY
from headway_controller.state import Waiting
from headway_controller.usage import Quotas

OTHER = "client-2"


def denied_while_it_runs() -> Bench:
    """Task 1 was given to the runtime at once; then its submission could not be stored."""
    bench = Bench()
    bench.join()
    bench.holding = True
    bench.ask_submit(1)
    assert bench.take_assigned() == [(task_id(1), 1)]
    bench.fail()
    assert bench.take(CLIENT, m.Denied).code is Code.STORE
    assert bench.take(RUNTIME, m.Stop).attempts == [(task_id(1), 1)]
    bench.holding = False
    return bench


def stop(bench: Bench) -> None:
    """The runtime says that it has stopped the attempt."""
    bench.tell(RUNTIME, m.Report(1, ended=[Ended(task_id(1), 1, AttemptEnd.CANCELLED)]))
    bench.take(RUNTIME, m.Settled)


def test_the_room_of_what_could_not_be_stored_is_given_back() -> None:
    bench = denied_while_it_runs()
    book = bench.controller.scheduler.fleet.books[RUNTIME]
    assert book.committed, "until the runtime has let go of it"
    stop(bench)
    assert not book.committed
    bench.emptiness_check()


def test_the_next_attempt_waits_until_what_could_not_be_stored_has_stopped() -> None:
    bench = denied_while_it_runs()
    bench.wait(STORE_RETRY)
    bench.submit(1)
    bench.wait(1.0)
    assert isinstance(bench.controller.state.tasks[task_id(1)].state, Waiting)
    stop(bench)
    bench.wait(1.0)
    assert bench.take_assigned() == [(task_id(1), 2)], "not the number that the runtime knows for another run"


@pytest.mark.parametrize("first", [CLIENT, OTHER])
def test_what_is_said_twice_in_one_wake_up_and_not_stored_is_accepted_of_nobody(first: str) -> None:
    bench = Bench()
    bench.holding = True
    for client in (first, OTHER if first == CLIENT else CLIENT):
        group = m.Group(options(), [(task_id(1), b"arguments")])
        bench.hear(client, m.Submit(bench.request(), [group], True))
    bench.turn()
    bench.fail()
    bench.take(first, m.Denied)
    bench.holding = False
    bench.wait(2 * STORE_RETRY)
    assert task_id(1) not in bench.books.rows
    assert not [each for each in bench.sent if isinstance(each.message, m.Accepted)]


def test_submissions_are_taken_again_when_there_is_room_though_nothing_else_was_to_be_stored() -> None:
    bench = Bench()
    bench.holding = True
    bench.ask_submit(1)
    bench.fail()
    bench.take(CLIENT, m.Denied)
    bench.wait(STORE_RETRY)
    bench.fail("still full")
    bench.holding = False
    bench.ask_submit(2)
    bench.take(CLIENT, m.Denied)
    bench.wait(STORE_RETRY)
    bench.submit(2)
    bench.emptiness_check()


def test_a_repeated_report_is_settled_only_when_the_end_it_brought_is_stored() -> None:
    bench = Bench()
    bench.join()
    bench.submit(1)
    bench.take_assigned()
    bench.holding = True
    report = m.Report(7, ended=[Ended(task_id(1), 1, AttemptEnd.SUCCEEDED, 0.1, b"result")])
    bench.tell(RUNTIME, report)
    bench.tell(RUNTIME, report)
    first, second = bench.unstored
    bench.unstored = [first]
    bench.fail()
    bench.unstored = [second]
    bench.store()
    bench.nothing_sent()
    bench.wait(STORE_RETRY)
    bench.store()
    assert set(bench.take(RUNTIME, m.Settled).batches) == {7}
    assert bench.take_ends(acknowledge=False) == {task_id(1): Status.SUCCEEDED}


def test_nor_when_the_repetition_came_before_the_end_was_offered_again() -> None:
    bench = Bench()
    bench.join()
    bench.submit(1)
    bench.take_assigned()
    bench.holding = True
    report = m.Report(7, ended=[Ended(task_id(1), 1, AttemptEnd.SUCCEEDED, 0.1, b"result")])
    bench.tell(RUNTIME, report)
    bench.fail()
    bench.tell(RUNTIME, report)
    bench.wait(STORE_RETRY)
    repeated, offered = bench.unstored
    bench.unstored = [repeated]
    bench.store()
    bench.nothing_sent()
    bench.unstored = [offered]
    bench.store()
    assert set(bench.take(RUNTIME, m.Settled).batches) == {7}


def test_what_is_stored_and_only_said_once_more_is_not_refused() -> None:
    bench = Bench(quotas=Quotas(max_tasks=1))
    bench.submit(1)
    bench.controller.audience.refusing = "the store cannot write"
    bench.ask_submit(1, again=True)
    assert bench.take(CLIENT, m.Accepted).known == 1
    bench.controller.audience.refusing = "the store cannot write"
    bench.ask_submit(2)
    assert bench.take(CLIENT, m.Denied).code is Code.STORE
    bench.emptiness_check()


def test_a_copy_of_what_was_refused_is_refused_when_it_might_succeed() -> None:
    bench = Bench()
    bench.controller.audience.refusing = "the store cannot write"
    submit = m.Submit(5, [m.Group(options(), [(task_id(1), b"arguments")])])
    bench.tell(CLIENT, submit)
    bench.take(CLIENT, m.Denied)
    bench.controller.audience.refusing = ""
    bench.tell(CLIENT, m.Submit(5, submit.groups, again=True))
    assert bench.take(CLIENT, m.Denied).code is Code.STORE
    bench.submit(1)  # said anew, it is another matter
    bench.emptiness_check()


def test_who_submitted_what_was_taken_back_hears_no_acceptance() -> None:
    bench = Bench()
    bench.holding = True
    bench.ask_submit(1)
    bench.ask_submit(1, client=OTHER)
    first, second = bench.unstored
    bench.unstored = [first]
    bench.fail()
    bench.take(CLIENT, m.Denied)
    bench.unstored = [second]
    bench.store()
    bench.emptiness_check()


def test_who_waits_for_what_was_taken_back_hears_that_it_is_not_known() -> None:
    bench = Bench()
    bench.holding = True
    bench.ask_submit(1)
    bench.tell(OTHER, m.Await(9, [task_id(1)]))
    bench.take(OTHER, m.Accepted)
    bench.fail()
    bench.take(CLIENT, m.Denied)
    (outcome,) = bench.take_outcomes(OTHER, acknowledge=False)
    assert outcome.error.reason is Reason.LOST


def test_the_kept_end_of_what_was_taken_back_does_not_end_it_when_it_returns() -> None:
    bench = Bench()
    bench.join()
    bench.holding = True
    bench.ask_submit(1)
    bench.take_assigned()
    bench.tell(RUNTIME, m.Report(1, ended=[Ended(task_id(1), 1, AttemptEnd.SUCCEEDED, 0.1, b"first")]))
    bench.fail()
    bench.take(CLIENT, m.Denied)
    bench.wait(STORE_RETRY)
    bench.store()
    bench.take(RUNTIME, m.Settled)
    bench.ask_submit(1)
    bench.store()
    bench.take(CLIENT, m.Accepted)
    assert bench.take_assigned() == [(task_id(1), 2)]
    assert bench.books.rows[task_id(1)].end is None


def test_an_end_that_came_while_the_store_was_read_is_looked_up_again() -> None:
    bench = Bench()
    bench.join()
    bench.submit(1, watch=False)
    bench.take_assigned()
    bench.end(1)
    bench.tell(OTHER, m.Await(bench.request(), []))
    bench.take(OTHER, m.Accepted)
    bench.controller.on_outcomes(OTHER, [], [task_id(1)], bench.now)
    bench.turn()
    assert bench.take_ends(OTHER) == {task_id(1): Status.SUCCEEDED}
    bench.emptiness_check()


def test_what_the_store_says_after_a_client_has_left_is_told_to_nobody() -> None:
    """Whoever has that name next may be of another namespace, and nobody has vouched for it yet."""
    bench = Bench()
    bench.join()
    bench.submit(1, watch=False)
    bench.take_assigned()
    bench.end(1)
    bench.controller.on_outcomes(OTHER, [], [task_id(1)], bench.now)
    bench.turn()
    bench.emptiness_check()
    assert OTHER not in bench.controller.state.clients


def test_an_attempt_that_was_stopped_as_unwanted_does_not_cancel_the_task() -> None:
    bench = Bench()
    bench.recover()
    bench.ask_submit(1, again=True)
    bench.take(CLIENT, m.Accepted)
    bench.join(held=[Held(task_id(1), 1, "ended")])
    bench.tell(RUNTIME, m.Report(1, ended=[Ended(task_id(1), 1, AttemptEnd.CANCELLED)]))
    assert bench.take_assigned() == [(task_id(1), 2)]
    bench.take(RUNTIME, m.Settled)
    bench.emptiness_check()
