"""Clients: cancels that are answered when all is over, ends in windows, and clients that go and come back."""

from __future__ import annotations

from typing import Any

import pytest
from controller_bench import CLIENT, RUNTIME, Bench, broken, options, task_id

from headway_bus import messages as m
from headway_bus.codec import MAX_HEADER_BYTES, encode
from headway_bus.ids import text_of
from headway_bus.records import AttemptEnd, Blob, ErrorInfo, Outcome, Reason, Retry, Status
from headway_controller import audience
from headway_controller.state import Waiting

OTHER = "client-2"


def assigned(**fields: Any) -> Bench:
    bench = Bench()
    bench.join()
    bench.submit(1, **fields)
    bench.take_assigned()
    return bench


def cancel(bench: Bench, *numbers: int, job: str = "", client: str = CLIENT) -> int:
    request = bench.request()
    bench.tell(client, m.Cancel(request, [task_id(number) for number in numbers], job))
    return request


class TestCancel:
    @pytest.mark.parametrize("how", ["queued", "delayed", "dependent", "between attempts"])
    def test_what_no_runtime_has_is_over_at_once(self, how: str) -> None:
        if how == "between attempts":
            bench = assigned(retry=Retry(max_attempts=2, backoff=600.0))
            bench.fail_attempt(1)
        else:
            bench = Bench()
            bench.submit(2)
            bench.submit(1, delay=60.0 if how == "delayed" else 0.0, after=[task_id(2)] if how == "dependent" else [])
        request = cancel(bench, 1)
        assert bench.take_ends() == {task_id(1): Status.CANCELLED}
        assert bench.take(CLIENT, m.Changed) == m.Changed(request, 1)
        bench.emptiness_check()

    @pytest.mark.parametrize("started", [False, True])
    def test_what_a_runtime_has_is_answered_when_it_is_dead(self, started: bool) -> None:
        bench = assigned()
        if started:
            bench.start(1)
        request = cancel(bench, 1)
        assert bench.take(RUNTIME, m.Stop).attempts == [(task_id(1), 1)]
        bench.emptiness_check()
        bench.end(1, end=AttemptEnd.CANCELLED)
        assert bench.take_ends() == {task_id(1): Status.CANCELLED}
        assert bench.take(CLIENT, m.Changed) == m.Changed(request, 1)
        bench.emptiness_check()

    def test_one_that_succeeds_before_the_word_arrives_has_succeeded(self) -> None:
        bench = assigned()
        cancel(bench, 1)
        bench.take(RUNTIME, m.Stop)
        bench.end(1)
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}
        bench.take(CLIENT, m.Changed)

    def test_one_that_fails_on_the_way_is_cancelled_and_not_tried_again(self) -> None:
        bench = assigned(retry=Retry(max_attempts=5))
        cancel(bench, 1)
        bench.take(RUNTIME, m.Stop)
        bench.fail_attempt(1)
        assert bench.take_ends() == {task_id(1): Status.CANCELLED}
        bench.take(CLIENT, m.Changed)

    def test_one_whose_runtime_dies_is_cancelled_and_not_tried_again(self) -> None:
        bench = assigned()
        cancel(bench, 1)
        bench.take(RUNTIME, m.Stop)
        bench.tell("", m.PeerChanged(RUNTIME, "runtime", b"x", "bye"))
        assert bench.take_ends() == {task_id(1): Status.CANCELLED}
        bench.take(CLIENT, m.Changed)

    def test_one_that_comes_back_unstarted_is_cancelled(self) -> None:
        bench = assigned()
        cancel(bench, 1)
        bench.take(RUNTIME, m.Stop)
        bench.end(1, end=AttemptEnd.RETURNED)
        assert bench.take_ends() == {task_id(1): Status.CANCELLED}
        bench.take(CLIENT, m.Changed)

    def test_the_word_to_stop_is_said_again_until_it_is_over(self) -> None:
        bench = assigned()
        cancel(bench, 1)
        bench.take(RUNTIME, m.Stop)
        for _ in range(3):
            bench.wait_beating(5.0)
            assert bench.take(RUNTIME, m.Stop).attempts == [(task_id(1), 1)]
            bench.emptiness_check()
        bench.end(1, end=AttemptEnd.CANCELLED)
        bench.take_ends()
        bench.take(CLIENT, m.Changed)
        bench.wait_beating(20.0)
        bench.emptiness_check()

    def test_every_one_who_asked_is_answered(self) -> None:
        bench = assigned()
        first, second = cancel(bench, 1), cancel(bench, 1, client=OTHER)
        bench.take_all(RUNTIME)
        bench.end(1, end=AttemptEnd.CANCELLED)
        bench.take_ends()
        assert bench.take(CLIENT, m.Changed).request == first
        assert bench.take(OTHER, m.Changed).request == second

    def test_of_a_job_all_that_has_not_ended_and_each_once(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1, job="j")
        bench.take_assigned()
        bench.end(1)
        bench.take_ends()
        bench.submit(2, 3, 4, job="j")
        bench.take_assigned()
        request = cancel(bench, 3, job="j")
        bench.take(RUNTIME, m.Stop)
        assert bench.take_ends() == {task_id(4): Status.CANCELLED, task_id(3): Status.CANCELLED}
        bench.end(2, end=AttemptEnd.CANCELLED)
        assert bench.take_ends() == {task_id(2): Status.CANCELLED}
        assert bench.take(CLIENT, m.Changed) == m.Changed(request, 3)
        assert bench.status(1) == Status.SUCCEEDED

    def test_of_a_job_what_comes_after_another_is_cancelled_too_and_does_not_fail(self) -> None:
        bench = Bench()
        bench.submit(1, job="j")
        bench.submit(2, job="j", after=[task_id(1)])
        bench.submit(3, job="j", after=[task_id(2)], after_end="always")
        request = cancel(bench, job="j")
        assert set(bench.take_ends().values()) == {Status.CANCELLED}
        assert bench.take(CLIENT, m.Changed) == m.Changed(request, 3)
        bench.emptiness_check()

    def test_of_what_has_ended_says_how(self) -> None:
        bench = assigned()
        bench.end(1)
        bench.take_ends()
        cancel(bench, 1)
        assert bench.take(CLIENT, m.Changed).refused == [(text_of(task_id(1)), "it has succeeded")]

    def test_of_an_unknown_job_changes_nothing(self) -> None:
        bench = Bench()
        cancel(bench, job="nobody's")
        assert bench.take(CLIENT, m.Changed).count == 0


class TestAwaiting:
    def test_an_end_goes_to_all_who_wait_for_it(self) -> None:
        bench = assigned()
        bench.tell(OTHER, m.Await(7, [task_id(1)]))
        assert bench.take(OTHER, m.Accepted).request == 7
        bench.end(1, result=b"42")
        assert [bench.take_outcomes(name)[0].result for name in (CLIENT, OTHER)] == [b"42", b"42"]
        bench.emptiness_check()

    def test_one_who_does_not_watch_is_told_nothing(self) -> None:
        bench = assigned(watch=False)
        bench.end(1)
        bench.emptiness_check()

    def test_asking_twice_is_answered_once(self) -> None:
        bench = assigned()
        for _ in range(3):
            bench.tell(CLIENT, m.Await(7, [task_id(1)]))
            bench.take(CLIENT, m.Accepted)
        bench.end(1)
        assert len(bench.take_outcomes()) == 1
        bench.emptiness_check()

    def test_an_end_that_was_stored_is_read_there(self) -> None:
        bench = assigned()
        bench.end(1, result=b"42")
        bench.take_ends()
        bench.tell(OTHER, m.Await(7, [task_id(1)]))
        (ended,) = [each for each in bench.take_all(OTHER) if isinstance(each, m.TasksEnded)]
        assert ended.outcomes[0].result == b"42"

    def test_an_end_that_is_not_yet_stored_is_told_when_it_is(self) -> None:
        bench = assigned(watch=False)
        bench.holding = True
        bench.end(1)
        bench.tell(OTHER, m.Await(7, [task_id(1)]))
        bench.take(OTHER, m.Accepted)
        bench.nothing_sent()
        bench.store()
        assert bench.take_ends(OTHER, acknowledge=False) == {task_id(1): Status.SUCCEEDED}

    def test_what_nobody_knows_ends_the_wait_with_that_word(self) -> None:
        bench = Bench()
        bench.tell(CLIENT, m.Await(7, [task_id(5)]))
        (ended,) = [each for each in bench.take_all(CLIENT) if isinstance(each, m.TasksEnded)]
        (outcome,) = ended.outcomes
        assert (outcome.status, outcome.error and outcome.error.reason) == (Status.FAILED, Reason.LOST)

    @pytest.mark.parametrize("ended", [False, True])
    def test_the_word_that_nobody_knows_it_is_not_repeated_once_it_has_come(self, ended: bool) -> None:
        """It is said until the client has heard it; meanwhile the task may be submitted (seed 508395)."""
        bench = Bench()
        bench.join()
        bench.tell(CLIENT, m.Await(5, [task_id(1)]))
        bench.take(CLIENT, m.Accepted)
        (unknown,) = bench.take_outcomes(acknowledge=False)
        assert unknown.error.reason == Reason.LOST
        bench.submit(1, client="other", watch=False)
        bench.take_assigned()
        if ended:
            bench.end(1)
        bench.wait_beating(6.0)
        said = [
            each for message in bench.take_all(CLIENT) if isinstance(message, m.TasksEnded) for each in message.outcomes
        ]
        assert [each.status for each in said] == ([Status.SUCCEEDED] if ended else [])
        if not ended:
            bench.end(1)
            assert Status.SUCCEEDED in bench.take_ends().values()

    def test_a_task_that_comes_in_while_the_store_is_read_is_waited_for(self) -> None:
        bench = Bench()
        bench.hear(CLIENT, m.Await(7, [task_id(1)]))
        bench.hear(CLIENT, m.Submit(8, [m.Group(options(), [(task_id(1), b"")])]))
        bench.turn()  # the read comes back empty, after the submission
        assert [type(each) for each in bench.take_all(CLIENT)] == [m.Accepted, m.Accepted]
        bench.join()
        bench.take_assigned()
        bench.end(1)
        assert len(bench.take_outcomes()) == 1
        bench.emptiness_check()


class TestClientsThatGo:
    def test_a_client_that_goes_cancels_nothing_and_is_told_when_it_is_back(self) -> None:
        bench = assigned()
        bench.tell("", m.PeerChanged(CLIENT, "client", b"x", "gone"))
        bench.end(1, result=b"42")
        bench.emptiness_check()
        bench.tell("", m.PeerChanged(CLIENT, "client", b"x", "up"))
        bench.tell(CLIENT, m.Await(7, [task_id(1)]))
        (ended,) = [each for each in bench.take_all(CLIENT) if isinstance(each, m.TasksEnded)]
        assert ended.outcomes[0].result == b"42"

    def test_one_that_comes_back_before_the_end_asks_and_is_told_once(self) -> None:
        bench = assigned()
        bench.tell("", m.PeerChanged(CLIENT, "client", b"x", "up"))
        bench.tell(CLIENT, m.Await(7, [task_id(1)]))
        bench.take(CLIENT, m.Accepted)
        bench.end(1)
        assert len(bench.take_outcomes()) == 1
        bench.emptiness_check()

    def test_what_was_on_its_way_to_one_that_went_is_not_repeated(self) -> None:
        bench = assigned()
        bench.end(1)
        bench.take_ends(acknowledge=False)
        bench.tell("", m.Undeliverable(CLIENT, "tasks_ended", "unknown-target"))
        bench.wait_beating(30.0)
        bench.emptiness_check()

    def test_a_list_of_peers_without_it_means_that_it_is_gone(self) -> None:
        bench = assigned()
        bench.submit(2, client=OTHER)
        bench.tell("", m.Peers([m.PeerChanged(OTHER, "client", b"x", "up")]))
        assert list(bench.controller.state.clients) == [OTHER]


class TestDelivery:
    def test_a_batch_is_repeated_until_it_is_acknowledged(self) -> None:
        bench = assigned()
        bench.end(1)
        first = bench.take(CLIENT, m.TasksEnded)
        bench.wait_beating(4.0)
        bench.emptiness_check()
        bench.wait_beating(2.0)
        assert bench.take(CLIENT, m.TasksEnded) == first
        bench.tell(CLIENT, m.Received([first.batch]))
        bench.wait_beating(30.0)
        bench.emptiness_check()
        assert bench.counters["repeats.ended"] == 1

    def test_an_acknowledgement_of_nothing_is_harmless(self) -> None:
        bench = Bench()
        bench.tell(CLIENT, m.Received([1, 2, 3]))
        bench.emptiness_check()

    def test_ends_beyond_the_window_follow_as_it_moves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audience, "WINDOW_BATCHES", 2)
        monkeypatch.setattr(audience, "BATCH_COUNT", 10)
        bench = Bench()
        bench.submit(*range(1, 51))
        bench.tell(CLIENT, m.Cancel(1, [task_id(number) for number in range(1, 51)]))
        bench.sent = [each for each in bench.sent if not isinstance(each.message, m.Changed)]
        told: list[Outcome] = []
        while bench.sent:
            assert len(bench.sent) <= 2
            told += bench.take_outcomes()
        assert len(told) == len({each.task for each in told}) == 50

    def test_a_batch_is_cut_by_the_bytes_of_results_and_errors(self) -> None:
        bench = Bench()
        client = bench.controller.audience._client(CLIENT)
        error = ErrorInfo(Reason.EXCEPTION, "no luck", "ValueError", "line\n" * 4_000)
        client.ready.extend(Outcome(task_id(n), Status.FAILED, 1, error=error) for n in range(1, 1001))
        client.ready.extend(Outcome(task_id(n), Status.SUCCEEDED, 1, b"x" * 16_000) for n in range(1, 1001))
        told = 0
        while True:
            bench.controller.audience.deliver(client, bench.now)
            bench.turn()
            if not bench.sent:
                break
            sent = bench.sent[0]
            assert len(encode(sent.message)) < MAX_HEADER_BYTES, "no peer reads a header beyond the limit"
            told += len(bench.take_outcomes())
        assert told == 2_000

    def test_long_results_travel_as_frames_and_blobs_as_their_names(self) -> None:
        bench = Bench()
        client = bench.controller.audience._client(CLIENT)
        blob = Blob(b"h" * 32, 1 << 30)
        client.ready.append(Outcome(task_id(1), Status.SUCCEEDED, 1, b"short"))
        client.ready.append(Outcome(task_id(2), Status.SUCCEEDED, 1, memoryview(b"x" * 100_000)))  # type: ignore[arg-type]
        client.ready.append(Outcome(task_id(3), Status.SUCCEEDED, 1, blob))
        bench.controller.audience.deliver(client, bench.now)
        bench.turn()
        short, long, large = bench.take_outcomes(acknowledge=False)
        assert (short.result, bench.frames[long.result], large.result) == (b"short", b"x" * 100_000, blob)


def test_a_question_is_none_of_the_cores() -> None:
    bench = Bench()
    assert not bench.controller.on_message(CLIENT, m.AskTask(1, "x"), [], bench.now)


def test_a_refusal_by_the_broker_is_noted_and_never_answered() -> None:
    bench = Bench()
    bench.tell("", m.Rejected("too-large", "a header of 5000000 bytes", 7))
    bench.emptiness_check()
    assert bench.counters["rejected.too-large"] == 1
    assert any(note.level == "error" for note in bench.notes)


def test_while_it_is_paused_nothing_is_given_out_and_everything_else_goes_on() -> None:
    bench = assigned()
    bench.controller.pause(True)
    bench.submit(2)
    bench.end(1)
    assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}
    bench.emptiness_check()
    assert bench.controller.describe()["paused"] is True
    bench.controller.pause(False)
    bench.turn()
    assert bench.take_assigned() == [(task_id(2), 1)]


def test_it_describes_itself_in_numbers() -> None:
    bench = assigned()
    bench.submit(2, delay=60.0)
    story = bench.controller.describe()
    assert story["tasks"] == {"assigned": 1, "waiting": 1}
    assert (story["runtimes"], story["clients"], story["unstored"]) == ({RUNTIME: "online"}, 1, 0)


def test_a_retry_leaves_the_waiting_task_with_the_error_it_had() -> None:
    bench = assigned(retry=Retry(max_attempts=2, backoff=600.0))
    bench.fail_attempt(1, error=broken(message="out of luck"))
    task = bench.task(1)
    assert isinstance(task.state, Waiting) and task.error is not None and task.error.message == "out of luck"
    assert [step.status for step in task.story or []] == ["failed"]
