"""A peer's connection, step by step: events and the time go in, effects come out."""

from __future__ import annotations

import random

import pytest

from headway_bus.messages import ControllerChanged, Hello, Ping, Pong, Rejected, Undeliverable, Welcome
from headway_bus.records import Code
from headway_bus.session import (
    FIRST_RETRY,
    LAST_RETRY,
    LONGEST_GREETING,
    Close,
    ControllerSeen,
    Down,
    Open,
    Over,
    Send,
    Session,
    Up,
)

WELCOME = Welcome(1, "given", b"broker", 2.0, 1 << 26, b"controller")
HELLO = Hello(1, "client", "wished", b"instance", "test")


def session(**fields: object) -> Session:
    return Session("client", "wished", b"instance", "test", random=random.Random(1), **fields)  # type: ignore[arg-type]


def up(now: float = 100.0) -> Session:
    one = session()
    assert one.on_tick(now) == [Open(), Send(HELLO)]
    assert one.on_message(WELCOME, now) == [Up(WELCOME)]
    return one


def tick_until(one: Session, now: float, kind: type) -> tuple[float, list[object]]:
    """Tick as a link does until an effect of that kind appears; when, and all effects on the way."""
    effects: list[object] = []
    for _ in range(10_000):
        now += 0.05
        found = one.on_tick(now)
        effects += found
        if any(isinstance(each, kind) for each in found):
            return now, effects
    raise AssertionError(f"no {kind.__name__}; effects: {effects}")


def test_it_says_hello_and_takes_what_the_broker_answers() -> None:
    one = up()
    assert one.is_up
    assert (one.name, one.heartbeat, one.controller) == ("given", 2.0, b"controller")


def test_a_welcome_that_nobody_asked_for_is_passed_over() -> None:
    one = session()
    assert one.on_message(WELCOME, 100.0) == []
    assert not one.is_up


def test_a_broker_that_does_not_answer_is_given_up_after_three_heartbeats() -> None:
    one = session()
    one.on_tick(100.0)
    when, effects = tick_until(one, 100.0, Close)
    assert when == pytest.approx(106.0, abs=0.1)
    assert not any(isinstance(each, Down) for each in effects), "it was never up"
    assert one.retry_at >= when


def test_silence_brings_it_down_and_then_it_tries_again() -> None:
    one = up()
    when, effects = tick_until(one, 100.0, Close)
    assert when == pytest.approx(106.0, abs=0.1)
    assert sum(isinstance(each, Send) for each in effects) == 3, "a ping per heartbeat before that"
    assert isinstance(effects[-1], Down) and "no word" in effects[-1].reason
    assert one.controller == b""
    _, effects = tick_until(one, when, Open)
    assert effects == [Open(), Send(Hello(1, "client", "given", b"instance", "test"))], (
        "with the name that it was given"
    )


def test_how_long_the_broker_has_been_silent_is_known_while_there_is_a_connection() -> None:
    one = up(100.0)
    one.on_heard(103.0)
    assert one.silence(105.5) == 2.5
    one.on_disconnected(106.0)
    assert one.silence(200.0) == 0.0


def test_whatever_is_heard_is_a_sign_of_life() -> None:
    one = up()
    for second in range(1, 60):
        one.on_heard(100.0 + second)
        assert not any(isinstance(each, Close) for each in one.on_tick(100.0 + second))


def test_a_listener_pings_too_because_the_broker_must_hear_it() -> None:
    one = up()
    pings = 0
    for step in range(1, 101):
        now = 100.0 + step / 10
        one.on_heard(now)
        pings += sum(isinstance(each, Send) and isinstance(each.message, Ping) for each in one.on_tick(now))
    assert pings in (5, 6)


def test_a_process_that_stood_still_waits_one_heartbeat_more() -> None:
    one = up()
    one.on_tick(100.5)
    assert not any(isinstance(each, Close) for each in one.on_tick(5000.0)), "what was said meanwhile may lie unread"
    one.on_tick(5001.9)
    assert any(isinstance(each, Close) for each in one.on_tick(5002.1))


def test_a_process_that_stood_still_while_greeting_waits_one_heartbeat_more() -> None:
    one = session()
    one.on_tick(100.0)
    assert one.on_tick(5000.0) == []
    assert one.on_message(WELCOME, 5000.1) == [Up(WELCOME)]


@pytest.mark.parametrize(("heartbeat", "patience"), [(2.0, 6.0), (30.0, LONGEST_GREETING)])
def test_a_hello_without_an_answer_is_said_again_before_a_slow_heartbeat_would(
    heartbeat: float, patience: float
) -> None:
    one = session(heartbeat=heartbeat)
    one.on_tick(100.0)
    lost, _ = tick_until(one, 100.0, Close)
    assert lost == pytest.approx(100.0 + patience, abs=0.1)


class TestBackOff:
    def test_the_first_attempt_after_a_cut_is_nearly_immediate_and_each_further_one_may_wait_longer(self) -> None:
        one = up()
        now, waits = 200.0, []
        for _ in range(12):
            one.on_disconnected(now)
            waits.append(one.retry_at - now)
            now = one.retry_at
            one.on_tick(now)
        ceilings = [min(LAST_RETRY, FIRST_RETRY * 2**n) for n in range(12)]
        assert all(0.0 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
        assert max(waits) > 1.0

    def test_many_that_were_cut_at_once_do_not_come_back_at_once(self) -> None:
        times = set()
        for seed in range(100):
            one = Session("client", "", b"x", random=random.Random(seed))
            one.on_tick(100.0)
            one.on_message(WELCOME, 100.0)
            one.on_disconnected(100.0)
            times.add(round(one.retry_at, 3))
        assert len(times) > 30

    def test_nothing_is_tried_before_its_time(self) -> None:
        one = up()
        one.on_disconnected(200.0)
        assert one.on_tick(one.retry_at - 0.001) == []
        assert one.on_tick(one.retry_at) != []

    def test_a_cut_that_is_told_twice_counts_once(self) -> None:
        one = up()
        assert one.on_disconnected(200.0) == [Close(), Down("the connection was closed")]
        assert one.on_disconnected(200.0) == []

    def test_a_connection_that_cannot_be_made_is_not_told_as_lost(self) -> None:
        one = session()
        one.on_tick(100.0)
        assert one.on_disconnected(100.1) == [Close()]


class TestRefusals:
    @pytest.mark.parametrize("code", [Code.VERSION, Code.FORBIDDEN, Code.MALFORMED])
    def test_what_time_does_not_mend_is_the_end(self, code: Code) -> None:
        one = session()
        one.on_tick(100.0)
        rejected = Rejected(code, "no")
        assert one.on_message(rejected, 100.1) == [Close(), Over(rejected)]
        assert one.on_tick(200.0) == []

    def test_a_full_broker_is_asked_again(self) -> None:
        one = session()
        one.on_tick(100.0)
        assert one.on_message(Rejected(Code.LIMIT, "10000 peers are connected"), 100.1) == [Close()]
        _, effects = tick_until(one, 100.1, Open)
        assert effects

    def test_a_taken_name_is_asked_for_until_patience_is_over(self) -> None:
        one = session(name_patience=3.0)
        now, rejected = 100.0, Rejected(Code.NAME_TAKEN, "taken")
        one.on_tick(now)
        for _ in range(1_000):
            effects = one.on_message(rejected, now)
            if any(isinstance(each, Over) for each in effects):
                break
            now, _ = tick_until(one, now, Open)
        assert now >= 103.0
        assert one.state == "over"

    def test_a_name_that_becomes_free_is_taken(self) -> None:
        one = session()
        one.on_tick(100.0)
        one.on_message(Rejected(Code.NAME_TAKEN, "taken"), 100.0)
        now, _ = tick_until(one, 100.0, Open)
        assert one.on_message(WELCOME, now) == [Up(WELCOME)]

    def test_a_refused_message_of_one_that_is_up_changes_nothing_here(self) -> None:
        one = up()
        assert one.on_message(Rejected(Code.FORBIDDEN, "no", 7), 101.0) == []
        assert one.is_up


class TestForgotten:
    def test_it_says_hello_again_on_the_same_connection_and_tells_its_owner(self) -> None:
        one = up()
        effects = one.on_message(Rejected(Code.NOT_GREETED, "say hello first"), 101.0)
        assert [type(each) for each in effects] == [Down, Send]
        assert not one.is_up
        assert one.on_message(WELCOME, 101.1) == [Up(WELCOME)]

    def test_many_refusals_of_what_was_under_way_lead_to_one_hello(self) -> None:
        one = up()
        rejected = Rejected(Code.NOT_GREETED, "say hello first")
        effects = [effect for _ in range(100) for effect in one.on_message(rejected, 101.0)]
        assert sum(isinstance(each, Send) for each in effects) == 1

    def test_a_hello_that_is_not_answered_ends_in_a_new_connection(self) -> None:
        one = up()
        one.on_message(Rejected(Code.NOT_GREETED, "say hello first"), 101.0)
        when, _ = tick_until(one, 101.0, Close)
        assert when == pytest.approx(107.0, abs=0.1)


class TestPings:
    """Driven as a link does, a runtime that says something every heartbeat and is answered, or is not."""

    def pings(self, role: str, heartbeats: int, spoken: bool = True, answered: bool = True) -> int:
        one = Session(role, "wished", b"instance", "test", random=random.Random(1))
        one.on_tick(100.0)
        one.on_message(WELCOME, 100.0)
        count = 0
        for step in range(8 * heartbeats):
            now = 100.0 + 0.25 * step
            for effect in one.on_tick(now):
                assert isinstance(effect, Send) and isinstance(effect.message, Ping)
                one.on_message(Pong(now), now + 0.1)
                count += 1
            if step % 8 == 3:
                one.has_spoken = spoken
                if answered:
                    one.on_heard(now + 0.1)
        return count

    @pytest.mark.parametrize("role", ["runtime", "edge"])
    def test_one_that_speaks_and_is_answered_pings_a_fourth_as_often(self, role: str) -> None:
        assert self.pings(role, 41) == 11

    def test_one_that_only_listens_pings_every_heartbeat(self) -> None:
        assert self.pings("runtime", 40, spoken=False) == 40
        assert self.pings("client", 40) == 40

    def test_one_that_is_not_answered_asks_whether_the_broker_lives(self) -> None:
        assert self.pings("runtime", 40, answered=False) >= 20


class TestRoundTrips:
    def test_they_are_smoothed(self) -> None:
        one = up()
        one.on_message(Pong(101.0), 101.5)
        assert one.round_trip == pytest.approx(0.5)
        one.on_message(Pong(102.0), 102.1)
        assert 0.1 < one.round_trip < 0.5

    def test_the_first_after_long_counts_for_those_that_were_not_taken(self) -> None:
        often, rarely = up(), up()
        for one in (often, rarely):
            one.on_message(Pong(100.0), 101.0)
        for now in (103.0, 105.0, 107.0, 109.0):
            often.on_message(Pong(now - 0.1), now)
        rarely.on_message(Pong(108.9), 109.0)
        assert rarely.round_trip == pytest.approx(often.round_trip)

    @pytest.mark.parametrize("sent", [0.0, -1.0, 1e9, float("nan")])
    def test_a_word_that_answers_no_ping_of_ours_is_no_round_trip(self, sent: float) -> None:
        one = up()
        one.on_message(Pong(101.0), 101.5)
        one.on_message(Pong(sent), 101.6)
        assert one.round_trip == pytest.approx(0.5)


def test_a_controller_that_comes_and_goes_is_told() -> None:
    one = up()
    assert one.on_message(ControllerChanged(b"other"), 101.0) == [ControllerSeen(b"other")]
    assert one.on_message(ControllerChanged(b""), 102.0) == [ControllerSeen(b"")]
    assert one.controller == b""


def test_messages_that_are_not_the_sessions_are_passed_over() -> None:
    assert up().on_message(Undeliverable("x", "submit", Code.UNKNOWN_TARGET), 101.0) == []


def test_one_that_stopped_stays_so() -> None:
    one = up()
    assert one.on_stopped() == [Close()]
    assert one.on_tick(500.0) == []
    assert one.on_disconnected(500.0) == []
    assert one.on_message(Rejected(Code.NOT_GREETED, "say hello first"), 500.0) == []
