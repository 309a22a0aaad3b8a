"""An edge that is silent: what stays leased to it, until when, who may run it again, who wins. The table in docs/edge.md."""

from __future__ import annotations

import pytest
from controller_bench import Bench, task_id

from headway_bus import messages as m
from headway_bus.records import Held, Requirements, RuntimeInfo, Status
from headway_controller.edges import pack_edges, restore_edges

EDGE = "shop-17"
SILENT = 6.0
"""Seconds that are more than the heartbeats that may be missed."""


def with_edge(offline: float = 3600.0, tasks: int = 1, **fields: object) -> Bench:
    """An edge that has taken in these tasks, and a runtime that could run them too but is busy with another."""
    bench = Bench()
    bench.join(EDGE, slots=tasks, edge=True)
    bench.submit(*range(1, tasks + 1), offline=offline, **fields)
    bench.take_assigned(EDGE)
    bench.beat(EDGE)
    return bench


def inventory(*numbers: int, phase: str = "running", attempt: int = 1) -> list[Held]:
    return [Held(task_id(number), attempt, phase, 1.0) for number in numbers]


def returns(bench: Bench, held: list[Held] | None = None, slots: float = 0.0, instance: bytes = b"") -> m.Registered:
    """The edge is back; what was said into the void meanwhile never arrived."""
    bench.take_all(EDGE)
    return bench.join(EDGE, slots=slots, held=held or [], instance=instance or EDGE.encode(), edge=True)


def state_of(bench: Bench, name: str = EDGE) -> str:
    return bench.controller.state.runtimes[name].state


def test_without_an_allowance_an_edge_is_a_runtime_like_any_other() -> None:
    bench = with_edge(offline=0.0)
    bench.wait(SILENT)
    assert state_of(bench) == "offline" and bench.counters["attempts.lost"] == 1
    assert bench.status(1) == Status.QUEUED


def test_an_allowance_means_nothing_on_a_runtime_that_is_no_edge() -> None:
    bench = Bench()
    bench.join("lab", slots=1)
    bench.submit(1, offline=3600.0)
    bench.take_assigned("lab")
    bench.wait(SILENT)
    assert bench.counters["attempts.lost"] == 1


def test_within_the_allowance_nobody_else_gets_the_task() -> None:
    bench = with_edge()
    bench.wait(SILENT)
    bench.join("lab", slots=4)
    bench.wait_beating(3500.0, "lab")
    assert bench.status(1) == Status.ASSIGNED and bench.counters["attempts.lost"] == 0
    assert state_of(bench) == "away"


def test_when_the_allowance_is_used_up_the_task_runs_elsewhere() -> None:
    bench = with_edge(offline=100.0)
    bench.wait(SILENT)
    bench.join("lab", slots=4)
    bench.wait_beating(100.0, "lab")
    assert bench.take_assigned("lab") == [(task_id(1), 2)]
    assert state_of(bench) == "offline" and bench.counters["attempts.lost"] == 1


def test_each_task_has_the_allowance_that_it_was_given() -> None:
    bench = Bench()
    bench.join(EDGE, slots=3, edge=True)
    for number, offline in ((1, 0.0), (2, 50.0), (3, 500.0)):
        bench.submit(number, offline=offline)
    for _ in range(3):
        bench.take_assigned(EDGE)
    bench.beat(EDGE)
    bench.wait(SILENT)
    assert [bench.status(number) for number in (1, 2, 3)] == [Status.QUEUED, Status.ASSIGNED, Status.ASSIGNED]
    bench.wait(60.0)
    assert [bench.status(number) for number in (1, 2, 3)] == [Status.QUEUED, Status.QUEUED, Status.ASSIGNED]


def test_it_comes_back_in_time_and_its_result_counts() -> None:
    bench = with_edge()
    bench.wait(SILENT)
    bench.wait(2000.0)
    answer = returns(bench, inventory(1, phase="ended"))
    assert answer.stop == [] and answer.forget == []
    bench.end(1, name=EDGE)
    assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}
    assert bench.counters["attempts.lost"] == 0
    bench.beat(EDGE)
    assert bench.counters["digests.different"] == 0


def test_it_comes_back_too_late_and_the_task_was_not_yet_given_to_others() -> None:
    bench = with_edge(offline=100.0)
    bench.wait(SILENT)
    bench.wait(200.0)
    assert bench.status(1) == Status.QUEUED
    answer = returns(bench, inventory(1))
    assert answer.stop == [], "it is at it already: nobody has to begin again"
    assert bench.status(1) == Status.RUNNING
    bench.end(1, name=EDGE)
    assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}


def test_it_comes_back_too_late_and_the_later_attempt_wins() -> None:
    bench = with_edge(offline=100.0)
    bench.wait(SILENT)
    bench.join("lab", slots=4)
    bench.wait_beating(200.0, "lab")
    bench.take_assigned("lab")
    answer = returns(bench, inventory(1))
    assert answer.stop == [(task_id(1), 1)]
    bench.end(1, attempt=1, name=EDGE)
    assert bench.counters["reports.fenced"] == 1 and bench.status(1) != Status.SUCCEEDED
    bench.end(1, attempt=2, name="lab")
    assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}


def test_an_assignment_that_never_arrived_is_sent_again_without_what_was_lost() -> None:
    bench = Bench()
    bench.join(EDGE, slots=2, edge=True)
    bench.submit(1, offline=3600.0)
    bench.submit(2, offline=0.0)
    bench.take_assigned(EDGE)
    bench.take_assigned(EDGE)
    bench.wait(SILENT)
    returns(bench)
    again = [
        (task, number)
        for message in bench.take_all(EDGE)
        if isinstance(message, m.Assign)
        for group in message.groups
        for task, number, _ in group.attempts
    ]
    assert again == [(task_id(1), 1)]
    assert bench.status(1) == Status.ASSIGNED


def test_an_edge_that_lost_its_spool_has_lost_what_was_leased_to_it() -> None:
    bench = with_edge()
    bench.wait(SILENT)
    returns(bench, instance=b"newspool")
    assert bench.counters["attempts.lost"] == 1 and bench.status(1) == Status.QUEUED


def test_an_edge_that_was_restarted_without_it_reports_its_loss_by_silence() -> None:
    bench = with_edge()
    bench.wait(SILENT)
    returns(bench)
    assert bench.counters["attempts.lost"] == 1


def test_an_edge_that_says_goodbye_keeps_what_it_has() -> None:
    bench = with_edge()
    bench.tell("", m.PeerChanged(EDGE, "edge", b"", "bye"))
    assert state_of(bench) == "away" and bench.status(1) == Status.ASSIGNED
    empty = Bench()
    empty.join(EDGE, edge=True)
    empty.tell("", m.PeerChanged(EDGE, "edge", b"", "bye"))
    assert state_of(empty) == "offline", "it is still listed"


def test_an_edge_is_forgotten_when_it_is_not_there() -> None:
    bench = with_edge()
    assert not bench.controller.fleet.forget(EDGE, bench.now), "it is there"
    bench.wait(SILENT)
    assert bench.controller.fleet.forget(EDGE, bench.now)
    bench.turn()
    assert EDGE not in bench.controller.state.runtimes and bench.status(1) == Status.QUEUED
    assert not bench.controller.fleet.forget("nobody", bench.now)


def test_a_cancelled_task_of_an_edge_that_is_away_is_stopped_when_it_returns() -> None:
    bench = with_edge()
    bench.wait(SILENT)
    bench.tell("client", m.Cancel(bench.request(), [task_id(1)]))
    answer = returns(bench, inventory(1))
    assert answer.stop == [(task_id(1), 1)]


def test_its_own_heartbeat_decides_when_it_is_silent() -> None:
    bench = Bench()
    bench.join(EDGE, edge=True)
    bench.tell(EDGE, m.Register(RuntimeInfo(EDGE, 1.0, edge=True), EDGE.encode(), [], heartbeat=30.0))
    bench.wait(70.0)
    assert state_of(bench) == "online"
    bench.wait(10.0)
    assert state_of(bench) == "offline"


def test_a_controller_that_is_started_anew_knows_what_an_edge_may_have() -> None:
    bench = with_edge(tasks=2, requirements=Requirements(runtime=EDGE))
    later = bench.restarted()
    later.recover(grace=5.0)
    later.join("lab", slots=4)
    later.wait_beating(1000.0, "lab")
    assert [later.status(number) for number in (1, 2)] == [Status.WAITING] * 2, (
        "it may be at it, and may say so in time"
    )
    later.join(EDGE, slots=0, held=inventory(1, attempt=1), edge=True)
    assert later.status(1) == Status.RUNNING
    assert later.status(2) == Status.QUEUED, "the edge has spoken, and does not have it"


def test_what_no_edge_claims_is_given_out_when_its_allowance_is_used_up() -> None:
    bench = with_edge(offline=300.0)
    later = bench.restarted()
    later.recover(grace=5.0)
    later.join("lab", slots=4)
    later.wait_beating(290.0, "lab")
    assert later.status(1) == Status.WAITING
    later.wait_beating(20.0, "lab")
    assert [number for _, number in later.take_assigned("lab")] == [3], "beyond every number that was given out"


def test_an_edge_whose_disk_is_full_gets_nothing_new() -> None:
    bench = Bench()
    bench.join(EDGE, slots=4, edge=True)
    digest = m.Heartbeat(bench.now, 0, 0, 0, load={"full": 1.0})
    bench.tell(EDGE, digest)
    bench.submit(1)
    assert bench.status(1) == Status.QUEUED
    bench.tell(EDGE, m.Heartbeat(bench.now, 0, 0, 0, load={"full": 0.0}))
    assert bench.status(1) == Status.ASSIGNED


@pytest.mark.parametrize("how", ["registers again", "is taken out of draining"])
def test_an_edge_whose_disk_is_still_full_stays_closed(how: str) -> None:
    bench = Bench()
    bench.join(EDGE, slots=4, edge=True)
    full = m.Heartbeat(bench.now, 0, 0, 0, load={"full": 1.0})
    bench.tell(EDGE, full)
    if how == "registers again":
        bench.take_all(EDGE)
        bench.join(EDGE, slots=4, edge=True)
    else:
        for resume in (False, True):
            bench.tell("operator", m.DrainRuntime(bench.request(), EDGE, resume))
    bench.tell(EDGE, full)
    bench.submit(1)
    assert bench.status(1) == Status.QUEUED


def test_a_forgotten_edge_gives_up_what_an_earlier_controller_had_leased_to_it() -> None:
    bench = with_edge()
    edges = pack_edges(bench.controller.state, 0.0)
    later = bench.restarted()
    later.recover(grace=5.0)
    restore_edges(later.controller.state, edges, 0.0)
    later.join("lab", slots=4)
    later.wait_beating(100.0, "lab")
    assert later.status(1) == Status.WAITING
    assert later.controller.fleet.forget(EDGE, later.now)
    later.turn()
    assert [task for task, _ in later.take_assigned("lab")] == [task_id(1)]


def test_when_an_edge_was_last_heard_is_not_changed_by_the_controllers_own_absence() -> None:
    bench = with_edge(offline=0.0)
    heard = bench.controller.state.runtimes[EDGE].seen
    bench.wait(SILENT)
    assert state_of(bench) == "offline"
    bench.wait(1000.0)
    bench.controller.fleet.on_back(bench.now)
    bench.controller.fleet.on_stood_still(bench.now)
    assert bench.controller.state.runtimes[EDGE].seen == heard


def test_an_agent_that_reports_anothers_attempt_changes_nothing() -> None:
    bench = with_edge()
    bench.join("shop-18", slots=1, edge=True)
    bench.end(1, name="shop-18", result=b"forged")
    assert bench.counters["reports.fenced"] == 1 and bench.status(1) == Status.ASSIGNED
    bench.end(1, name=EDGE)
    assert bench.take_ends() == {task_id(1): Status.SUCCEEDED}


def test_an_agent_that_says_it_holds_anothers_attempt_is_told_to_stop() -> None:
    bench = with_edge()
    answer = bench.join("shop-18", slots=0, held=inventory(1), edge=True)
    assert answer.stop == [(task_id(1), 1)] and bench.task(1).runtime == EDGE
