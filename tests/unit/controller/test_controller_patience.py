"""An acceptance that waits for the end of its task, and a settlement that waits for company: what is said, and when."""

from __future__ import annotations

from controller_bench import CLIENT, RUNTIME, Bench, options, task_id

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Ended, Status
from headway_controller.patience import LONGEST, PAUSE
from headway_controller.reports import SETTLE_BATCHES, SETTLE_BYTES

OTHER = "client-2"
TASK = 1000
"""The first task that is submitted after those that taught how long such tasks run."""


def practised() -> Bench:
    """A bench that knows how long its tasks run: 10 µs."""
    bench = Bench()
    bench.join(slots=2)
    for number in range(1, 41):
        bench.submit(number)
        bench.take_assigned()
        bench.end(number, seconds=1e-5)
        bench.take_ends()
    return bench


def submit(bench: Bench, number: int, together: bool = True) -> int:
    request = bench.request()
    group = m.Group(options(), [(task_id(number), b"arguments")])
    bench.tell(CLIENT, m.Submit(request, [group], together=together))
    return request


class TestAcceptance:
    def test_it_comes_with_the_end_in_one_write_and_one_message(self) -> None:
        bench = practised()
        bench.holding = True
        request = submit(bench, TASK)
        assert bench.take_assigned() == [(task_id(TASK), 1)]
        assert not bench.unstored
        bench.emptiness_check()
        bench.end(TASK, seconds=1e-5)
        (write,) = bench.unstored
        assert [type(each).__name__ for each in write.operations] == ["NewTasks", "EndTask"]
        bench.store()
        ended = bench.take(CLIENT, m.TasksEnded)
        assert [(each.request, each.count) for each in ended.accepted] == [(request, 1)]
        assert [each.status for each in ended.outcomes] == [Status.SUCCEEDED]
        assert bench.take(RUNTIME, m.Settled)
        bench.emptiness_check()

    def test_whoever_did_not_ask_for_it_is_answered_at_once(self) -> None:
        bench = practised()
        request = submit(bench, TASK, together=False)
        assert bench.take(CLIENT, m.Accepted).request == request

    def test_nothing_waits_while_nobody_knows_how_long_such_tasks_run(self) -> None:
        bench = Bench()
        bench.join()
        request = submit(bench, TASK)
        assert bench.take(CLIENT, m.Accepted).request == request

    def test_nothing_waits_that_cannot_begin_at_once(self) -> None:
        bench = practised()
        bench.controller.pause(True)
        request = submit(bench, TASK)
        assert bench.take(CLIENT, m.Accepted).request == request

    def test_nothing_waits_for_a_runtime_that_is_far_away(self) -> None:
        bench = practised()
        bench.controller.state.runtimes[RUNTIME].round_trip = 0.05
        request = submit(bench, TASK)
        assert bench.take(CLIENT, m.Accepted).request == request

    def test_another_submission_ends_the_waiting_of_both(self) -> None:
        bench = practised()
        first, second = submit(bench, TASK), submit(bench, TASK + 1)
        assert [bench.take(CLIENT, m.Accepted).request for _ in range(2)] == [first, second]

    def test_it_goes_alone_when_the_end_does_not_come_and_the_next_do_not_wait(self) -> None:
        bench = practised()
        first = submit(bench, TASK)
        bench.take_assigned()
        assert bench.controller.patience.until == bench.now + LONGEST
        bench.wait(LONGEST)
        assert bench.take(CLIENT, m.Accepted).request == first
        bench.end(TASK, seconds=1e-5)
        assert bench.take(CLIENT, m.TasksEnded).accepted == []
        for number in range(PAUSE):
            submit(bench, TASK + 1 + number)
            bench.take(RUNTIME, m.Assign)
            bench.take(CLIENT, m.Accepted)
            bench.end(TASK + 1 + number, seconds=1e-5)
            bench.take_ends()
        submit(bench, TASK + 1 + PAUSE)
        bench.take(RUNTIME, m.Assign)
        bench.nothing_sent()

    def test_a_client_that_does_not_wait_for_the_end_is_answered_all_the_same(self) -> None:
        bench = practised()
        request = bench.request()
        group = m.Group(options(), [(task_id(TASK), b"arguments")])
        bench.tell(CLIENT, m.Submit(request, [group], watch=False, together=True))
        bench.take_assigned()
        bench.end(TASK, seconds=1e-5)
        assert bench.take(CLIENT, m.Accepted).request == request
        bench.emptiness_check()

    def test_one_within_namespaces_may_wait_as_well(self) -> None:
        bench = practised()
        bench.controller.audience.tenancy.vouch(CLIENT, ("",))
        submit(bench, TASK)
        bench.take_assigned()
        bench.nothing_sent()

    def test_acceptances_of_others_do_not_travel_with_ends(self) -> None:
        bench = practised()
        bench.submit(TASK, client=OTHER)
        (key,) = bench.take_assigned()
        for number, client, together in ((TASK + 1, OTHER, False), (TASK + 2, CLIENT, True)):
            group = m.Group(options(), [(task_id(number), b"arguments")])
            bench.hear(client, m.Submit(bench.request(), [group], together=together))
        bench.hear(RUNTIME, m.Report(900, ended=[Ended(*key, AttemptEnd.SUCCEEDED)]))
        bench.turn()
        assert bench.take(OTHER, m.Accepted).count == 1
        assert bench.take(OTHER, m.TasksEnded).accepted == []

    def test_a_write_that_fails_refuses_the_submission_and_tells_no_end(self) -> None:
        bench = practised()
        bench.holding = True
        submit(bench, TASK)
        bench.take_assigned()
        bench.end(TASK, seconds=1e-5)
        bench.fail()
        assert bench.take(CLIENT, m.Denied)
        assert not [sent for sent in bench.sent if isinstance(sent.message, m.TasksEnded)]
        assert bench.status(TASK) is None


class TestSettlement:
    def bench_of(self, tasks: int) -> Bench:
        bench = Bench()
        bench.controller.reports.settle_batches = SETTLE_BATCHES
        bench.join(slots=tasks)
        bench.submit(*range(1, tasks + 1))
        bench.take_all(RUNTIME)
        return bench

    def report(self, bench: Bench, batch: int, *frames: bytes) -> None:
        result = 0 if frames else b"\xc0"
        ended = [Ended(task_id(batch), 1, AttemptEnd.SUCCEEDED, result=result)]
        bench.tell(RUNTIME, m.Report(batch, ended=ended), *frames)

    def settled(self, bench: Bench) -> list[list[int]]:
        return [each.batches for each in bench.take_all(RUNTIME) if isinstance(each, m.Settled)]

    def test_reports_are_settled_in_company(self) -> None:
        bench = self.bench_of(SETTLE_BATCHES)
        for batch in range(1, SETTLE_BATCHES):
            self.report(bench, batch)
        assert self.settled(bench) == []
        self.report(bench, SETTLE_BATCHES)
        assert self.settled(bench) == [list(range(1, SETTLE_BATCHES + 1))]

    def test_what_found_no_company_is_settled_with_the_next_tick(self) -> None:
        bench = self.bench_of(2)
        self.report(bench, 1)
        assert self.settled(bench) == []
        bench.wait(0.01)
        assert self.settled(bench) == [[1]]

    def test_large_results_are_settled_at_once(self) -> None:
        bench = self.bench_of(2)
        self.report(bench, 1, bytes(SETTLE_BYTES))
        assert self.settled(bench) == [[1]]

    def test_nothing_is_settled_before_it_is_stored(self) -> None:
        bench = self.bench_of(2)
        bench.holding = True
        self.report(bench, 1, bytes(SETTLE_BYTES))
        bench.wait(0.01)
        assert self.settled(bench) == []
        bench.store()
        assert self.settled(bench) == [[1]]

    def test_a_runtime_that_leaves_is_told_at_once(self) -> None:
        bench = self.bench_of(2)
        self.report(bench, 1)
        bench.tell(RUNTIME, m.RuntimeLeaving("draining"))
        assert self.settled(bench) == [[1]]
        self.report(bench, 2)
        assert self.settled(bench) == [[2]]
