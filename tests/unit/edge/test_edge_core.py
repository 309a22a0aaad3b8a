"""The agent's core: what it begins while cut off, what it does after a restart, what a full disk means."""

from __future__ import annotations

import pytest
from edge_world import AT_ONCE, MemoryLedger, task_id
from msgspec.structs import replace

from headway_bus import messages as m
from headway_bus.endpoint import Frame
from headway_bus.payloads import encode_call
from headway_bus.records import AttemptEnd, Blob, Ended, File, Kind, Options, Requirements, RuntimeInfo
from headway_edge.bucket import Bucket
from headway_edge.core import EdgeCore
from headway_edge.ledger import StoredAttempt
from headway_runtime import effects as to_do
from headway_runtime.refusals import Refusals
from headway_runtime.state import Bounds

CALL = encode_call([], {})
INFO = RuntimeInfo("shop-17", 1.0, edge=True)
WELCOME = m.Welcome(1, "shop-17", b"broker", 2.0, 1 << 26, b"controller")


class Agent:
    """The core with a spool in memory; effects are kept, and seen only after what led to them is committed."""

    def __init__(self, ledger: MemoryLedger | None = None, now: float = 1_000.0, off: float | None = None) -> None:
        self.ledger = ledger or MemoryLedger()
        self.now = now
        bounds, bucket = Bounds(ready_children=0), Bucket(0.0)
        self.core = EdgeCore(INFO, b"spool", Refusals(INFO), bounds, self.ledger, AT_ONCE, bucket, lambda: 5_000.0)
        self.core.restore(now)
        self.core.lease.since = None if off is None else now - off
        self.effects: list[to_do.Effect] = []
        self.do(self.core.on_start())
        self._batch = 0

    def do(self, effects: list[to_do.Effect]) -> None:
        effects = [*effects, *self.core.flush(self.now)]
        self.ledger.commit()
        self.effects += effects
        self.core.validate()

    def restarted(self, off: float | None = None) -> Agent:
        """After kill -9: a new process with what was on disk. ``off``: seconds since it was last heard, if that is known."""
        self.ledger.crash()
        return Agent(self.ledger, 50.0, off)

    def connect(self) -> None:
        self.do(self.core.on_up(WELCOME, self.now))
        self.hear(m.Registered(b"controller"))
        self.hear(m.HeartbeatSeen(self.now))

    def cut(self) -> None:
        self.do(self.core.on_down(self.now))

    def hear(self, message: m.Message, *frames: Frame) -> None:
        self.do(self.core.on_message(message, list(frames), self.now))

    def assign(self, *numbers: int, **fields: object) -> None:
        self._batch += 1
        options = Options(Kind.COMMAND, "true", requirements=Requirements(slots=1.0), **fields)  # type: ignore[arg-type]
        attempts = [(task_id(number), 1, CALL) for number in numbers]
        self.hear(m.Assign(self._batch, [m.AssignGroup(options, attempts)]))  # type: ignore[arg-type]

    def finish(self, number: int) -> None:
        ended = Ended(task_id(number), 1, AttemptEnd.SUCCEEDED, 1.0, b"\x00")
        self.do(self.core.on_command_gone((task_id(number), 1), ended, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.core.on_tick(self.now))

    def took_place(self, kind: type[to_do.Effect]) -> list[to_do.Effect]:
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def begun(self) -> list[int]:
        commands = self.took_place(to_do.StartCommand)
        return [int.from_bytes(each.attempt.key[0], "big") for each in commands if isinstance(each, to_do.StartCommand)]


def test_cut_off_it_begins_only_what_its_allowance_covers() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, offline=100.0)
    agent.assign(2, offline=0.0)
    agent.assign(3, offline=100.0)
    assert agent.begun() == [1]
    agent.cut()
    agent.wait(30.0)
    agent.finish(1)
    assert agent.begun() == [3], "the second has no allowance and is passed over"
    agent.finish(3)
    assert agent.begun() == [] and agent.core.shelved == 1
    agent.connect()
    assert agent.begun() == [2]


def test_a_short_cut_stops_nothing() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, 2)
    agent.cut()
    agent.wait(3.0)
    agent.finish(1)
    assert agent.begun() == [1, 2]


def test_when_the_allowance_is_used_up_nothing_more_is_begun() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, 2, offline=100.0)
    agent.cut()
    agent.wait(101.0)
    agent.finish(1)
    assert agent.begun() == [1], "the controller may have given the second to others"


def test_the_lease_counts_from_the_last_heartbeat_that_was_answered() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, 2, offline=100.0)
    agent.wait(90.0)  # heartbeats leave, and none is answered
    agent.cut()
    agent.wait(20.0)
    agent.finish(1)
    assert agent.begun() == [1]


def test_what_is_back_is_begun_only_after_the_controller_has_said_what_it_no_longer_wants() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, 2)
    agent.cut()
    agent.wait(50.0)
    agent.finish(1)
    agent.begun()
    agent.do(agent.core.on_up(WELCOME, agent.now))
    assert agent.begun() == []
    agent.hear(m.Registered(b"controller", stop=[(task_id(2), 1)]))
    assert agent.begun() == [] and (task_id(2), 1) not in agent.core.attempts


def test_after_a_restart_what_was_not_begun_is_begun_and_what_was_begun_is_given_up() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, 2, offline=3600.0)
    assert agent.begun() == [1]
    again = agent.restarted()
    assert again.core.interrupted == 1 and list(again.core.attempts) == [(task_id(2), 1)]
    assert again.begun() == [], "nobody can say how long it was off"
    again = again.restarted(off=60.0)
    assert again.begun() == [2]
    register = next(
        each.message
        for each in (again.connect(), again.took_place(to_do.Tell))[1]
        if isinstance(each, to_do.Tell) and isinstance(each.message, m.Register)
    )
    assert [(held.task, held.phase) for held in register.held] == [(task_id(2), "running")]
    assert register.instance == b"spool" and register.assigned == 1


def test_a_resumable_attempt_is_begun_again_and_says_how_often_it_was() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, resumable=True)
    again = agent.restarted()
    assert again.core.kept_folders() == {f"{task_id(1).hex()}-1"}
    again.connect()
    (start,) = again.took_place(to_do.StartCommand)
    assert isinstance(start, to_do.StartCommand) and start.attempt.starts == 1


def test_an_assignment_that_arrives_again_after_a_restart_is_not_taken_in_twice() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1)
    agent.finish(1)
    again = agent.restarted()
    again.connect()
    again.assign(1)
    assert again.begun() == [] and again.core.duplicates >= 1


def test_a_large_result_that_was_not_brought_is_brought_after_the_restart() -> None:
    agent = Agent()
    agent.connect()
    options = Options(Kind.CALL, "a:f")
    agent.hear(m.Assign(1, [m.AssignGroup(options, [(task_id(1), 1, CALL)])]))
    (feed,) = agent.took_place(to_do.Feed)
    assert isinstance(feed, to_do.Feed)
    blob = Blob(bytes(32), 10_000_000)
    ended = Ended(task_id(1), 1, AttemptEnd.SUCCEEDED, 1.0, blob)
    agent.do(agent.core.on_child_ended(feed.child, [ended], [], agent.now))
    again = agent.restarted()
    assert again.took_place(to_do.Upload) == [to_do.Upload((task_id(1), 1), [blob], [])]
    again.connect()
    again.do(again.core.on_uploaded((task_id(1), 1), None, again.now))
    reports = [each.message for each in again.took_place(to_do.Tell) if isinstance(each, to_do.Tell)]
    ends = [record for each in reports if isinstance(each, m.Report) for record in each.ended]
    assert [record.result for record in ends] == [blob]


def test_files_that_were_on_their_way_are_asked_for_again_after_the_restart() -> None:
    agent = Agent()
    agent.connect()
    blob = Blob(bytes(32), 5_000)
    agent.assign(1, files=[File("a.csv", blob)])
    again = agent.restarted()
    assert again.took_place(to_do.Fetch) == [to_do.Fetch((task_id(1), 1), [blob])]


def test_a_full_disk_gives_back_what_is_not_begun_and_takes_nothing_in() -> None:
    agent = Agent()
    agent.connect()
    agent.assign(1, 2)
    agent.took_place(to_do.Tell)
    agent.do(agent.core.on_full(agent.now))
    first, *others = [each.message for each in agent.took_place(to_do.Tell) if isinstance(each, to_do.Tell)]
    assert isinstance(first, m.Heartbeat) and first.load["full"] == 1.0, "or the controller would give it back to us"
    assert first.held == 2 and others == []
    agent.assign(3)
    assert set(agent.core.attempts) == {(task_id(1), 1)}
    agent.finish(1)
    agent.do(agent.core.on_room(agent.now))
    agent.begun()
    agent._batch -= 1
    agent.assign(3)
    assert agent.begun() == [3], "it was never acknowledged, and came again"


def test_a_start_that_could_not_be_noted_does_not_take_place() -> None:
    agent = Agent()
    agent.connect()
    agent.core.on_message(
        m.Assign(1, [m.AssignGroup(Options(Kind.COMMAND, "true"), [(task_id(1), 1, CALL)])]), [], agent.now
    )
    effects = agent.core.flush(agent.now)
    assert any(isinstance(effect, to_do.StartCommand) for effect in effects)
    left = agent.core.not_begun_after_all(effects, agent.now)
    assert not any(isinstance(effect, to_do.StartCommand) for effect in left)
    agent.core.validate()
    assert agent.core.pool.free == 1.0


def test_a_refusal_after_a_restart_is_as_old_as_it_is() -> None:
    agent = Agent()
    agent.connect()
    agent.cut()
    options = Options(Kind.COMMAND, "true", requirements=Requirements(slots=1.0), offline=3600.0)
    agent.ledger.add_attempt(
        StoredAttempt((task_id(1), 1), replace(options, requirements=Requirements(slots=9.0)), CALL)
    )
    agent.ledger.commit()
    agent.restarted()
    (stored,) = agent.ledger.reports()
    (record,) = stored.report.ended
    assert record.end is AttemptEnd.FAILED and record.age == 0.0


def test_an_answer_to_a_heartbeat_of_before_the_machine_was_started_anew_is_no_lease() -> None:
    agent = Agent(now=50.0)
    agent.do(agent.core.on_up(WELCOME, agent.now))
    agent.hear(m.HeartbeatSeen(90_000.0))
    assert agent.core.lease.since is None
    agent.hear(m.HeartbeatSeen(49.0))
    assert agent.core.lease.since == 49.0


def test_the_answer_to_an_earlier_register_message_does_not_lengthen_the_lease() -> None:
    agent = Agent()
    agent.connect()
    heard = agent.now
    agent.wait(90.0)
    agent.cut()
    agent.do(agent.core.on_up(WELCOME, agent.now))
    agent.wait(50.0)  # without an answer it says again who it is; then the answer to the first message comes
    assert agent.core.presence.asked_since == agent.now
    agent.hear(m.Registered(b"controller"))
    assert agent.core.lease.since == heard


def test_a_new_agent_that_is_cut_off_before_its_first_heartbeat_goes_on_with_what_it_was_given() -> None:
    agent = Agent()
    agent.do(agent.core.on_up(WELCOME, agent.now))
    asked = agent.now
    agent.now += 0.5
    agent.hear(m.Registered(b"controller"))
    assert agent.core.lease.since == asked
    agent.assign(1, offline=60.0)
    agent.cut()
    assert agent.begun() == [1]


@pytest.mark.parametrize("why", ["it has asked before", "it held something before"])
def test_of_any_other_agent_an_answer_says_nothing_of_the_lease(why: str) -> None:
    agent = Agent()
    if why == "it held something before":
        agent.connect()
        agent.assign(1, offline=60.0)
        agent = agent.restarted()
    agent.do(agent.core.on_up(WELCOME, agent.now))
    if why == "it has asked before":
        agent.wait(50.0)  # and it asks once more
    agent.hear(m.Registered(b"controller"))
    assert agent.core.lease.since is None


def test_who_stood_still_asks_before_beginning_what_may_be_others_by_now() -> None:
    agent = Agent()
    agent.connect()
    agent.took_place(to_do.Tell)
    agent.now += 60.0  # a closed lid; then all that came meanwhile is read, and the link seems to be up
    agent.assign(1)
    registers = [each for each in agent.took_place(to_do.Tell) if isinstance(each.message, m.Register)]  # type: ignore[attr-defined]
    assert len(registers) == 1 and agent.begun() == []
    agent.hear(m.Registered(b"controller"))
    agent._batch -= 1
    agent.assign(1)  # the controller still wants it, and says so again
    assert agent.begun() == [1]


def test_who_is_answered_in_time_does_not_ask() -> None:
    agent = Agent()
    agent.connect()
    agent.took_place(to_do.Tell)
    for number in range(1, 20):
        agent.wait(2.0)
        agent.hear(m.HeartbeatSeen(agent.now - 0.5))
        agent.assign(number)
        agent.begun()
        agent.finish(number)
    assert not [each for each in agent.took_place(to_do.Tell) if isinstance(each.message, m.Register)]  # type: ignore[attr-defined]
