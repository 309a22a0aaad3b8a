"""Runtimes: registering, what they hold, heartbeats, silence, draining."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from controller_bench import CLIENT, KEY, RUNTIME, Bench, assigned, options, task_id, through

from headway_bus import messages as m
from headway_bus.records import (
    AttemptEnd,
    Code,
    Held,
    Requirements,
    Retry,
    RuntimeInfo,
    Status,
)
from headway_controller.effects import Send
from headway_controller.fleet import FULL


class TestRegistering:
    def test_a_runtime_that_comes_gets_what_waits(self) -> None:
        bench = Bench()
        bench.submit(1)
        registered = bench.join()
        assert (registered.controller, registered.stop, registered.forget) == (b"instance", [], [])
        assert bench.take_assigned() == [KEY]
        bench.emptiness_check()

    def test_an_assignment_that_did_not_arrive_is_sent_again(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1)
        first = bench.take(RUNTIME, m.Assign)
        bench.join(assigned=0)
        assert bench.take(RUNTIME, m.Assign) == first
        assert bench.counters["repeats.assign"] == 1

    def test_an_assignment_that_is_not_confirmed_is_repeated_in_time(self) -> None:
        bench = Bench(heartbeat=60.0)
        bench.join()
        bench.submit(1)
        first = bench.take(RUNTIME, m.Assign)
        bench.wait(4.9)
        bench.emptiness_check()
        bench.wait(0.1)
        assert bench.take(RUNTIME, m.Assign) == first
        bench.beat()
        bench.wait(10.0)
        bench.emptiness_check()

    def test_what_it_runs_goes_on(self) -> None:
        bench = assigned()
        bench.start(1)
        registered = bench.join(held=[Held(*KEY, "running", 3.0)], assigned=through(bench))
        assert (registered.stop, registered.forget) == ([], [])
        assert bench.status(1) == Status.RUNNING
        bench.end(1)
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}

    def test_what_it_no_longer_has_is_lost_and_tried_again(self) -> None:
        bench = assigned()
        bench.start(1)
        bench.join(assigned=through(bench))
        assert bench.take_assigned() == [(task_id(1), 2)]
        assert bench.task(1).losses == 1

    def test_the_wish_to_stop_is_said_again(self) -> None:
        bench = assigned()
        bench.start(1)
        bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))
        bench.take(RUNTIME, m.Stop)  # and it is lost with the connection
        assert bench.join(held=[Held(*KEY, "running")], assigned=through(bench)).stop == [KEY]
        bench.end(1, end=AttemptEnd.CANCELLED)
        assert bench.take_ends() == {task_id(1): Status.CANCELLED}
        assert bench.take(CLIENT, m.Changed).count == 1

    def test_another_process_of_that_name_has_lost_what_the_first_had(self) -> None:
        bench = assigned()
        bench.join(instance=b"another")
        assert bench.take_assigned() == [(task_id(1), 2)]
        assert bench.counters["runtimes.lost"] == 1

    def test_another_process_after_the_first_was_given_up_is_no_second_loss(self) -> None:
        bench = assigned(retry=Retry(max_losses=9))
        bench.wait(60.0)
        bench.join(instance=b"another")
        assert bench.take_assigned() == [(task_id(1), 2)]
        assert (bench.counters["runtimes.lost"], bench.counters["attempts.lost"]) == (1, 1)

    def test_a_claim_that_was_never_assigned_is_refused_and_its_number_not_used_again(self) -> None:
        bench = assigned()
        registered = bench.join(held=[Held(*KEY, "held"), Held(task_id(1), 5, "running")], assigned=through(bench))
        assert registered.stop == [(task_id(1), 5)]
        assert bench.counters["attempts.never-assigned"] == 1
        bench.end(1, 5, AttemptEnd.CANCELLED)
        assert bench.status(1) == Status.ASSIGNED
        bench.end(1, 1, AttemptEnd.RETURNED)
        assert bench.take_assigned() == [(task_id(1), 6)]

    def test_a_number_beyond_reason_is_not_believed(self) -> None:
        bench = assigned()
        bench.join(held=[Held(*KEY, "held"), Held(task_id(1), 2**63 - 1, "running")], assigned=through(bench))
        bench.end(1, 1, AttemptEnd.RETURNED)
        assert bench.take_assigned() == [(task_id(1), 2)]

    def test_claims_of_unknown_tasks_are_stopped_or_forgotten(self) -> None:
        bench = Bench()
        held = [Held(task_id(7), 1, "running"), Held(task_id(8), 1, "held"), Held(task_id(9), 1, "ended")]
        registered = bench.join(held=held)
        assert registered.stop == [(task_id(7), 1), (task_id(8), 1)]
        assert registered.forget == [(task_id(9), 1)]
        bench.emptiness_check()

    def test_two_runtimes_claim_one_task_and_the_one_that_has_it_keeps_it(self) -> None:
        bench = assigned()
        assert bench.join("other", held=[Held(*KEY, "running")]).stop == [KEY]
        assert bench.task(1).runtime == RUNTIME

    def test_it_is_filed_under_the_name_the_broker_vouches_for(self) -> None:
        bench = Bench()
        bench._roles[RUNTIME] = "runtime"
        bench.submit(1)
        bench.tell(RUNTIME, m.Register(RuntimeInfo("somebody-else", 1), b"x", []))
        bench.take(RUNTIME, m.Registered)
        assert bench.take_assigned() == [KEY]
        assert list(bench.controller.state.runtimes) == [RUNTIME]

    @pytest.mark.parametrize(
        "wrong",
        [{"slots": math.nan}, {"slots": -1.0}, {"slots": math.inf}, {"speed": 0.0}, {"speed": math.nan},
         {"cpu": math.inf}, {"memory": -5}, {"custom": {"tpu": math.nan}}],
    )  # fmt: skip
    def test_an_offer_without_sense_is_refused_with_the_field(self, wrong: dict[str, Any]) -> None:
        bench = Bench()
        bench._roles[RUNTIME] = "runtime"
        bench.submit(1)
        bench.tell(RUNTIME, m.Register(RuntimeInfo(RUNTIME, **{"slots": 1.0, **wrong}), b"x", []))
        denied = bench.take(RUNTIME, m.Denied)
        assert denied.code == Code.INVALID
        assert next(iter(wrong.get("custom", wrong))) in denied.text
        assert not bench.controller.state.runtimes
        bench.emptiness_check()

    def test_a_reported_end_whose_report_never_comes_is_lost_with_the_runtime(self) -> None:
        bench = assigned()
        bench.start(1)
        bench.join(held=[Held(*KEY, "ended")], assigned=through(bench))
        assert bench.status(1) == Status.RUNNING
        bench.wait(60.0)
        bench.join("other")
        assert bench.take_assigned("other") == [(task_id(1), 2)]


class TestSilence:
    def test_a_cut_connection_alone_loses_nothing(self) -> None:
        bench = assigned()
        bench.tell("", m.PeerChanged(RUNTIME, "runtime", b"x", "gone"))
        assert bench.status(1) == Status.ASSIGNED
        bench.submit(2)
        assert bench.status(2) == Status.QUEUED, "but it gets nothing new"
        bench.take_all(RUNTIME)
        bench.join(held=[Held(*KEY, "running")], assigned=through(bench))
        bench.end(1)
        assert bench.take_assigned() == [(task_id(2), 1)]
        assert bench.counters["attempts.lost"] == 0

    def test_after_missed_heartbeats_it_is_lost_with_what_it_has(self) -> None:
        bench = assigned()
        bench.wait(5.0)
        assert bench.status(1) == Status.ASSIGNED, "two heartbeats and a half"
        bench.wait(0.1)
        assert bench.status(1) == Status.QUEUED
        assert bench.controller.state.runtimes[RUNTIME].state == "offline"

    def test_a_report_is_a_sign_of_life(self) -> None:
        bench = assigned()
        for _ in range(5):
            bench.wait(4.0)
            bench.report()
        assert bench.status(1) == Status.ASSIGNED

    def test_one_that_was_given_up_must_register_before_it_counts(self) -> None:
        bench = assigned()
        bench.wait(60.0)
        bench.beat()
        bench.take(RUNTIME, m.SendInventory)
        bench.join(held=[Held(*KEY, "running", 60.0)])
        assert bench.status(1) == Status.RUNNING, "and then its attempt is adopted"
        assert bench.counters["attempts.adopted"] == 1
        bench.end(1)
        assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}

    def test_what_was_given_to_another_meanwhile_is_stopped_when_it_returns(self) -> None:
        bench = assigned()
        bench.join("other")
        bench.wait_beating(60.0, "other")
        assert bench.take_assigned("other") == [(task_id(1), 2)]
        assert bench.join(held=[Held(*KEY, "running", 60.0)]).stop == [KEY]
        assert bench.counters["attempts.unwanted"] == 1

    def test_silence_while_the_controller_itself_stood_still_says_nothing(self) -> None:
        bench = assigned()
        bench.now += 3600.0
        bench.controller.on_stood_still(bench.now)
        bench.wait(0.0)
        assert bench.status(1) == Status.ASSIGNED

    def test_one_that_leaves_on_purpose_is_forgotten(self) -> None:
        bench = Bench()
        bench.join()
        bench.tell(RUNTIME, m.RuntimeLeaving("done"))
        bench.tell("", m.PeerChanged(RUNTIME, "runtime", b"x", "bye"))
        assert not bench.controller.state.runtimes
        assert bench.counters["runtimes.lost"] == 0

    def test_a_message_that_nobody_took_says_that_it_is_gone(self) -> None:
        bench = assigned()
        bench.tell("", m.Undeliverable(RUNTIME, "assign", Code.UNKNOWN_TARGET))
        bench.submit(2)
        assert bench.status(2) == Status.QUEUED
        bench.tell("", m.Undeliverable(RUNTIME, "assign", Code.OVERLOADED))
        assert bench.counters["undeliverable.assign"] == 2


class TestHeartbeats:
    def test_it_is_answered_with_its_own_time(self) -> None:
        bench = assigned()
        bench.tell(RUNTIME, m.Heartbeat(12.5, through(bench), 1, bench.controller.state.runtimes[RUNTIME].digest))
        assert bench.take(RUNTIME, m.HeartbeatSeen).sent == 12.5
        bench.emptiness_check()

    def test_a_batch_on_its_way_is_no_difference(self) -> None:
        bench = Bench()
        bench.join()
        bench.submit(1)
        bench.take_assigned()
        bench.beat(held=[], assigned=0)
        bench.emptiness_check()

    def test_a_difference_is_settled_by_an_inventory_that_is_asked_for_ever_more_rarely(self) -> None:
        bench = assigned()
        asked = []
        for _ in range(60):
            bench.now += 2.0
            bench.beat(held=[])
            found = bench.take_all(RUNTIME)
            if found:
                assert isinstance(found[0], m.SendInventory)
                asked.append(bench.now)
        gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert gaps[:4] == [2.0, 2.0, 2.0, 4.0] and gaps == sorted(gaps) and gaps[-1] >= 32.0
        assert sum("never matches" in note.event for note in bench.notes) == 1, "an operator is told once"
        bench.beat()
        assert bench.controller.state.runtimes[RUNTIME].mismatches == 0

    def test_numbers_without_sense_do_not_reach_the_estimates(self) -> None:
        bench = assigned()
        for round_trip in (math.nan, math.inf, -1.0, 1e300):
            digest = bench.controller.state.runtimes[RUNTIME].digest
            bench.tell(RUNTIME, m.Heartbeat(1.0, through(bench), 1, digest, round_trip=round_trip))
            bench.take(RUNTIME, m.HeartbeatSeen)
            assert bench.controller.state.runtimes[RUNTIME].round_trip == 0.0


class TestAskingBack:
    """The word is in no hand-over: whatever may have lost it lets it be said again."""

    @staticmethod
    def held(bench: Bench) -> list[Held]:
        return [Held(task, attempt, "held") for task, attempt in bench.controller.state.runtimes[RUNTIME].held]

    def test_what_was_asked_of_one_that_had_been_cut_off_is_not_waited_for_when_it_is_back(self) -> None:
        bench = Bench()
        bench.join(slots=2)
        bench.submit(1, 2)
        bench.take_all(RUNTIME)
        bench.tell("", m.Undeliverable(RUNTIME, "assign", Code.UNKNOWN_TARGET))
        recalls = bench.controller.scheduler.fleet.recalls
        assert len(bench.take(RUNTIME, m.TakeBack).attempts) == 2 == recalls.count
        bench.join(slots=2, held=self.held(bench), assigned=through(bench))
        assert recalls.count == 0
        bench.emptiness_check()

    def test_what_the_broker_could_not_pass_on_is_said_again_and_not_at_once(self) -> None:
        bench = Bench()
        bench.join(slots=2)
        bench.submit(1, 2)
        bench.take_all(RUNTIME)
        bench.controller.scheduler.set_aside(RUNTIME, "it fails", bench.now + 30.0)
        bench.turn()
        asked = bench.take(RUNTIME, m.TakeBack)
        bench.tell("", m.Undeliverable(RUNTIME, "take_back", Code.OVERLOADED))
        bench.emptiness_check()
        bench.wait(0.25)
        assert bench.take(RUNTIME, m.TakeBack) == asked
        bench.wait(0.25)
        bench.emptiness_check()


class TestHeartbeatsAlone:
    """A wake-up that brought nothing else."""

    def test_what_is_stuck_is_asked_back_though_nothing_else_is_heard(self) -> None:
        bench = Bench()
        names = ("a", "b")
        for name in names:
            bench.join(name)
            bench.tell(name, m.Heartbeat(1.0, 0, 0, 0, round_trip=0.2))
            bench.take(name, m.HeartbeatSeen)
        bench.controller.scheduler.catalogue.work_of(options()).prediction.observe_many("a", [0.1] * 50)
        bench.submit(1, 2, 3)
        for name in names:
            (first, _), *_ = bench.take_assigned(name)
            bench.start(int.from_bytes(first, "big"), name=name)
        bench.sent.clear()
        bench.now += 30.0
        for name in names * 2:
            bench.hear(name, m.Heartbeat(2.0, through(bench, name), 2, self.digest(bench, name), round_trip=0.2))
            effects = bench.controller.finish_quietly(bench.now)
            sent = [each.message for each in effects or () if isinstance(each, Send)]
            asked = [message.attempts for message in sent if isinstance(message, m.TakeBack)]
            if asked:
                break
        assert [len(attempts) for attempts in asked] == [1]

    @staticmethod
    def digest(bench: Bench, name: str) -> int:
        return bench.controller.state.runtimes[name].digest

    def test_what_calls_for_a_decision_is_not_passed_over(self) -> None:
        bench = Bench()
        bench.join()
        bench.hear(RUNTIME, m.Heartbeat(1.0, 0, 0, 0, round_trip=0.1))
        assert bench.controller.finish_quietly(bench.now) is None, "its round trip is news"
        bench.turn()
        for load in ({FULL: 1.0}, {}):
            bench.hear(RUNTIME, m.Heartbeat(1.0, 0, 0, 0, round_trip=0.1, load=load))
            assert bench.controller.finish_quietly(bench.now) is None, "so is a disk that is full, or is not any more"
            bench.turn()
        bench.hear(RUNTIME, m.Heartbeat(1.0, 0, 0, 7, round_trip=0.1))
        effects = bench.controller.finish_quietly(bench.now)
        assert effects is not None, "what it holds is asked for without a decision"
        assert [type(each.message) for each in effects if isinstance(each, Send)][-2:] == [
            m.SendInventory,
            m.HeartbeatSeen,
        ]


class TestDrain:
    def test_a_draining_runtime_gets_nothing_new_and_gives_back_what_it_has_not_begun(self) -> None:
        bench = Bench()
        bench.join(slots=2)
        bench.submit(1, 2)
        bench.take_all(RUNTIME)
        bench.start(1)
        bench.tell(CLIENT, m.DrainRuntime(5, RUNTIME))
        assert bench.take(CLIENT, m.Changed) == m.Changed(5, 1)
        assert bench.take(RUNTIME, m.SetDrain).drain
        assert bench.take(RUNTIME, m.TakeBack).attempts == [(task_id(2), 1)]
        assert bench.controller.state.counters["attempts.asked-back"] == 1
        bench.end(2, 1, AttemptEnd.RETURNED)
        bench.submit(3)
        bench.emptiness_check()
        bench.end(1)
        bench.take_ends()
        bench.tell(CLIENT, m.DrainRuntime(6, RUNTIME, resume=True))
        bench.take(CLIENT, m.Changed)
        assert not bench.take(RUNTIME, m.SetDrain).drain
        got = {task for each in bench.take_all(RUNTIME) for group in each.groups for task, _, _ in group.attempts}
        assert got == {task_id(2), task_id(3)}

    def test_what_a_closed_runtime_has_not_begun_is_asked_back_while_nothing_is_given_out(self) -> None:
        bench = Bench()
        bench.join(slots=2)
        bench.submit(1, 2)
        bench.take_all(RUNTIME)
        bench.start(1)
        bench.controller.pause(True)
        bench.controller.scheduler.set_aside(RUNTIME, "it fails", bench.now + 30.0)
        bench.wait_beating(1.0, RUNTIME)
        assert bench.take(RUNTIME, m.TakeBack).attempts == [(task_id(2), 1)]
        bench.emptiness_check()

    def test_an_unknown_or_absent_runtime_is_refused_with_those_that_are_there(self) -> None:
        bench = Bench()
        bench.join("here")
        bench.join("lost")
        bench.wait_beating(60.0, "here")
        for name in ("lost", "never-seen"):
            bench.tell(CLIENT, m.DrainRuntime(5, name))
            denied = bench.take(CLIENT, m.Denied)
            assert denied.code == Code.NOT_FOUND and "online: here" in denied.text

    def test_a_draining_runtime_stays_so_when_it_connects_anew(self) -> None:
        bench = Bench()
        bench.join()
        bench.tell(CLIENT, m.DrainRuntime(5, RUNTIME))
        bench.take_all(RUNTIME)
        bench.take(CLIENT, m.Changed)
        bench.join()
        bench.submit(1)
        bench.emptiness_check()


class TestClaimsWithoutSense:
    def test_a_claim_with_an_age_without_sense_is_adopted_all_the_same(self) -> None:
        bench = assigned()
        bench.join(held=[Held(*KEY, "running", math.nan)], assigned=through(bench))
        assert bench.status(1) == Status.RUNNING and math.isfinite(bench.task(1).started)


def test_what_an_earlier_broker_knew_of_topics_is_void() -> None:
    bench = assigned()
    bench.tell("", m.TopicsChanged(["tasks"], []))
    bench.tell("", m.Peers([]))
    bench.tell("", m.TopicsChanged(["queues"], []))
    assert bench.controller.state.topics == {"queues"}


def test_a_batch_for_a_runtime_is_cut_by_bytes_and_count() -> None:
    bench = Bench()
    tasks = [(task_id(n), b"x" * 10_000) for n in range(1, 301)]
    bench.tell(CLIENT, m.Submit(1, [m.Group(options(requirements=Requirements(slots=0.0)), tasks)]))
    bench.take(CLIENT, m.Accepted)
    bench.join(slots=300)
    batches = bench.take_all(RUNTIME)
    sizes = [sum(len(attempt[2]) for group in each.groups for attempt in group.attempts) for each in batches]
    assert sum(sizes) <= 3_000_000 and max(sizes) <= 1_100_000


def test_the_answer_to_a_registration_names_the_next_assign_batch() -> None:
    bench = Bench()
    first = bench.join().first
    bench.submit(1, 2)
    (assign,) = [each for each in bench.take_all(RUNTIME) if isinstance(each, m.Assign)]
    assert assign.batch == first
    again = bench.join(held=[], assigned=first - 1)
    assert again.first == first, "it is not known whether the batch arrived"
    bench.take_all(RUNTIME)
    assert bench.join(held=[Held(task_id(1), 1, "running", 0.1)], assigned=first).first == first + 1
