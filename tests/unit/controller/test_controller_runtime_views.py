"""What is shown of a runtime: what it runs, what waits for it, and when it will be free."""

from __future__ import annotations

import math

import pytest
from controller_bench import RUNTIME, WALL, Bench

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Ended, RuntimeState, Started
from headway_controller.views import state_of_runtime


def shown(bench: Bench, name: str) -> RuntimeState:
    core = bench.controller
    queues = {queue.runtime: queue for queue in core.scheduler.queues("", bench.now)}
    return state_of_runtime(core.state.runtimes[name], core.state, core.scheduler, queues.get(name), bench.now, WALL)


@pytest.mark.parametrize("strategy", ["headway_completion", "shortest_queue"])
def test_what_waits_is_planned_on_the_runtimes_it_would_go_to(strategy: str) -> None:
    bench = Bench()
    bench.join(RUNTIME, slots=1)
    bench.join("runtime-2", slots=1)
    bench.controller.scheduler.use_strategy(strategy)
    bench.submit(*range(1, 9))
    assert [shown(bench, name).planned for name in (RUNTIME, "runtime-2")] == [3, 3]
    assert [shown(bench, name).assigned for name in (RUNTIME, "runtime-2")] == [1, 1]
    drain = shown(bench, RUNTIME).drain
    assert drain is not None
    assert not drain.known, "no such task has ended yet"
    bench.take_all(RUNTIME)
    bench.take_all("runtime-2")


def test_impossible_numbers_are_counted_and_told_once() -> None:
    bench = Bench()
    bench.join(RUNTIME, slots=4)
    bench.submit(1, 2, 3)
    attempts = bench.take_assigned(RUNTIME)
    for number, (task, attempt) in enumerate(attempts):
        started = [Started(task, attempt, math.nan)]
        ended = [Ended(task, attempt, AttemptEnd.SUCCEEDED, -3.0, b"", None, math.inf)]
        bench.tell(RUNTIME, m.Report(number + 50, started, ended))
    assert bench.controller.state.counters["reports.unsound"] == 3
    assert bench.controller.state.runtimes[RUNTIME].unsound == 3
    assert [note.event for note in bench.notes].count("runtime reports impossible numbers") == 1
    for queue in bench.controller.scheduler.queues("", bench.now):
        assert 0.0 <= queue.waiting.expectation < 1e9
    bench.take_all(RUNTIME)
