"""Unions in the controller: parts, quorum, lateness, merges, rounds, and a controller that is killed in between."""

from __future__ import annotations

from typing import Any

import pytest
from controller_bench import CLIENT, Bench, options, task_id

from headway_bus import messages as m
from headway_bus import payloads
from headway_bus.ids import TaskId, text_of
from headway_bus.records import AttemptEnd, Code, Ended, ErrorInfo, Held, Part, Reason, Status, Union
from headway_controller.unions.progress import KEPT_ROUNDS

EDGES = ("east", "north", "south")


class UnionBench:
    """Three edges and a server that merges; a union over the edges."""

    def __init__(self, bench: Bench | None = None, edges: tuple[str, ...] = EDGES, **plan: Any) -> None:
        self.bench = bench or Bench()
        self.plan = Union("edge", **{"merge_labels": {"role": "server"}, **plan})
        for edge in edges:
            self.bench.join(edge, labels={"edge": "yes"})
        if self.plan.merge:
            self.bench.join("server", labels={"role": "server"})

    def submit(self, *args: Any, **fields: Any) -> m.Accepted:
        call = payloads.encode_call(args, {})
        group = m.Group(options(union=self.plan, **fields), [(task_id(1), call)])
        self.bench.tell(CLIENT, m.Submit(self.bench.request(), [group]))
        return self.bench.take(CLIENT, m.Accepted)

    def take(self, runtime: str) -> tuple[TaskId, int, tuple[Any, ...], Part]:
        """The part that this runtime is given: id, attempt, arguments, whose part it is."""
        assign = self.bench.take(runtime, m.Assign)
        ((task, attempt, payload),) = assign.groups[0].attempts
        part = assign.groups[0].options.part
        assert part is not None
        data = self.bench.frames[payload] if isinstance(payload, int) else payload
        assert isinstance(data, bytes)
        return task, attempt, payloads.decode_call(data)[0], part

    def end(self, runtime: str, task: TaskId, attempt: int, value: Any = None, error: ErrorInfo | None = None) -> None:
        how = AttemptEnd.SUCCEEDED if error is None else AttemptEnd.FAILED
        self.bench.report(runtime, ended=[Ended(task, attempt, how, 1.0, payloads.encode(value), error)])

    def answer(self, runtime: str, value: Any) -> tuple[Any, ...]:
        """The runtime does its part; the arguments that it got."""
        task, attempt, args, _ = self.take(runtime)
        self.end(runtime, task, attempt, value)
        return args

    def result(self) -> tuple[Status, dict[str, Any], ErrorInfo | None]:
        (outcome,) = self.bench.take_outcomes()
        assert outcome.task == task_id(1)
        return outcome.status, payloads.decode(outcome.result), outcome.error


def test_every_matching_runtime_gets_its_part_and_the_result_maps_them() -> None:
    union = UnionBench()
    union.bench.join("other")
    union.submit(7, job="j")
    assert union.bench.status(1) == Status.RUNNING
    parts = {}
    for edge in EDGES:
        task, attempt, args, part = union.take(edge)
        assert args == (7,) and part == Part(task_id(1), 1, edge)
        parts[edge] = text_of(task)
        union.end(edge, task, attempt, edge.upper())
    status, result, error = union.result()
    assert status == Status.SUCCEEDED and error is None
    assert result["edges"] == {edge: [parts[edge], "succeeded"] for edge in EDGES}
    assert result["missing"] == [] and result["merged"] == ""
    union.bench.emptiness_check()
    assert union.bench.books.saved == {}


def test_the_values_are_merged_by_a_task_that_runs_where_it_may() -> None:
    union = UnionBench(merge="m:add")
    union.submit()
    for at, edge in enumerate(EDGES):
        union.answer(edge, at)
    task, attempt, args, part = union.take("server")
    assert args == ([0, 1, 2],) and part == Part(task_id(1), 1, "")
    union.end("server", task, attempt, 3)
    status, result, _ = union.result()
    assert status == Status.SUCCEEDED and result["merged"] == text_of(task)


def test_a_round_is_fed_with_the_merged_value_of_the_one_before() -> None:
    union = UnionBench(merge="m:add", rounds=2, feeds=True)
    union.submit(None, "x")
    for edge in EDGES:
        assert union.answer(edge, [1]) == (None, "x")
    assert union.answer("server", {"weights": [1, 2]}) == ([[1], [1], [1]],)
    for edge in EDGES:
        assert union.answer(edge, [2]) == ({"weights": [1, 2]}, "x")
    assert union.answer("server", 9) == ([[2], [2], [2]],)
    status, result, _ = union.result()
    assert status == Status.SUCCEEDED and [each["succeeded"] for each in result["rounds"]] == [list(EDGES), list(EDGES)]


def test_of_many_rounds_the_last_are_told_and_what_is_stored_does_not_grow() -> None:
    union = UnionBench(merge="m:add", rounds=KEPT_ROUNDS + 20, feeds=True)
    union.submit(0)
    sizes = []
    for _ in range(KEPT_ROUNDS + 20):
        for edge in EDGES:
            union.answer(edge, 1)
        sizes.append(max(map(len, union.bench.books.saved.values())))
        union.answer("server", 3)
    status, result, _ = union.result()
    assert status == Status.SUCCEEDED and result["round"] == KEPT_ROUNDS + 20
    assert [each["round"] for each in result["rounds"]] == list(range(21, KEPT_ROUNDS + 21))
    assert sizes[-1] < sizes[KEPT_ROUNDS] + 20, "the numbers of rounds have more digits"


def test_an_associative_merge_takes_values_as_they_come() -> None:
    edges = tuple(f"edge-{at:03}" for at in range(40))
    union = UnionBench(edges=edges, merge="m:add", associative=True)
    union.submit()
    for edge in edges[:32]:
        union.answer(edge, 1)
    assert union.answer("server", 32) == ([1] * 32,)
    for edge in edges[32:]:
        union.answer(edge, 1)
    assert union.answer("server", 40) == ([32] + [1] * 8,)
    assert union.result()[0] == Status.SUCCEEDED


def test_an_edge_that_is_away_gets_its_part_when_it_is_back() -> None:
    union = UnionBench(deadline=600.0)
    union.bench.tell("", m.PeerChanged("north", "runtime", b"north", "gone"))
    union.submit()
    for edge in ("east", "south"):
        union.answer(edge, 1)
    union.bench.wait_beating(60.0, "east", "south")
    assert union.bench.status(1) == Status.RUNNING
    union.bench.join("north", labels={"edge": "yes"}, instance=b"again")
    union.answer("north", 1)
    status, result, _ = union.result()
    assert status == Status.SUCCEEDED and result["missing"] == []


def test_an_edge_that_is_cut_off_keeps_its_part_until_the_deadline() -> None:
    union = UnionBench(deadline=600.0)
    union.submit()
    parts = [task for task in union.bench.controller.state.tasks.values() if task.options.part is not None]
    assert parts
    assert {task.options.offline for task in parts} == {600.0}


def test_at_the_deadline_the_quorum_is_enough_and_the_rest_is_missing_and_stopped() -> None:
    union = UnionBench(deadline=60.0, quorum=0.6, merge="m:add")
    union.submit()
    union.answer("east", 1)
    task, attempt, _, _ = union.take("north")
    union.answer("south", 2)
    union.bench.wait_beating(61.0, "east", "north", "south", "server")
    assert union.bench.take("north", m.Stop).attempts == [(task, attempt)]
    assert union.answer("server", 3) == ([1, 2],)
    status, result, _ = union.result()
    assert status == Status.SUCCEEDED and result["missing"] == ["north"]
    assert result["edges"]["north"][1] == "missing"


def test_with_the_quorum_the_late_ones_are_dropped_if_that_was_wished() -> None:
    union = UnionBench(quorum=0.6, late="drop")
    union.submit()
    union.answer("east", 1)
    union.answer("north", 1)
    status, result, _ = union.result()
    assert status == Status.SUCCEEDED and result["missing"] == ["south"]


def test_without_a_quorum_it_expires_and_what_came_stays() -> None:
    union = UnionBench(deadline=60.0)
    union.submit()
    union.answer("east", 1)
    union.bench.wait_beating(61.0, *EDGES)
    status, result, error = union.result()
    assert status == Status.EXPIRED and result["missing"] == ["north", "south"]
    assert error is not None and "1 of 3 edges" in error.message
    part = result["edges"]["east"]
    assert part[1] == "succeeded"


def test_a_merge_that_raises_is_the_unions_error_and_touches_nothing_else() -> None:
    union = UnionBench(merge="m:add")
    union.submit()
    for edge in EDGES:
        union.answer(edge, 1)
    task, attempt, _, _ = union.take("server")
    union.end(
        "server", task, attempt, error=ErrorInfo(Reason.EXCEPTION, "no common shape", "builtins.ValueError", "tb")
    )
    status, result, error = union.result()
    assert status == Status.FAILED and error is not None
    assert error.message.startswith("the merge m:add of round 1") and error.message.endswith(
        "ValueError: no common shape"
    )
    assert error.traceback == "tb"
    assert [status for _, status in result["edges"].values()] == ["succeeded"] * 3


def test_nobody_matches_until_somebody_comes() -> None:
    union = UnionBench(edges=(), least=2)
    union.submit()
    union.bench.join("east", labels={"edge": "yes"})
    assert union.bench.controller.unions.parts_of(task_id(1)) == []
    union.bench.join("north", labels={"edge": "yes"})
    for edge in ("east", "north"):
        union.answer(edge, 1)
    assert union.result()[0] == Status.SUCCEEDED


def test_cancel_ends_the_whole_and_is_answered_when_every_part_is_over() -> None:
    union = UnionBench()
    union.submit()
    begun = {edge: union.take(edge) for edge in EDGES}
    union.bench.tell(CLIENT, m.Cancel(5, [task_id(1)]))
    for edge in EDGES:
        task, attempt, _, _ = begun[edge]
        assert union.bench.take(edge, m.Stop).attempts == [(task, attempt)]
    status, result, _ = union.result()
    assert status == Status.CANCELLED and sorted(result["missing"]) == sorted(EDGES)
    union.bench.emptiness_check()
    for edge in EDGES:
        task, attempt, _, _ = begun[edge]
        union.bench.report(edge, ended=[Ended(task, attempt, AttemptEnd.CANCELLED)])
    assert union.bench.take(CLIENT, m.Changed).count == 4


def test_cancel_of_one_part_is_that_edges_end() -> None:
    union = UnionBench(quorum=0.5)
    union.submit()
    part = union.bench.controller.unions.parts_of(task_id(1))[0]
    assert part.options.part is not None and part.options.part.edge == "east"
    task, attempt, _, _ = union.take("east")
    union.bench.tell(CLIENT, m.Cancel(5, [part.id]))
    union.bench.take("east", m.Stop)
    union.bench.report("east", ended=[Ended(task, attempt, AttemptEnd.CANCELLED)])
    assert union.bench.take(CLIENT, m.Changed).count == 1
    for edge in ("north", "south"):
        union.answer(edge, 1)
    status, result, _ = union.result()
    assert status == Status.SUCCEEDED and result["edges"]["east"][1] == "cancelled"


@pytest.mark.parametrize("stage", ["begun", "half", "closed", "merging"])
def test_a_controller_that_is_killed_is_followed_by_one_that_goes_on(stage: str) -> None:
    first = UnionBench(merge="m:add", deadline=600.0)
    first.submit()
    done = {"begun": 0, "half": 1, "closed": 3, "merging": 3}[stage]
    for edge in EDGES[:done]:
        first.answer(edge, 1)
    merging = first.take("server")[0] if stage == "merging" else None
    again = UnionBench(first.bench.restarted(), edges=(), merge="m:add", deadline=600.0)
    again.bench.recover()
    for edge in EDGES:
        again.bench.join(edge, labels={"edge": "yes"}, instance=b"new")
    again.bench.tell(CLIENT, m.Await(7, [task_id(1)]))
    again.bench.take(CLIENT, m.Accepted)
    again.bench.wait_beating(6.0, *EDGES, "server")
    for edge in EDGES[done:]:
        again.answer(edge, 1)
    task, attempt, args, _ = again.take("server")
    assert args == ([1, 1, 1],)
    if merging is not None:
        assert task == merging and attempt > 1
    again.end("server", task, attempt, 3)
    status, result, _ = again.result()
    assert status == Status.SUCCEEDED and result["missing"] == []


def test_a_union_that_was_replaced_just_before_the_controller_was_killed_is_stopped_everywhere() -> None:
    first = UnionBench(edges=("east",))
    first.submit()
    part, attempt, _, _ = first.take("east")
    new = [m.Group(options(after=[task_id(1)], after_end="always", replaces=task_id(1)), [(task_id(2), b"")])]
    first.bench.holding = True
    first.bench.tell(CLIENT, m.Submit(first.bench.request(), new))
    first.bench.books.apply(first.bench.unstored[-1].operations)
    later = first.bench.restarted()
    later.recover()
    answer = later.join("east", labels={"edge": "yes"}, held=[Held(part, attempt, "running")])
    assert answer.stop == [(part, attempt)]


def test_parts_survive_a_store_that_cannot_write_for_a_while() -> None:
    union = UnionBench(edges=())
    union.submit()
    union.bench.holding = True
    union.bench.join("east", labels={"edge": "yes"})
    union.bench.fail()
    union.bench.holding = False
    union.bench.wait_beating(4.0, "east")
    union.answer("east", 1)
    assert union.result()[0] == Status.SUCCEEDED


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        ({"edges": "region="}, "character 8"),
        ({"merge": "no path"}, "import path"),
        ({"quorum": 0.0}, "quorum"),
        ({"quorum": 1.5}, "quorum"),
        ({"deadline": float("nan")}, "deadline"),
        ({"late": "never"}, "late"),
        ({"rounds": 0}, "rounds"),
        ({"feeds": True}, "merge"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, Any], word: str) -> None:
    bench = Bench()
    union = Union(**{"edges": "*", **plan})
    bench.tell(CLIENT, m.Submit(1, [m.Group(options(union=union), [(task_id(1), b"")])]))
    denied = bench.take(CLIENT, m.Denied)
    assert denied.code == Code.INVALID and word in denied.text


def test_nobody_else_makes_a_part() -> None:
    bench = Bench()
    part = options(part=Part(task_id(9), 1, "east"))
    bench.tell(CLIENT, m.Submit(1, [m.Group(part, [(task_id(1), b"")])]))
    assert bench.take(CLIENT, m.Denied).code == Code.INVALID
