"""What a union does next, by its plan, its progress and a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from headway_bus.ids import TaskId
from headway_bus.records import Status, Union
from headway_controller.unions.decide import (
    MERGE_BATCH,
    Begin,
    Close,
    Decision,
    Fail,
    Finish,
    Merge,
    NextRound,
    Wait,
    decide,
    needed,
)
from headway_controller.unions.progress import KEPT_CHARACTERS, KEPT_ROUNDS, MISSING, Member, Progress, Round

OPENED = 1_000.0
STATUSES = {"s": str(Status.SUCCEEDED), "f": str(Status.FAILED), "c": str(Status.CANCELLED), "o": "", "m": MISSING}


def plan(**fields: Any) -> Union:
    return Union("*", **fields)


def progress(members: str, **fields: Any) -> Progress:
    """One member for each letter: succeeded, failed, cancelled, open, missing."""
    found = {f"e{at}": Member(TaskId(at.to_bytes(16, "big")), STATUSES[letter]) for at, letter in enumerate(members)}
    return Progress(1, OPENED, 1, found, **fields)


def decided(the_plan: Union, members: str, after: float = 0.0, **fields: Any) -> Decision:
    return decide(the_plan, progress(members, **fields), OPENED + after)


@pytest.mark.parametrize(
    ("quorum", "members", "expected"),
    [(1.0, 5, 5), (0.8, 5, 4), (0.8, 10, 8), (0.7, 10, 7), (0.5, 3, 2), (0.01, 5, 1), (1 / 3, 3, 1)],
)
def test_a_quorum_is_rounded_up_but_not_by_the_last_bit(quorum: float, members: int, expected: int) -> None:
    assert needed(plan(quorum=quorum), members) == expected


def test_before_a_round_it_begins_and_at_the_deadline_it_gives_up() -> None:
    assert decided(plan(), "") == Begin()
    assert decided(plan(deadline=60.0), "", after=59.0) == Begin()
    end = decided(plan(deadline=60.0), "", after=60.0)
    assert isinstance(end, Fail) and end.status == Status.EXPIRED and "no runtime matches '*'" in end.text


@pytest.mark.parametrize("late", ["collect", "drop"])
def test_it_waits_for_the_quorum(late: str) -> None:
    assert decided(plan(quorum=0.5, late=late), "sooo") == Wait()
    assert decided(plan(quorum=0.5, late=late, deadline=60.0), "sooo", after=59.0) == Wait(OPENED + 60.0)


def test_with_the_quorum_the_late_ones_are_dropped_or_collected() -> None:
    assert decided(plan(quorum=0.5, late="drop"), "ssoo") == Close()
    assert decided(plan(quorum=0.5, late="collect", deadline=60.0), "ssoo", after=59.0) == Wait(OPENED + 60.0)
    assert decided(plan(quorum=0.5, late="collect", deadline=60.0), "ssoo", after=60.0) == Close()
    assert decided(plan(quorum=0.5), "ssfm") == Close()


def test_at_the_deadline_without_a_quorum_it_expires_and_names_who_is_missing() -> None:
    end = decided(plan(deadline=60.0), "ssoo", after=60.0)
    assert isinstance(end, Fail) and end.status == Status.EXPIRED
    assert "2 of 4 edges" in end.text and "needs 4" in end.text and "e2, e3" in end.text


def test_a_quorum_that_cannot_be_reached_any_more_is_not_waited_for() -> None:
    end = decided(plan(quorum=0.8, deadline=60.0), "ofcsss")
    assert isinstance(end, Fail) and end.status == Status.FAILED
    end = decided(plan(), "f")
    assert isinstance(end, Fail) and end.status == Status.FAILED


def test_a_thousand_missing_edges_are_counted_and_not_all_named() -> None:
    end = decided(plan(), "f" * 1_000)
    assert isinstance(end, Fail) and "and 990 others" in end.text and len(end.text) < 1_000


def test_what_is_closed_is_merged_whole_unless_the_merge_is_associative() -> None:
    many = "s" * (MERGE_BATCH + 5)
    whole = decided(plan(merge="m:f"), many, is_closed=True)
    assert isinstance(whole, Merge) and len(whole.edges) == MERGE_BATCH + 5
    part = decided(plan(merge="m:f", associative=True), many, is_closed=True)
    assert isinstance(part, Merge) and len(part.edges) == MERGE_BATCH


def test_an_associative_merge_begins_while_others_are_open_and_never_twice_at_a_time() -> None:
    associative = plan(merge="m:f", associative=True)
    assert isinstance(decided(associative, "s" * MERGE_BATCH + "o"), Merge)
    assert decided(associative, "s" * (MERGE_BATCH - 1) + "o") == Wait()
    assert decided(associative, "s" * MERGE_BATCH + "o", merging=b"x" * 16) == Wait()
    assert decided(plan(merge="m:f"), "s" * MERGE_BATCH + "o") == Wait()


def test_only_successes_are_merged_and_each_once() -> None:
    state = progress("sfms", is_closed=True)
    state.members["e0"].taken = True
    assert decide(plan(merge="m:f"), state, OPENED) == Merge(("e3",))


def test_after_the_last_merge_comes_the_next_round_or_the_end() -> None:
    state = progress("ss", is_closed=True, merged=b"m" * 16)
    for member in state.members.values():
        member.taken = True
    assert decide(plan(merge="m:f", rounds=2), state, OPENED) == NextRound()
    state.round = 2
    assert decide(plan(merge="m:f", rounds=2), state, OPENED) == Finish()
    assert decided(plan(), "sm", is_closed=True) == Finish()
    state.merging = b"x" * 16
    assert decide(plan(merge="m:f", rounds=2), state, OPENED) == Wait()


def test_the_summary_says_how_every_edge_ended() -> None:
    summary = progress("sfo").summary()
    assert [status for _, status in summary["edges"].values()] == ["succeeded", "failed", "open"]
    assert summary["missing"] == ["e1", "e2"]


@pytest.mark.parametrize(("edges", "length"), [(3, 5), (1_000, 9), (10_000, 200)])
def test_rounds_that_are_over_are_told_of_as_far_as_an_answer_holds_them(edges: int, length: int) -> None:
    state = progress("s")
    names = [f"{number:0{length}}" for number in range(edges)]
    for number in range(1, 301):
        state.note(Round(number, names[1:], names[:1], b"", 1.0))
    kept = [each.number for each in state.rounds]
    assert kept == list(range(301 - len(kept), 301)), "the last ones"
    assert len(kept) == max(1, min(KEPT_ROUNDS, KEPT_CHARACTERS // (edges * length)))
