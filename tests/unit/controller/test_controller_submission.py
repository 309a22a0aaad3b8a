"""Submissions: what is accepted, what is refused and with which words, and what a repetition does."""

from __future__ import annotations

import math

import pytest
from controller_bench import CLIENT, Bench, options, task_id

from headway_bus import messages as m
from headway_bus.ids import TaskId, text_of
from headway_bus.records import Blob, Code, Kind, Options, Requirements, Retry, Status
from headway_controller.usage import Quotas


def denied(bench: Bench, client: str = CLIENT) -> m.Denied:
    answer = bench.take(client, m.Denied)
    bench.emptiness_check()
    return answer


def test_an_acceptance_follows_the_commit_and_not_the_message() -> None:
    bench = Bench()
    bench.holding = True
    request = bench.ask_submit(1, 2)
    assert not bench.sent
    bench.store()
    accepted = bench.take(CLIENT, m.Accepted)
    assert (accepted.request, accepted.count, accepted.known) == (request, 2, 0)
    bench.emptiness_check()


def test_nothing_submitted_is_accepted_as_nothing() -> None:
    bench = Bench()
    bench.tell(CLIENT, m.Submit(1, []))
    assert bench.take(CLIENT, m.Accepted).count == 0
    bench.emptiness_check()


@pytest.mark.parametrize("stored", [False, True])
def test_the_same_submission_twice_is_one_task(stored: bool) -> None:
    bench = Bench()
    bench.holding = True
    bench.ask_submit(1)
    if stored:
        bench.store()
    bench.ask_submit(1, again=True)
    bench.store()
    answers = bench.take_all(CLIENT)
    assert [(each.count, each.known) for each in answers if isinstance(each, m.Accepted)] == [(1, 0), (1, 1)]
    assert len(bench.controller.state.tasks) == len(bench.books.rows) == 1
    assert bench.counters["tasks.repeated"] == 1


def test_a_submission_repeated_before_the_first_is_stored_is_accepted_only_with_it() -> None:
    bench = Bench()
    bench.holding = True
    bench.ask_submit(1)
    first, bench.unstored = bench.unstored, []
    bench.ask_submit(1, again=True)
    assert not bench.sent
    assert not any(write.operations for write in bench.unstored), "the repetition has nothing to store"
    bench.unstored = first + bench.unstored  # the store's order
    bench.store()
    assert len(bench.take_all(CLIENT)) == 2


def test_the_same_id_twice_in_one_message_is_one_task() -> None:
    bench = Bench()
    bench.tell(CLIENT, m.Submit(1, [m.Group(options(), [(task_id(1), b""), (task_id(1), b"")])]))
    accepted = bench.take(CLIENT, m.Accepted)
    assert (accepted.count, accepted.known) == (2, 1)
    assert len(bench.books.rows) == 1


def test_a_submission_of_an_ended_task_is_answered_with_its_end() -> None:
    bench = Bench()
    bench.submit(1)
    bench.join()
    bench.take_assigned()
    bench.end(1, result=b"42")
    bench.take_ends()
    bench.ask_submit(1, again=True)
    # The end may come before the acceptance: it is read from the store, which the acceptance is only queued for.
    ended, accepted = bench.take_all(CLIENT)
    assert isinstance(accepted, m.Accepted) and (accepted.count, accepted.known) == (1, 1)
    assert isinstance(ended, m.TasksEnded) and ended.outcomes[0].result == b"42"
    bench.emptiness_check()


def test_an_id_that_only_the_store_knows_is_taken_back_and_answered_with_the_stored_end() -> None:
    bench = Bench()
    bench.submit(1)
    bench.join()
    bench.take_assigned()
    bench.end(1, result=b"42")
    bench.take_ends()
    later = bench.restarted()  # nobody told this one of task 1: neither ``again`` nor a key
    later.submit(1)
    (outcome,) = later.take_outcomes()
    assert (outcome.status, outcome.result) == (Status.SUCCEEDED, b"42")
    assert not later.controller.state.tasks
    later.emptiness_check()


def test_a_copy_of_an_ended_task_is_stopped_if_it_was_assigned_before_the_store_said_so() -> None:
    bench = Bench()
    bench.submit(1)
    bench.join()
    bench.take_assigned()
    bench.end(1, result=b"42")
    bench.take_ends()
    later = bench.restarted()
    later.join()
    later.holding = True
    later.ask_submit(1)
    assert later.take_assigned() == [(task_id(1), 1)]
    later.store()
    assert later.take("runtime-1", m.Stop).attempts == [(task_id(1), 1)]
    later.take(CLIENT, m.Accepted)
    assert later.take_outcomes()[0].result == b"42"
    assert not later.controller.state.tasks


def test_unknown_ids_are_looked_up_for_keys_repetitions_and_parents_only() -> None:
    audience = Bench().controller.audience
    group = [(task_id(1), b"")]
    assert audience.unknown_ids(m.Submit(1, [m.Group(options(), group)])) == []
    assert audience.unknown_ids(m.Submit(1, [m.Group(options(key="mine"), group)])) == [task_id(1)]
    assert audience.unknown_ids(m.Submit(1, [m.Group(options(), group)], again=True)) == [task_id(1)]
    assert audience.unknown_ids(m.Submit(1, [m.Group(options(after=[task_id(2)]), group)])) == [task_id(2)]


WRONG: dict[str, tuple[Options, str]] = {
    "no target": (options(""), "target"),
    "a target with NUL": (Options(Kind.COMMAND, "echo\0"), "target"),
    "no import path": (options("fmean"), "package.module:function"),
    "no identifiers": (options("os.path:join(1)"), "package.module:function"),
    "a name too long": (options(name="n" * 1001), "name"),
    "a delay before now": (options(delay=-1.0), "delay"),
    "no number": (options(timeout_run=math.nan), "timeout_run"),
    "milliseconds, probably": (options(timeout_start=1e12), "timeout_start"),
    "patience for ever": (options(grace=math.inf), "grace"),
    "slots for ever": (options(requirements=Requirements(slots=math.inf)), "requirements.slots"),
    "less than no memory": (options(requirements=Requirements(memory=-1)), "requirements.memory"),
    "an amount that is no number": (options(requirements=Requirements(custom={"tpu": math.nan})), "requirements.tpu"),
    "no attempt": (options(retry=Retry(max_attempts=0)), "retry"),
    "a priority beyond all": (options(priority=10**12), "priority"),
    "retention that is no number": (options(retention=math.nan), "retention"),
    "a parent that is no id": (options(after=[TaskId(b"x")]), "after"),
    "some of the parents": (options(after=[task_id(9)], after_count="some"), "after_count"),
    "sometimes": (options(after=[task_id(9)], after_end="sometimes"), "after_end"),
    "a book in meta": (options(meta={"text": "x" * 2000}), "meta"),
}


@pytest.mark.parametrize("name", WRONG)
def test_options_that_cannot_be_kept_are_refused_with_the_field(name: str) -> None:
    wrong, field = WRONG[name]
    bench = Bench()
    bench.tell(CLIENT, m.Submit(7, [m.Group(options(), [(task_id(1), b"")]), m.Group(wrong, [(task_id(2), b"")])]))
    answer = denied(bench)
    assert (answer.request, answer.code) == (7, Code.INVALID)
    assert field in answer.text
    assert not bench.controller.state.tasks, "refused whole: nothing of it was done"
    assert bench.counters["submissions.denied.invalid"] == 1


@pytest.mark.parametrize(
    ("identity", "payload", "words"),
    [
        (b"short", b"", "5 bytes"),
        (task_id(1), 1, "payload frame 1 of 1"),
        (task_id(1), -1, "payload frame -1 of 1"),
        (task_id(1), Blob(b"x", 1), "blob"),
        (task_id(1), Blob(b"x" * 32, 2 << 30), "at most"),
    ],
)
def test_ids_and_payloads_that_cannot_be_kept_are_refused(identity: bytes, payload: bytes | int, words: str) -> None:
    bench = Bench()
    bench.tell(CLIENT, m.Submit(7, [m.Group(options(), [(TaskId(identity), payload)])]), b"one frame")
    answer = denied(bench)
    assert answer.code == Code.INVALID
    assert words in answer.text


def test_beyond_the_limit_of_tasks_a_submission_is_refused_with_the_setting() -> None:
    bench = Bench(quotas=Quotas(max_tasks=2))
    bench.submit(1, 2)
    bench.ask_submit(3)
    answer = denied(bench)
    assert answer.code == Code.LIMIT
    assert "controller.max_tasks" in answer.text


def test_a_payload_frame_reaches_the_runtime_as_it_was() -> None:
    bench = Bench()
    bench.tell(CLIENT, m.Submit(1, [m.Group(options(), [(task_id(1), 0)])]), b"x" * 100_000)
    bench.take(CLIENT, m.Accepted)
    bench.join()
    assign = bench.take("runtime-1", m.Assign)
    ((_, _, payload),) = assign.groups[0].attempts
    assert isinstance(payload, int)
    assert bench.frames[payload] == b"x" * 100_000


def test_higher_priorities_go_first_and_equals_in_the_order_of_submission() -> None:
    bench = Bench()
    for number, priority in ((1, 0), (2, 0), (3, 5), (4, 5), (5, -5)):
        bench.submit(number, priority=priority)
    bench.join()
    order = []
    while bench.controller.state.tasks:
        for task, attempt in bench.take_assigned():
            order.append(int.from_bytes(task, "big"))
            bench.start(order[-1], attempt)
            # Long ones: nothing is prefetched behind them, so the order of assignments is the order of starts.
            bench.wait_beating(30.0)
            bench.end(order[-1], attempt, seconds=30.0)
            bench.take_ends()
    assert order == [3, 4, 1, 2, 5]
    bench.emptiness_check()


class TestStoreFailures:
    def test_a_submission_that_cannot_be_stored_is_refused_and_forgotten(self) -> None:
        bench = Bench()
        bench.holding = True
        request = bench.ask_submit(1)
        bench.fail("the disk is full")
        answer = denied(bench)
        assert (answer.request, answer.code) == (request, Code.STORE)
        assert "the disk is full" in answer.text
        assert not bench.controller.state.tasks

    def test_what_comes_after_a_failure_is_refused_until_a_write_succeeds(self) -> None:
        bench = Bench()
        bench.join()
        bench.holding = True
        bench.ask_submit(1)
        bench.take_assigned()
        bench.fail()
        bench.take_all(CLIENT)
        bench.take("runtime-1", m.Stop)
        bench.ask_submit(2)
        assert denied(bench).code == Code.STORE
        bench.report("runtime-1")  # an empty one: its settlement waits for a write, and that is the trial
        bench.store()
        bench.take("runtime-1", m.Settled)
        bench.holding = False
        bench.submit(3)

    def test_an_attempt_that_had_begun_is_stopped_and_its_end_is_told_to_nobody(self) -> None:
        bench = Bench()
        bench.join()
        bench.holding = True
        bench.ask_submit(1)
        assert bench.take_assigned() == [(task_id(1), 1)]
        first, bench.unstored = bench.unstored, []
        bench.end(1)
        second, bench.unstored = bench.unstored, first
        bench.fail()
        bench.unstored = second
        bench.store()
        assert isinstance(bench.take_all(CLIENT)[0], m.Denied)
        bench.take("runtime-1", m.Settled)
        bench.emptiness_check()
        # The same task again is a new one, not one that ended.
        bench.holding = False
        bench.submit(1, key="mine")
        assert bench.take_assigned() == [(task_id(1), 2)], "the number of the stopped attempt is not given out again"
        bench.end(1, 1)  # what the runtime still says of that one
        assert bench.status(1) == Status.ASSIGNED
        bench.end(1, 2)
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}

    def test_an_end_that_cannot_be_stored_is_offered_again_and_told_when_it_is(self) -> None:
        bench = Bench()
        bench.submit(1)
        bench.join()
        bench.take_assigned()
        bench.holding = True
        bench.end(1, result=b"42")
        for _ in range(3):
            bench.fail()
            assert not bench.sent, "neither settled nor told"
            bench.wait(1.0)
        bench.store()
        bench.take("runtime-1", m.Settled)
        assert bench.take_outcomes(acknowledge=False)[0].result == b"42"
        row = bench.books.rows[task_id(1)]
        assert row.end is not None and row.end.result == b"42"
        bench.emptiness_check()

    def test_the_answer_to_a_cancel_waits_for_the_store(self) -> None:
        bench = Bench()
        bench.submit(1)
        bench.holding = True
        bench.tell(CLIENT, m.Cancel(9, [task_id(1)]))
        bench.fail()
        assert not bench.sent
        bench.wait(1.0)
        bench.store()
        assert bench.take_ends(acknowledge=False) == {task_id(1): Status.CANCELLED}
        assert bench.take(CLIENT, m.Changed) == m.Changed(9, 1, [])

    def test_a_task_that_comes_after_one_that_was_never_stored_fails_with_that_word(self) -> None:
        bench = Bench()
        bench.holding = True
        bench.ask_submit(1)
        first, bench.unstored = bench.unstored, []
        bench.ask_submit(2, after=[task_id(1)])
        second, bench.unstored = bench.unstored, first
        bench.fail()
        bench.take(CLIENT, m.Denied)
        bench.unstored = second + bench.unstored
        bench.store()
        bench.take(CLIENT, m.Accepted)
        (outcome,) = bench.take_outcomes(acknowledge=False)
        assert outcome.status == Status.FAILED and "not known" in outcome.error.message


def test_a_job_forgets_its_ended_tasks() -> None:
    bench = Bench()
    bench.submit(1, 2, job="j")
    assert set(bench.controller.state.jobs["j"].tasks) == {task_id(1), task_id(2)}
    bench.tell(CLIENT, m.Cancel(1, [], "j"))
    assert bench.take_ends() == {task_id(1): Status.CANCELLED, task_id(2): Status.CANCELLED}
    assert bench.take(CLIENT, m.Changed) == m.Changed(1, 2, [])
    assert not bench.controller.state.jobs
    bench.emptiness_check()


def test_a_cancel_of_the_unknown_says_so() -> None:
    bench = Bench()
    bench.tell(CLIENT, m.Cancel(1, [task_id(5)]))
    changed = bench.take(CLIENT, m.Changed)
    assert changed.count == 0
    assert changed.refused[0][0] == text_of(task_id(5))
    bench.emptiness_check()
