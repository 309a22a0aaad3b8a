"""Another description for a task that waits, runs or has ended: what is stored, told and refused, and what does not change."""

from __future__ import annotations

import pytest
from controller_bench import CLIENT, WALL, Bench, assigned, task_id

from headway_bus import messages as m
from headway_bus.codec import encode, for_controller
from headway_bus.errors import Refused
from headway_bus.namespaces import Scope
from headway_bus.records import MAX_DESCRIPTION, Code, Status, TaskInfo
from headway_controller import descriptions as descriptions_module
from headway_controller.descriptions import REMEMBERED, TOLD_CHANGES, TOLD_CHARACTERS
from headway_controller.store.protocol import StoredTask
from headway_controller.views import info_of_stored, info_of_task


def describe(bench: Bench, number: int, text: str, scope: Scope = None, client: str = CLIENT) -> None:
    """As the service does: what lives is changed in memory, of the others the store's row goes with the question."""
    hand_in(bench, number, text, scope, client)
    bench.turn()
    if not bench.holding:
        assert bench.take(client, m.Changed).count == 1


def hand_in(bench: Bench, number: int, text: str, scope: Scope = None, client: str = CLIENT) -> None:
    ask = for_controller().decode(encode(m.Describe(bench.request(), task_id(number), text)))
    assert isinstance(ask, m.Describe)
    bench.controller.descriptions.describe(client, scope, ask, row_of(bench, number), bench.now + WALL)


def row_of(bench: Bench, number: int) -> StoredTask | None:
    return None if task_id(number) in bench.controller.state.tasks else bench.books.rows.get(task_id(number))


def info(bench: Bench, number: int) -> TaskInfo:
    task = bench.controller.state.tasks.get(task_id(number))
    if task is not None:
        return info_of_task(task, WALL)
    row = bench.books.rows[task_id(number)]
    return info_of_stored(row, bench.controller.descriptions.latest(row))


def steps(told: TaskInfo) -> list[str]:
    return [step.status for step in told.story]


def test_a_running_task_is_described_anew_and_nothing_else_of_it_changes() -> None:
    bench = assigned(description="first")
    bench.start(1)
    before = info(bench, 1)
    bench.now += 7.0
    describe(bench, 1, "second")
    after = info(bench, 1)
    assert (before.options.description, after.options.description) == ("first", "second")
    assert (after.status, after.attempt, after.started) == (Status.RUNNING, 1, before.started)
    assert (before.modified, after.modified) == (before.started, WALL + bench.now)
    assert after.story[-1].reason == f"by {CLIENT}: second"
    bench.emptiness_check()  # its runtime is told nothing
    bench.now += 1.0
    bench.end(1, seconds=2.5)
    bench.take_ends()
    ended = info(bench, 1)
    assert steps(ended) == ["submitted", "running", "described", "succeeded"]
    assert (ended.options.description, ended.ran, ended.modified) == ("second", 2.5, ended.ended)


def test_one_that_has_ended_can_be_described_and_stays_as_it_is() -> None:
    bench = assigned()
    bench.start(1)
    bench.end(1, result=b"42")
    bench.take_ends()
    before = info(bench, 1)
    bench.now += 60.0
    describe(bench, 1, "the one for the paper")
    after = info(bench, 1)
    assert (after.status, after.ended, after.ran) == (before.status, before.ended, before.ran)
    assert (after.options.description, after.modified) == ("the one for the paper", WALL + bench.now)
    assert steps(after)[-2:] == ["succeeded", "described"]


def test_two_changes_of_an_ended_one_of_which_the_store_has_neither_are_both_told() -> None:
    bench = assigned()
    bench.end(1)
    bench.take_ends()
    bench.holding = True
    describe(bench, 1, "one")
    describe(bench, 1, "two")
    bench.nothing_sent()  # not before it is stored
    assert [step.reason for step in info(bench, 1).story[-2:]] == [f"by {CLIENT}: one", f"by {CLIENT}: two"]
    bench.store()
    assert [bench.take(CLIENT, m.Changed).count for _ in range(2)] == [1, 1]
    described = bench.books.rows[task_id(1)].described
    assert described is not None and described.text == "two"


def test_the_same_once_more_changes_nothing() -> None:
    bench = assigned(description="as it was")
    describe(bench, 1, "as it was")
    assert bench.books.rows[task_id(1)].described is None
    describe(bench, 1, "new")
    bench.now += 5.0
    before = info(bench, 1)
    describe(bench, 1, "new")
    assert info(bench, 1) == before


def test_it_outlives_the_controller_and_a_retry() -> None:
    bench = assigned()
    describe(bench, 1, "kept")
    later = bench.restarted()
    later.recover()
    assert info(later, 1).options.description == "kept"
    assert "described" in steps(info(later, 1))
    later.wait(10.0)
    later.join()
    later.take_assigned()
    later.start(1, attempt=2)
    later.now += 3.0
    later.fail_attempt(1, attempt=2)
    row = later.books.rows[task_id(1)]
    later.controller.revive(CLIENT, later.request(), [row], [], later.now)
    later.turn()
    told = info(later, 1)
    assert told.options.description == "kept"
    assert steps(told)[-4:-1] == ["running", "failed", "revived"]  # the run before is not forgotten
    assert told.ran == 3.0


def test_who_follows_is_told() -> None:
    bench = assigned()
    bench.tell("", m.TopicsChanged(["tasks"], []))
    describe(bench, 1, "new")
    (event,) = [each for each in bench.take_all("*tasks") if isinstance(each, m.Event)]
    (change,) = event.data["changes"]
    assert (change["status"], change["description"]) == ("assigned", "new")


def test_the_story_tells_the_last_changes_and_the_beginning_of_long_ones() -> None:
    bench = assigned()
    for count in range(TOLD_CHANGES + 5):
        describe(bench, 1, f"{count} of many")
    describe(bench, 1, "ä" * MAX_DESCRIPTION)
    told = info(bench, 1)
    changes = [step.reason for step in told.story if step.status == "described"]
    assert len(changes) == TOLD_CHANGES and changes[0] == f"by {CLIENT}: 6 of many"
    assert changes[-1] == f"by {CLIENT}: {'ä' * TOLD_CHARACTERS} …"
    assert told.options.description == "ä" * MAX_DESCRIPTION
    describe(bench, 1, "")
    assert (info(bench, 1).options.description, info(bench, 1).story[-1].reason) == ("", f"by {CLIENT}: taken away")


def test_what_is_refused_changes_nothing() -> None:
    bench = assigned(namespace="red")
    for number, text, scope, code, why in [
        (1, "x" * (MAX_DESCRIPTION + 1), None, Code.INVALID, "100001 characters; at most 100000"),
        (2, "x", None, Code.NOT_FOUND, "never accepted here"),
        (1, "x", ("blue",), Code.NOT_FOUND, "never accepted here"),
    ]:
        with pytest.raises(Refused, match=why) as refused:
            hand_in(bench, number, text, scope)
        assert refused.value.code == code
    with pytest.raises(Refused, match="3 bytes; expected 16"):
        bench.controller.descriptions.describe(CLIENT, None, m.Describe(1, task_id(1)[:3], "x"), None, 0.0)  # type: ignore[arg-type]
    bench.turn()
    bench.emptiness_check()
    assert bench.task(1).described is None
    describe(bench, 1, "mine", ("red",))


def test_a_task_that_was_purged_and_is_there_again_starts_afresh() -> None:
    bench = assigned()
    bench.end(1)
    bench.take_ends()
    describe(bench, 1, "of the first")
    bench.controller.purge(CLIENT, bench.request(), [task_id(1)], [])
    bench.turn()
    bench.take(CLIENT, m.Changed)
    bench.submit(1)
    assert bench.take_assigned()
    bench.end(1)
    bench.take_ends()
    assert info(bench, 1).options.description == ""


def test_what_is_remembered_of_ended_ones_is_bounded() -> None:
    bench = Bench()
    bench.join(slots=REMEMBERED + 10.0)
    numbers = range(1, REMEMBERED + 3)
    bench.submit(*numbers, watch=False)
    bench.take_all("runtime-1")
    for number in numbers:
        bench.end(number)
        describe(bench, number, "over")
    assert len(bench.controller.descriptions._recent) == REMEMBERED


def test_so_are_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions_module, "REMEMBERED_CHARACTERS", 3_500)
    bench = Bench()
    bench.join(slots=10.0)
    bench.submit(1, 2, 3, 4, 5, watch=False)
    bench.take_all("runtime-1")
    for number in (1, 2, 3, 4, 5):
        bench.end(number)
        describe(bench, number, "x" * 1_000)
    describe(bench, 5, "y" * 900)
    known = bench.controller.descriptions
    assert list(known._recent) == [task_id(4), task_id(5)]
    assert known._characters == sum(len(each.text) + len(each.story) for each in known._recent.values()) < 3_500
    known.forget(task_id(4))
    known.forget(task_id(5))
    assert known._characters == 0


def test_nothing_is_told_as_before_the_submission_though_the_clock_was_set_back() -> None:
    bench = assigned()
    bench.controller.life.wall_offset -= 3600.0
    bench.start(1)
    running = info(bench, 1)
    assert running.submitted == running.started == running.modified
    bench.end(1, seconds=2.0)
    bench.take_ends()
    over = info(bench, 1)
    assert over.submitted == over.started == over.ended == over.modified and over.ran == 2.0
    assert all(step.at == over.submitted for step in over.story)
