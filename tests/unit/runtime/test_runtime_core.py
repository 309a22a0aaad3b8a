"""What the runtime's core does, event by event."""

from __future__ import annotations

import signal

import pytest
from msgspec.structs import replace
from runtime_world import World, options, task_id

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Blob, Kind, LogRecord, Reason, Requirements
from headway_runtime.state import Bounds

CALL = options()
COMMAND = options(Kind.COMMAND, "true")


def learn(world: World, chosen: m.Options = CALL, seconds: float = 1e-5) -> None:
    """Let one attempt end, so that its duration is known."""
    world.assign(chosen, [10_000 + len(world.ends)])
    child = next(child for child, queue in world.children.items() if queue)
    world.finish(child, seconds=seconds)


def test_registers_with_everything_it_holds_and_repeats_its_reports(world: World) -> None:
    world.assign(CALL, [1, 2, 3])
    world.finish(1)
    world.cut()
    world.finish(2)
    world.told.clear()
    world.connect()
    register, *rest = world.told
    assert isinstance(register, m.Register)
    phases = {each.task: each.phase for each in register.held}
    assert phases == {task_id(1): "ended", task_id(2): "ended", task_id(3): "running"}
    assert [type(each) for each in rest] == [m.Report, m.Report]  # the unsettled one, and what happened meanwhile
    assert world.view == {(task_id(3), 1)}


def test_an_unknown_target_goes_to_a_child_alone_and_a_short_one_in_company(world: World) -> None:
    world.assign(CALL, range(10))
    assert [len(queue) for queue in world.children.values()] == [1, 1]
    world.finish(1)
    assert [len(queue) for queue in world.children.values()] == [8, 1]


def test_short_attempts_are_shared_between_idle_children(world: World) -> None:
    learn(world)
    world.assign(CALL, [1])
    world.finish(next(child for child, queue in world.children.items() if queue))
    world.assign(CALL, range(2, 22))
    assert [len(queue) for queue in world.children.values()] == [10, 10]


def test_long_attempts_never_wait_behind_one_another(world: World) -> None:
    learn(world, seconds=0.5)
    world.assign(CALL, range(1, 6))
    assert [len(queue) for queue in world.children.values()] == [1, 1]


def test_what_waits_behind_a_long_attempt_is_taken_back_and_run_elsewhere(world: World) -> None:
    learn(world)
    world.assign(CALL, range(1, 7))
    slow, other = world.children
    world.finish(other, 3)
    world.pass_time(0.01)
    assert world.recalled == {slow}
    world.answer_recall(slow)
    assert [len(world.children[slow]), len(world.children[other])] == [1, 2]


def test_a_start_is_told_only_when_the_attempt_lasts(world: World) -> None:
    world.assign(CALL, [1, 2])
    world.finish(1)
    world.pass_time(0.02)
    assert world.started == [(task_id(2), 1)]
    report = world.told[-1]
    assert isinstance(report, m.Report)
    assert report.started[0].age == pytest.approx(0.02)


def test_assigning_twice_is_harmless(world: World) -> None:
    assign = m.Assign(7, [m.AssignGroup(CALL, [(task_id(1), 1, b"\x93\x90\x80\x80")])])
    for _ in range(2):
        world.view.add((task_id(1), 1))
        world.say(assign)
    world.say(m.Assign(8, assign.groups))
    world.finish(1)
    world.say(m.Assign(9, assign.groups))  # it has ended, and is not settled
    assert list(world.ends) == [(task_id(1), 1)]
    assert world.core.duplicates == 3
    assert world.core.reporter.held == 0


def test_slots_bound_what_runs(world: World) -> None:
    keys = world.assign(COMMAND, range(5))
    assert list(world.commands) == keys[:2]
    world.end_command(keys[0])
    assert list(world.commands) == keys[1:3]


def test_fractions_of_slots_add_up() -> None:
    world = World(slots=1.0)
    world.connect()
    world.assign(options(slots=0.25), range(6))
    assert world.occupied == 4
    for child in list(world.children)[:4]:
        world.finish(child)
    for child in [child for child, queue in world.children.items() if queue]:
        world.finish(child)
    world.pass_time(0.1)
    assert len(world.children) == 1, "children that only the fractions made necessary are kept"


def test_what_needs_more_slots_waits_for_them_and_is_not_overtaken(world: World) -> None:
    world.assign(CALL, [1])
    world.assign(options(slots=2.0), [2])
    world.assign(CALL, [3])
    assert world.occupied == 1
    world.finish(1)
    assert [queue for queue in world.children.values() if queue] == [[(task_id(2), 1)]]


@pytest.mark.parametrize(
    ("chosen", "word"),
    [
        (options(slots=3.0), "slots"),
        (options(by_value=True), "by value"),
        (options(Kind.MODEL, "unknown"), "known"),
    ],
)
def test_what_is_not_run_here_is_refused(world: World, chosen: m.Options, word: str) -> None:
    (key,) = world.assign(chosen, [1])
    error = world.ends[key].error
    assert error is not None
    assert error.reason is Reason.REFUSED
    assert word in error.message


def test_a_crash_costs_the_attempt_that_ran_and_no_other(world: World) -> None:
    learn(world)
    world.assign(CALL, range(1, 7))
    child = next(iter(world.children))
    first, *behind = world.children[child]
    world.crash(child)
    assert world.ends[first].end is AttemptEnd.FAILED
    assert world.ends[first].error is not None
    assert not world.ends.keys() & set(behind)
    assert {key for queue in world.children.values() for key in queue} >= set(behind)


def test_a_child_that_dies_between_attempts_costs_none(world: World) -> None:
    learn(world)
    world.assign(CALL, [1, 2])
    child = next(child for child, queue in world.children.items() if queue)
    world.finish(child, 0)
    queue = list(world.children[child])
    world.core.pool.children[child].spoke = True
    world.crash(child, was_running=False)
    assert not world.ends.keys() & set(queue)


def test_a_child_that_cannot_start_fails_one_attempt_each_time_instead_of_being_started_for_ever(world: World) -> None:
    world.assign(CALL, [1, 2])
    for child in list(world.children):
        world.crash(child, was_running=False)
    assert len(world.ends) == 2


def test_stop_of_what_has_not_begun_cancels_it_without_running_it(world: World) -> None:
    keys = world.assign(COMMAND, range(3))
    world.say(m.Stop([keys[2]], reason="enough"))
    assert world.ends[keys[2]].end is AttemptEnd.CANCELLED
    assert keys[2] not in world.commands


def test_stop_of_a_command_is_term_then_kill_and_told_when_all_is_gone(world: World) -> None:
    (key,) = world.assign(COMMAND, [1])
    world.say(m.Stop([key], grace=3.0, reason="enough"))
    assert world.commands[key] == [signal.SIGTERM]
    world.pass_time(2.9)
    assert world.commands[key] == [signal.SIGTERM]
    world.pass_time(0.2)
    assert world.commands[key] == [signal.SIGTERM, signal.SIGKILL]
    assert key not in world.ends
    world.end_command(key)
    ended = world.ends[key]
    assert (ended.end, ended.error and ended.error.message) == (AttemptEnd.CANCELLED, "enough")


def test_stop_in_a_child_asks_which_one_runs(world: World) -> None:
    learn(world)
    world.assign(CALL, range(1, 5))
    child = next(child for child, queue in world.children.items() if len(queue) > 1)
    running, waiting = world.children[child][:2]
    world.say(m.Stop([running, waiting]))
    world.answer_recall(child)
    assert world.ends[waiting].end is AttemptEnd.CANCELLED
    assert world.interrupted == [(child, running)]
    world.finish(child, end=AttemptEnd.CANCELLED)
    assert world.ends[running].end is AttemptEnd.CANCELLED


def test_a_child_that_does_not_stop_is_killed_after_the_grace(world: World) -> None:
    (key,) = world.assign(CALL, [1])
    world.say(m.Stop([key], grace=1.0))
    world.pass_time(1.1)
    assert world.killed == [1]
    world.crash(1)
    assert world.ends[key].end is AttemptEnd.CANCELLED


def test_a_second_order_neither_changes_the_first_nor_prolongs_it(world: World) -> None:
    (key,) = world.assign(COMMAND, [1])
    world.say(m.Stop([key], grace=1.0, reason="first"))
    world.pass_time(0.9)
    world.say(m.Stop([key], grace=5.0, reason="second"))
    world.pass_time(0.2)
    assert world.commands[key] == [signal.SIGTERM, signal.SIGKILL]
    world.end_command(key)
    error = world.ends[key].error
    assert error is not None
    assert error.message == "first"


def test_attempts_of_different_slots_never_share_a_child(world: World) -> None:
    half, whole = options(slots=0.5), options(slots=1.0)
    for chosen in (half, whole):
        world.assign(chosen, [len(world.ends)])
        world.finish(next(child for child, queue in world.children.items() if queue))
    commands = world.assign(COMMAND, [10, 11])
    world.assign(half, [100])
    world.assign(whole, range(104, 108))
    world.end_command(commands[0])  # now they are looked at together
    assert sum(map(len, world.children.values()))
    for queue in world.children.values():
        assert len({world.core.attempts[key].spec.options.requirements.slots for key in queue}) <= 1


def test_success_that_comes_before_the_stop_takes_effect_is_success(world: World) -> None:
    (key,) = world.assign(CALL, [1])
    world.say(m.Stop([key]))
    world.finish(1)
    assert world.ends[key].end is AttemptEnd.SUCCEEDED


def test_take_back_returns_what_has_not_begun_and_leaves_the_rest(world: World) -> None:
    keys = world.assign(COMMAND, range(3))
    world.say(m.TakeBack(keys))
    assert {key: ended.end for key, ended in world.ends.items()} == {keys[2]: AttemptEnd.RETURNED}


def test_take_back_from_children_returns_what_they_have_not_begun(world: World) -> None:
    learn(world)
    keys = world.assign(CALL, range(1, 9))
    world.say(m.TakeBack(keys))
    for child in list(world.recalled):
        world.answer_recall(child)
    returned = [key for key in keys if key in world.ends]
    assert all(world.ends[key].end is AttemptEnd.RETURNED for key in returned)
    assert len(returned) == len(keys) - 2
    for child in world.children:
        world.finish(child)
    assert len(world.ends) == len(keys) + 1


def test_children_are_made_before_they_are_needed() -> None:
    world = World(slots=3.0, bounds=Bounds(ready_children=2))
    world.do(world.core.on_start())
    assert len(world.children) == 2
    world.connect()
    world.assign(CALL, range(3))
    assert sorted(map(len, world.children.values())) == [1, 1, 1]


def test_the_time_to_run_is_enforced(world: World) -> None:
    (call,) = world.assign(options(timeout_run=2.0), [1])
    (command,) = world.assign(options(Kind.COMMAND, "sleep 9", timeout_run=2.0), [2])
    world.pass_time(0.01)
    world.pass_time(2.0)
    assert world.commands[command] == [signal.SIGTERM]
    world.answer_recall(1)
    assert world.interrupted == [(1, call)]
    world.finish(1, end=AttemptEnd.CANCELLED)
    world.end_command(command)
    for key in (call, command):
        error = world.ends[key].error
        assert error is not None
        assert (world.ends[key].end, error.reason) == (AttemptEnd.FAILED, Reason.TIMEOUT_RUN)


def test_leftover_processes_hold_back_the_end_and_the_slot(world: World) -> None:
    (key,) = world.assign(CALL, [1])
    world.children[1].clear()
    record = m.Ended(*key, AttemptEnd.SUCCEEDED, 0.1, b"\x01")
    world.do(world.core.on_child_left(1, record, None, world.now))
    world.settle_down()
    assert world.killed == [1]
    assert key not in world.ends
    assert world.core.pool.free == 1.0
    world.crash(1, was_running=False)
    assert world.ends[key].result == b"\x01"
    assert world.core.pool.free == 2.0


def test_large_values_are_fetched_first_and_brought_last(world: World) -> None:
    blob = Blob(b"h" * 32, 10)
    (key,) = world.assign(CALL, [1], blob)
    assert world.fetching == [key]
    assert not world.children
    world.do(world.core.on_fetched(key, None, world.now))
    world.settle_down()
    world.finish_with(1, blob)
    assert world.uploading == [key]
    assert key not in world.ends
    assert world.core.blobs_in_use() == {blob.hash}
    world.do(world.core.on_uploaded(key, None, world.now))
    world.settle_down()
    assert world.ends[key].result == blob


def test_a_long_result_travels_as_a_frame(world: World) -> None:
    (key,) = world.assign(CALL, [1])
    world.finish_with(1, b"x" * 100_000)
    assert world.results[key] == b"x" * 100_000


def test_ends_are_kept_until_settled_and_repeated_when_overdue(world: World) -> None:
    world.assign(CALL, [1])
    world.finish(1)
    reports = [each for each in world.told if isinstance(each, m.Report)]
    world.pass_time(6.0)
    again = [each for each in world.told if isinstance(each, m.Report)][len(reports) :]
    assert [each.batch for each in again] == [reports[0].batch]
    assert again[0].ended[0].age == pytest.approx(6.0)
    world.settle()
    world.pass_time(6.0)
    assert not world.core.reporter.unsettled
    assert world.core.reporter.is_empty


def test_forgotten_ends_are_not_told(world: World) -> None:
    (key,) = world.assign(CALL, [1])
    world.cut()
    world.finish(1)
    world.do(world.core.on_registered(m.Registered(b"c", forget=[key]), world.now))
    world.connect()
    assert key not in world.ends


def test_too_many_unsettled_ends_stop_the_reading() -> None:
    world = World(bounds=Bounds(ends_bytes=1000))
    world.connect()
    world.assign(CALL, range(2))
    world.finish_with(1, b"x" * 2000)
    assert world.throttled
    world.assign(COMMAND, [7])
    assert not world.commands
    world.settle()
    assert not world.throttled
    assert world.commands


def test_log_records_are_dropped_and_counted_when_too_many_wait() -> None:
    world = World(bounds=Bounds(logs_bytes=1000))
    world.connect()
    world.cut()
    records = [LogRecord(task_id(1), 1, number, "stdout", 0.0, "x" * 100) for number in range(10)]
    world.core.on_logs(records)
    world.connect()
    report = next(each for each in world.told if isinstance(each, m.Report))
    assert [each.sequence for each in report.logs] == [0, 1, 2, 3, 4]
    assert report.dropped == {task_id(1): 5}


def test_draining_gives_back_what_has_not_begun_and_resumes(world: World) -> None:
    keys = world.assign(COMMAND, range(4))
    world.say(m.SetDrain(True))
    assert [world.ends[key].end for key in keys[2:]] == [AttemptEnd.RETURNED] * 2
    (late,) = world.assign(COMMAND, [9])
    assert world.ends[late].end is AttemptEnd.RETURNED
    world.say(m.SetDrain(False))
    world.end_command(keys[0])
    (again,) = world.assign(COMMAND, [10])
    assert again in world.commands


def test_leaving_waits_for_what_runs_and_for_its_settlement(world: World) -> None:
    keys = world.assign(COMMAND, range(3))
    world.do(world.core.on_leave(world.now))
    world.settle_down()
    assert world.ends[keys[2]].end is AttemptEnd.RETURNED
    assert isinstance(world.told[-1], m.RuntimeLeaving)
    for key in keys[:2]:
        world.end_command(key)
    world.pass_time(0.1)
    assert world.left is None
    world.settle()
    assert world.left == "drained"


def test_leaving_stops_what_does_not_end_in_time_and_gives_it_back() -> None:
    world = World(bounds=Bounds(drain_seconds=5.0))
    world.connect()
    (key,) = world.assign(COMMAND, [1])
    world.do(world.core.on_leave(world.now))
    world.pass_time(5.1)
    assert world.commands[key] == [signal.SIGTERM]
    world.end_command(key)
    assert world.ends[key].end is AttemptEnd.RETURNED
    assert world.ends[key].error is None
    world.pass_time(Bounds().settle_seconds + 0.1)
    assert world.left == "1 ends were not confirmed in time"


def test_when_all_processes_are_lost_all_of_their_work_is_given_back(world: World) -> None:
    (call,) = world.assign(CALL, [1])
    (command,) = world.assign(COMMAND, [2])
    world.children.clear()
    world.commands.clear()
    world.do(world.core.on_processes_lost([1], world.now))
    world.settle_down()
    assert {world.ends[call].end, world.ends[command].end} == {AttemptEnd.RETURNED}


def test_an_attempt_over_its_memory_ends_at_once(world: World) -> None:
    needs = replace(COMMAND, requirements=Requirements(memory=1000))
    (key,) = world.assign(needs, [1])
    assert [each.key for each in world.core.with_memory_limit()] == [key]
    world.do(world.core.on_over_memory(key, 5000, world.now))
    world.pass_time(0.0)
    assert world.commands[key] == [signal.SIGTERM, signal.SIGKILL]
    world.end_command(key)
    error = world.ends[key].error
    assert error is not None
    assert error.reason is Reason.MEMORY


def test_heartbeats_come_at_their_interval_with_a_phase_of_their_own(world: World) -> None:
    for _ in range(100):
        world.pass_time(0.25)
    beats = [each.sent for each in world.told if isinstance(each, m.Heartbeat)]
    assert len(beats) == 12 or len(beats) == 13
    other = World()
    other.core.presence._random.seed(5)
    other.connect()
    assert other.core.presence.next_heartbeat != world.core.presence.next_heartbeat
