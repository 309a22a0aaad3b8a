"""Dependencies, delays, time limits, retries and losses of a task."""

from __future__ import annotations

import pytest
from controller_bench import CLIENT, RUNTIME, Bench, broken, options, task_id

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Code, Held, Reason, Retry, Status
from headway_controller.state import Queued, Waiting

PARENTS = (1, 2)
CHILD = 3
S, F, C = Status.SUCCEEDED, Status.FAILED, Status.CANCELLED


def finish(bench: Bench, number: int, status: Status) -> None:
    """Bring a task to an end, wherever it is."""
    task = bench.task(number)
    if status == Status.CANCELLED:
        bench.tell(CLIENT, m.Cancel(1, [task_id(number)]))
    if task.runtime and status == Status.CANCELLED:
        assert any(isinstance(each, m.Stop) for each in bench.take_all(task.runtime))
    if task.runtime:
        end = {S: AttemptEnd.SUCCEEDED, F: AttemptEnd.FAILED, C: AttemptEnd.CANCELLED}[status]
        bench.end(number, task.attempt, end, task.runtime, broken() if status == Status.FAILED else None)
    assert bench.status(number) == status
    bench.take_all(CLIENT)


def family(count: str, end: str, **fields: object) -> Bench:
    """Two parents that run, and a child that comes after them."""
    bench = Bench()
    bench.join(slots=2)
    bench.submit(*PARENTS)
    bench.take_all(RUNTIME)
    bench.submit(CHILD, after=[task_id(each) for each in PARENTS], after_count=count, after_end=end, **fields)
    assert bench.status(CHILD) == Status.WAITING
    return bench


OUTCOMES = [
    # count, end, ends of the parents → what becomes of the child after each
    ("all", "success", (S, S), ("waits", "goes")),
    ("all", "success", (F, S), ("fails", "fails")),
    ("all", "success", (S, F), ("waits", "fails")),
    ("all", "success", (C, S), ("fails", "fails")),
    ("all", "always", (F, C), ("waits", "goes")),
    ("all", "always", (S, F), ("waits", "goes")),
    ("any", "success", (S, F), ("goes", "goes")),
    ("any", "success", (F, S), ("waits", "goes")),
    ("any", "success", (F, C), ("waits", "fails")),
    ("any", "always", (F, S), ("goes", "goes")),
    ("any", "always", (C, C), ("goes", "goes")),
]


@pytest.mark.parametrize(("count", "end", "ends", "then"), OUTCOMES)
def test_a_child_goes_fails_or_waits_as_was_asked(
    count: str, end: str, ends: tuple[Status, Status], then: tuple[str, str]
) -> None:
    bench = family(count, end)
    for parent, status, expected in zip(PARENTS, ends, then, strict=True):
        finish(bench, parent, status)
        state = bench.status(CHILD)
        became = {Status.WAITING: "waits", Status.FAILED: "fails"}.get(state, "goes")
        assert became == expected
    if then[-1] == "fails":
        row = bench.books.rows[task_id(CHILD)]
        assert row.end is not None and row.end.error is not None
        assert row.end.error.reason == Reason.DEPENDENCY


@pytest.mark.parametrize(
    ("status", "words"), [(Status.FAILED, "which failed"), (Status.CANCELLED, "which was cancelled")]
)
def test_a_child_that_cannot_run_says_because_of_whom(status: Status, words: str) -> None:
    bench = family("all", "success")
    finish(bench, 1, status)
    row = bench.books.rows[task_id(CHILD)]
    assert row.end is not None and row.end.error is not None and words in row.end.error.message


def test_a_parent_that_is_named_twice_counts_once() -> None:
    bench = Bench()
    bench.submit(1)
    bench.submit(2, after=[task_id(1), task_id(1)])
    bench.join()
    bench.take_assigned()
    bench.end(1)
    assert bench.take_assigned() == [(task_id(2), 1)]


def test_a_parent_that_has_ended_is_met_at_once_wherever_its_end_is_known() -> None:
    bench = Bench()
    bench.submit(1)
    bench.join()
    bench.take_assigned()
    bench.end(1)
    bench.take_ends()
    bench.submit(2, after=[task_id(1)])
    assert bench.take_assigned() == [(task_id(2), 1)]
    bench.controller.life.remember({task_id(8): Status.SUCCEEDED, task_id(9): Status.FAILED})  # as the service does
    bench.submit(3, after=[task_id(8)])
    assert bench.status(3) == Status.QUEUED
    bench.submit(4, after=[task_id(8), task_id(9)])
    bench.take_ends()
    assert bench.status(4) == Status.FAILED


def test_a_parent_whose_end_is_not_yet_stored_counts() -> None:
    bench = Bench()
    bench.submit(1)
    bench.holding = True
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))
    bench.ask_submit(2, after=[task_id(1)], after_end="always")
    assert bench.status(2) == Status.QUEUED


def test_an_end_that_memory_has_long_forgotten_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway_controller.life.REMEMBERED_ENDS", 1)
    bench = family("all", "success")
    finish(bench, 1, Status.SUCCEEDED)
    bench.submit(50)
    finish(bench, 50, Status.CANCELLED)
    assert bench.controller.life.status(task_id(1)) is None
    finish(bench, 2, Status.SUCCEEDED)
    assert bench.take_assigned() == [(task_id(CHILD), 1)]


def test_a_parent_and_its_child_may_come_in_one_message_in_either_order() -> None:
    for child_first in (True, False):
        bench = Bench()
        groups = [m.Group(options(), [(task_id(1), b"")]), m.Group(options(after=[task_id(1)]), [(task_id(2), b"")])]
        bench.tell(CLIENT, m.Submit(1, groups[::-1] if child_first else groups))
        bench.take(CLIENT, m.Accepted)
        assert (bench.status(1), bench.status(2)) == (Status.QUEUED, Status.WAITING)


def test_an_unknown_parent_is_refused_with_its_id() -> None:
    bench = Bench()
    bench.ask_submit(1, after=[task_id(77)])
    denied = bench.take(CLIENT, m.Denied)
    assert denied.code == Code.NOT_FOUND
    assert "not known" in denied.text
    bench.emptiness_check()


def ring(*numbers: int) -> list[m.Group]:
    """Tasks of which each comes after the next, and the last after the first."""
    after = [*numbers[1:], numbers[0]]
    return [
        m.Group(options(after=[task_id(parent)]), [(task_id(number), b"")])
        for number, parent in zip(numbers, after, strict=True)
    ]


@pytest.mark.parametrize("size", [1, 2, 5_000])
def test_a_circle_is_refused_with_the_way_around_it(size: int) -> None:
    bench = Bench()
    bench.tell(CLIENT, m.Submit(1, ring(*range(1, size + 1))))
    denied = bench.take(CLIENT, m.Denied)
    assert denied.code == Code.CYCLE
    assert denied.text.count("→") == size
    assert not bench.controller.state.tasks


def test_a_chain_of_thousands_ends_when_its_first_one_does() -> None:
    length = 5_000
    bench = Bench()
    groups = [m.Group(options(), [(task_id(1), b"")])]
    groups += [m.Group(options(after=[task_id(n - 1)]), [(task_id(n), b"")]) for n in range(2, length + 1)]
    bench.tell(CLIENT, m.Submit(1, groups, watch=False))
    bench.take(CLIENT, m.Accepted)
    bench.join()
    bench.take_assigned()
    bench.fail_attempt(1)
    assert not bench.controller.state.tasks
    assert bench.counters["tasks.failed"] == length
    bench.emptiness_check()


def test_a_child_of_thousands_looks_at_each_parent_once() -> None:
    count = 3_000
    bench = Bench()
    bench.submit(*range(1, count + 1), watch=False)
    bench.submit(count + 1, after=[task_id(n) for n in range(1, count + 1)], after_end="always", watch=False)
    waiting = bench.task(count + 1).state
    assert isinstance(waiting, Waiting) and len(waiting.unmet) == count
    bench.tell(CLIENT, m.Cancel(1, [task_id(n) for n in range(1, count + 1)]))
    assert waiting.met == count
    assert isinstance(bench.task(count + 1).state, Queued)


class TestDelay:
    def test_a_delayed_task_is_queued_when_its_time_comes(self) -> None:
        bench = Bench()
        bench.submit(1, delay=10.0)
        assert bench.controller.next_time() == bench.now + 10.0
        bench.wait(9.9)
        assert bench.status(1) == Status.WAITING
        bench.wait(0.1)
        assert bench.status(1) == Status.QUEUED

    @pytest.mark.parametrize("count", ["all", "any"])
    def test_a_delay_and_dependencies_must_both_be_over(self, count: str) -> None:
        bench = family(count, "success", delay=10.0)
        finish(bench, 1, Status.SUCCEEDED)
        if count == "all":
            finish(bench, 2, Status.SUCCEEDED)
        assert bench.status(CHILD) == Status.WAITING
        bench.now += 10.0
        bench.beat()
        bench.wait(0.0)
        assert bench.status(CHILD) != Status.WAITING, "with any, the other parent need not end"

    def test_dependencies_met_after_the_delay_release_at_once(self) -> None:
        bench = family("all", "success", delay=1.0)
        bench.wait_beating(2.0)
        finish(bench, 1, Status.SUCCEEDED)
        assert bench.status(CHILD) == Status.WAITING
        finish(bench, 2, Status.SUCCEEDED)
        assert bench.take_assigned() == [(task_id(CHILD), 1)]


class TestTimeouts:
    @pytest.mark.parametrize("how", ["queued", "delayed", "dependent"])
    def test_a_task_that_has_not_started_in_time_expires(self, how: str) -> None:
        bench = Bench()
        bench.submit(2)
        bench.submit(
            1, timeout_start=5.0, delay=60.0 if how == "delayed" else 0.0, after=[task_id(2)] if how == "dependent" else []
        )  # fmt: skip
        bench.wait(5.0)
        (outcome,) = bench.take_outcomes()
        assert outcome.status == Status.EXPIRED
        assert outcome.error.reason == Reason.TIMEOUT_START and "5 s" in outcome.error.message
        assert bench.status(2) == Status.QUEUED
        bench.emptiness_check()

    def test_an_assigned_one_is_asked_back_first_and_expires_when_it_comes(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, timeout_start=1.0)
        bench.take_assigned()
        bench.wait(1.0)
        assert bench.take(RUNTIME, m.TakeBack).attempts == [(task_id(1), 1)]
        assert bench.status(1) == Status.ASSIGNED
        bench.end(1, end=AttemptEnd.RETURNED)
        assert bench.take_ends() == {task_id(1): Status.EXPIRED}

    def test_one_that_started_meanwhile_goes_on(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, timeout_start=1.0)
        bench.take_assigned()
        bench.wait(1.0)
        bench.take(RUNTIME, m.TakeBack)
        bench.start(1)
        bench.end(1)
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}

    def test_one_that_started_meanwhile_does_not_expire_when_it_is_given_back_later(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, timeout_start=1.0)
        bench.take_assigned()
        bench.wait(1.0)
        bench.take(RUNTIME, m.TakeBack)
        bench.start(1)
        bench.end(1, end=AttemptEnd.RETURNED)
        assert bench.take_assigned() == [(task_id(1), 2)]

    def test_the_word_to_give_it_back_is_said_again_when_the_runtime_registers_again(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, timeout_start=1.0)
        bench.take_assigned()
        bench.wait(1.0)
        bench.take(RUNTIME, m.TakeBack)
        bench.join(
            held=[Held(task_id(1), 1, "held")], assigned=bench.controller.state.runtimes[RUNTIME].outbox.last_number
        )
        assert bench.take(RUNTIME, m.TakeBack).attempts == [(task_id(1), 1)]

    def test_the_limit_of_a_run_ends_the_task_as_expired(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, timeout_run=1.0)
        bench.take_assigned()
        bench.start(1)
        bench.fail_attempt(1, error=broken(Reason.TIMEOUT_RUN))
        assert bench.take_ends() == {task_id(1): Status.EXPIRED}

    def test_the_limit_of_a_run_is_a_failure_like_others_while_there_are_attempts_left(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, timeout_run=1.0, retry=Retry(max_attempts=2, backoff=0.0))
        bench.take_assigned()
        bench.fail_attempt(1, error=broken(Reason.TIMEOUT_RUN))
        bench.wait(0.0)
        assert bench.take_assigned() == [(task_id(1), 2)]


class TestRetries:
    def test_back_off_doubles_up_to_its_limit_with_full_jitter(self) -> None:
        retry = Retry(max_attempts=40, backoff=2.0, backoff_max=16.0)
        waits: dict[int, list[float]] = {}
        for seed in range(30):
            bench = Bench(seed=seed)
            bench.join()
            bench.submit(1, retry=retry)
            for attempt in range(1, 7):
                assert bench.take_assigned() == [(task_id(1), attempt)]
                bench.fail_attempt(1, attempt)
                waiting = bench.task(1).state
                assert isinstance(waiting, Waiting) and waiting.why == "retry"
                waits.setdefault(attempt, []).append(waiting.until - bench.now)
                bench.now = waiting.until
                bench.beat()
                bench.wait(0.0)
        for attempt, ceiling in enumerate([2.0, 4.0, 8.0, 16.0, 16.0, 16.0], 1):
            assert all(0.0 <= each <= ceiling for each in waits[attempt])
            assert max(waits[attempt]) > ceiling / 2 > min(waits[attempt]), "full jitter"

    def test_the_last_failure_ends_the_task_with_its_error(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, retry=Retry(max_attempts=2, backoff=0.0))
        bench.take_assigned()
        bench.fail_attempt(1)
        assert not bench.sent
        bench.wait(0.0)
        assert bench.take_assigned() == [(task_id(1), 2)]
        bench.fail_attempt(1, 2, broken(message="no luck again"))
        (outcome,) = bench.take_outcomes()
        assert (outcome.status, outcome.attempt, outcome.error.message) == (Status.FAILED, 2, "no luck again")

    @pytest.mark.parametrize(
        ("error", "again"),
        [
            (broken(type="mine.Transient"), True),
            (broken(type="other.Error"), False),
            (broken(Reason.EXIT, type=""), False),
            (broken(Reason.SIGNAL, type=""), True),
        ],
    )
    def test_only_the_errors_that_were_named_are_worth_another_attempt(self, error: object, again: bool) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, retry=Retry(max_attempts=5, on=["mine.Transient", "signal"]))
        bench.take_assigned()
        bench.fail_attempt(1, error=error)  # type: ignore[arg-type]
        assert (bench.status(1) == Status.WAITING) is again

    def test_a_class_is_named_by_its_bases_too(self) -> None:
        error = broken(type="mine.Refused")
        error = type(error)(error.reason, error.message, error.type, bases=["mine.Refused", "builtins.OSError"])
        bench = Bench()
        bench.join()
        bench.submit(1, retry=Retry(max_attempts=2, on=["builtins.OSError"]))
        bench.take_assigned()
        bench.fail_attempt(1, error=error)
        assert bench.status(1) == Status.WAITING

    def test_a_failure_that_is_reported_twice_counts_once(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, retry=Retry(max_attempts=3, backoff=60.0))
        bench.take_assigned()
        for _ in range(5):  # the report is repeated, because its settlement is on its way
            bench.fail_attempt(1)
        assert bench.task(1).failures == 1
        assert bench.counters["reports.fenced"] == 4

    def test_an_attempt_that_failed_is_not_adopted_though_the_runtime_still_reports_it(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, retry=Retry(max_attempts=3, backoff=60.0))
        bench.take_assigned()
        bench.fail_attempt(1)
        through = bench.controller.state.runtimes[RUNTIME].outbox.last_number
        registered = bench.join(held=[Held(task_id(1), 1, "ended")], assigned=through)
        assert not registered.forget, "its end may not be stored yet"
        assert bench.status(1) == Status.WAITING

    def test_no_back_off_makes_a_retried_task_wait_for_its_parents_again(self) -> None:
        bench = family("any", "success", retry=Retry(max_attempts=2, backoff=1.0))
        finish(bench, 1, Status.SUCCEEDED)
        assert bench.take_assigned() == [(task_id(CHILD), 1)]
        bench.fail_attempt(CHILD)
        bench.wait(1.0)
        assert bench.take_assigned() == [(task_id(CHILD), 2)]


class TestLosses:
    def lose(self, bench: Bench, name: str) -> None:
        bench.tell("", m.PeerChanged(name, "runtime", b"x", "bye"))

    def test_a_lost_attempt_is_followed_by_another_elsewhere(self) -> None:
        bench = Bench()
        bench.join("first")
        bench.submit(1)
        bench.take_assigned("first")
        bench.join("second")
        self.lose(bench, "first")
        assert bench.take_assigned("second") == [(task_id(1), 2)]
        bench.end(1, 2, name="second")
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}

    def test_a_task_under_which_the_runtimes_die_is_not_tried_for_ever(self) -> None:
        bench = Bench()
        bench.submit(1, retry=Retry(max_losses=3))
        for attempt, name in enumerate(["a", "b", "c"], 1):
            bench.join(name)
            assert bench.take_assigned(name) == [(task_id(1), attempt)]
            self.lose(bench, name)
        (outcome,) = bench.take_outcomes()
        assert (outcome.status, outcome.error.reason) == (Status.FAILED, Reason.LOST)
        assert "3 attempts in a row" in outcome.error.message

    def test_no_losses_allowed_means_the_first_is_the_end(self) -> None:
        bench = Bench()
        bench.submit(1, retry=Retry(max_losses=0))
        bench.join()
        bench.take_assigned()
        self.lose(bench, RUNTIME)
        assert bench.take_ends() == {task_id(1): Status.FAILED}

    def test_an_attempt_that_ends_in_another_way_begins_the_count_anew(self) -> None:
        bench = Bench()
        bench.submit(1, retry=Retry(max_attempts=9, max_losses=2, backoff=0.0))
        for name in ("a", "b", "c"):
            bench.join(name)
            attempt = bench.take_assigned(name)[0][1]
            bench.fail_attempt(1, attempt, name=name)
            bench.wait(0.0)
            bench.take_assigned(name)
            self.lose(bench, name)
        assert bench.status(1) == Status.QUEUED
        assert bench.task(1).losses == 1


def test_a_returned_attempt_costs_nothing_and_is_followed_by_the_next_number() -> None:
    bench = Bench()
    bench.join()
    bench.submit(1)
    bench.take_assigned()
    for attempt in range(1, 6):
        bench.end(1, attempt, AttemptEnd.RETURNED)
        assert bench.take_assigned() == [(task_id(1), attempt + 1)]
    assert (bench.task(1).failures, bench.task(1).losses) == (0, 0)


def test_a_revived_task_begins_with_a_fresh_count_and_a_number_of_its_own() -> None:
    bench = Bench()
    bench.join()
    bench.submit(1, retry=Retry(max_attempts=2, backoff=0.0))
    bench.take_assigned()
    bench.fail_attempt(1)
    bench.wait(0.0)
    bench.take_assigned()
    bench.fail_attempt(1, 2)
    bench.take_ends()
    row = bench.books.rows[task_id(1)]
    bench.controller.revive(CLIENT, 5, [row], [], bench.now)
    bench.turn()
    assert bench.take(CLIENT, m.Changed) == m.Changed(5, 1, [])
    assert bench.take_assigned() == [(task_id(1), 3)]
    bench.fail_attempt(1, 3)
    bench.wait(0.0)
    assert bench.take_assigned() == [(task_id(1), 4)]
    assert bench.books.rows[task_id(1)].end is None


def test_what_lives_is_neither_revived_nor_purged() -> None:
    bench = Bench()
    bench.submit(1)
    row = bench.books.rows[task_id(1)]
    bench.controller.revive(CLIENT, 5, [row], [], bench.now)
    bench.turn()
    assert bench.take(CLIENT, m.Changed).count == 0
    bench.controller.purge(CLIENT, 6, [task_id(1)], [])
    bench.turn()
    changed = bench.take(CLIENT, m.Changed)
    assert (changed.count, changed.refused[0][1]) == (0, "it has not ended")
    assert bench.books.rows and bench.status(1) == Status.QUEUED


def test_a_purged_task_is_forgotten_and_its_id_is_free_again() -> None:
    bench = Bench()
    bench.submit(1)
    finish(bench, 1, Status.CANCELLED)
    bench.controller.purge(CLIENT, 6, [task_id(1)], [])
    bench.turn()
    assert bench.take(CLIENT, m.Changed) == m.Changed(6, 1, [])
    assert not bench.books.rows
    bench.submit(1)
    assert bench.status(1) == Status.QUEUED and task_id(1) in bench.books.rows
