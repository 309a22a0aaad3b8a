"""The blocking client and the executor: the same verbs from any thread, and tasks that are futures."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import math
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_hub import FakeHub

import headway
from headway_bus.records import Code, LogRecord, Reason, Status


@pytest.fixture
def bus(hub: FakeHub) -> Iterator[headway.Client]:
    with headway.Client(hub.url) as bus:
        yield bus


class TestClient:
    def test_the_verbs(self, hub: FakeHub, bus: headway.Client, tmp_path: object) -> None:
        task = bus.submit("statistics:fmean", [1, 2, 4])
        assert task.result(timeout=10) == pytest.approx(7 / 3)
        assert task.result() is task.result()
        assert (task.status, task.done(), task.running(), task.cancelled()) == (Status.SUCCEEDED, True, False, False)
        assert task.outcome is not None
        assert task.outcome.runtime == "fake"
        roots = bus.options(job="roots").map("math:sqrt", range(3000))
        assert [each.result() for each in roots] == [math.sqrt(n) for n in range(3000)]
        assert len(bus.tasks(job="roots")) == 3000
        assert bus.tasks(job="roots", limit=2)[0].options.job == "roots"
        assert {job.job for job in bus.jobs()} == {"", "roots"}
        assert len(bus.runtimes()) == len(bus.queues()) == len(bus.scores()) == 1
        assert bus.estimate("math:sqrt", meta={"x": 1}).runtime == "fake"
        assert bus.command("true").result()["target"] == "true"
        assert bus.model("resnet", 1).result()["args"] == [1]
        assert set(bus.counters()) == {"client", "broker", "controller"}
        assert bus.drain("fake").count == 1
        assert bus.purge(roots[:2]).count == 2

    def test_failures_are_exceptions_of_the_future(self, bus: headway.Client) -> None:
        task = bus.submit("math:sqrt", -1)
        with pytest.raises(headway.TaskFailed, match="math domain error"):
            task.result()
        assert isinstance(task.exception(), headway.TaskFailed)
        with pytest.raises(headway.CannotEncode):
            bus.submit("math:sqrt", object())

    def test_a_refusal_is_raised_where_it_was_submitted(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.deny = lambda options: (Code.INVALID, "not this")
        with pytest.raises(headway.Refused, match="not this"):
            bus.submit("math:sqrt", 1)
        with pytest.raises(headway.Refused, match="not this"):
            bus.map("math:sqrt", range(5))
        with pytest.raises(headway.Refused, match="not this"):
            bus.submit_soon("math:sqrt", 1).result()

    def test_a_cancelled_task_is_what_both_worlds_expect(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        task = bus.submit("math:sqrt", 4)
        assert task.cancel()
        assert task.cancelled()
        for error in (headway.TaskCancelled, cf.CancelledError):
            with pytest.raises(error):
                task.result()
        assert cf.wait([task]).done == {task}

    def test_waiting_has_a_time_limit(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        task = bus.submit("math:sqrt", 4)
        with pytest.raises(TimeoutError, match="it goes on"):
            task.result(timeout=0.01)
        assert not task.done()
        assert cf.wait([task], timeout=0.01).not_done == {task}
        hub.release()
        assert task.result() == 2

    def test_the_functions_of_concurrent_futures_take_its_tasks(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        tasks = bus.map("math:sqrt", [4, -1, 9, 16])
        hub.release(1)
        assert cf.wait(tasks, return_when=cf.FIRST_COMPLETED).done == {tasks[0]}
        hub.release(1)
        assert cf.wait(tasks, return_when=cf.FIRST_EXCEPTION).done == set(tasks[:2])
        hub.release(1)
        completed = cf.as_completed(tasks, timeout=30)
        assert {next(completed) for _ in range(3)} == set(tasks[:3])
        hub.release(1)
        assert next(completed) is tasks[3]

    def test_callbacks_before_and_after_the_end(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        task = bus.submit("math:sqrt", 4)
        called: list[object] = []
        event = threading.Event()
        task.add_done_callback(lambda each: (called.append(each.result()), event.set()))
        hub.release()
        assert event.wait(30)
        task.add_done_callback(lambda each: called.append("late"))
        assert called == [2, "late"]

    def test_a_callback_may_take_a_result_that_must_be_fetched(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        task = bus.submit("operator:concat", bytes(10_000_000), b"x")
        sizes: list[int] = []
        event = threading.Event()
        task.add_done_callback(lambda each: (sizes.append(len(each.result())), event.set()))
        hub.release()
        assert event.wait(30)
        assert sizes == [10_000_001]

    def test_asyncio_can_wait_for_its_tasks(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        task = bus.submit("math:sqrt", 4)

        async def main() -> None:
            waiting = asyncio.wrap_future(task)
            hub.release()
            assert await waiting == 2

        asyncio.run(main())

    def test_many_threads_share_one_client(self, bus: headway.Client) -> None:
        def work(n: int) -> float:
            value: float = bus.submit("math:sqrt", n).result(timeout=60)
            return value

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(work, range(300))) == [math.sqrt(n) for n in range(300)]

    def test_a_task_of_another_client_is_followed_when_somebody_cares(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        with headway.Client(hub.url) as other:
            task = other.submit("math:sqrt", 4)
        found = bus.task(task.id[:8])
        assert found.info().status == Status.QUEUED
        assert hub.seen["await"] == 0
        hub.release()
        assert next(cf.as_completed([found], timeout=30)) is found
        assert found.result() == 2
        again = bus.task(task.id)
        assert again.result(timeout=30) == 2

    def test_logs_and_on_log(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        seen: list[str] = []
        task = bus.options(on_log=lambda record: seen.append(record.text)).submit("math:sqrt", 4)
        hub.say(task.task_id, "one")
        records: Iterator[LogRecord] = task.logs(follow=True)
        assert next(records).text == "one"
        hub.say(task.task_id, "two")
        hub.release()
        assert [record.text for record in records] == ["two"]
        assert [record.text for record in task.logs()] == ["one", "two"]
        bus.close()
        assert seen == ["one", "two"]

    def test_a_follower_that_leaves_early_unsubscribes(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        task = bus.submit("math:sqrt", 4)
        hub.say(task.task_id, "one")
        records = task.logs(follow=True)
        assert next(records).text == "one"
        records.close()  # type: ignore[attr-defined]
        bus.runtimes()
        assert not any(hub.topics.values())

    def test_a_subscription(self, hub: FakeHub, bus: headway.Client) -> None:
        events = bus.subscribe("queues", timeout=30)
        bus.runtimes()
        hub.publish("queues", "changed", {"n": 1})
        assert next(events).data == {"n": 1}

    def test_it_runs_again_after_its_end(self, hub: FakeHub, bus: headway.Client) -> None:
        task = bus.submit("math:sqrt", 4)
        task.result()
        assert bus.retry([task]).count == 1
        assert bus.task(task.id).result(timeout=30) == 2
        assert hub.runs[task.task_id] == 2

    def test_after_closing_everything_is_an_error_and_nobody_hangs(self, hub: FakeHub) -> None:
        hub.hold = True
        bus = headway.Client(hub.url)
        task = bus.submit("math:sqrt", 4)
        told = threading.Event()
        task.add_done_callback(lambda _: told.set())
        bus.close()
        bus.close()
        assert told.wait(30)
        with pytest.raises(headway.BusError, match="was closed"):
            task.result()
        with pytest.raises(RuntimeError, match="is closed"):
            bus.runtimes()
        with pytest.raises(RuntimeError, match="is closed"):
            bus.submit("math:sqrt", 4)

    def test_a_blocking_verb_in_a_callback_is_an_error_instead_of_a_deadlock(
        self, hub: FakeHub, bus: headway.Client
    ) -> None:
        hub.hold = True
        task = bus.submit("math:sqrt", 4)
        caught: list[BaseException] = []
        event = threading.Event()

        def ask(_: object) -> None:
            try:
                bus.runtimes()
            except RuntimeError as error:
                caught.append(error)
            event.set()

        task.add_done_callback(ask)
        hub.release()
        assert event.wait(30)
        assert "would wait for itself" in str(caught[0])

    def test_a_forked_process_is_told_to_make_its_own(self, bus: headway.Client) -> None:
        context = multiprocessing.get_context("fork")
        receiving, sending = context.Pipe(duplex=False)

        def child() -> None:
            try:
                bus.runtimes()
            except RuntimeError as error:
                sending.send(str(error))

        process = context.Process(target=child)
        process.start()
        assert receiving.poll(30)
        assert "make a client of its own" in receiving.recv()
        process.join(30)
        assert process.exitcode == 0
        receiving.close()
        sending.close()

    def test_a_program_that_forgets_to_close_ends_all_the_same(self, hub: FakeHub) -> None:
        code = "import sys, headway; bus = headway.Client(sys.argv[1]); print(bus.submit('math:sqrt', 4).result())"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, hub.url], capture_output=True, text=True, timeout=60, check=True
        )
        assert (done.stdout, done.stderr) == ("2.0\n", "")
        assert hub.seen["bye"] == 1

    def test_ctrl_c_interrupts_a_wait_and_the_client_lives_on(self, hub: FakeHub) -> None:
        hub.hold = True
        code = """
import os, signal, sys, threading, headway
with headway.Client(sys.argv[1]) as bus:
    task = bus.submit("math:sqrt", 4)
    try:
        print("waiting", flush=True)
        task.result()
    except KeyboardInterrupt:
        print(bus.runtimes()[0].info.name, flush=True)
"""
        process = subprocess.Popen([sys.executable, "-c", code, hub.url], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.read() == "fake\n"
        assert process.wait(30) == 0
        process.stdout.close()


class TestLateMadeFutures:
    """A task has a future's lock and queue only when somebody needs them: whoever comes when must see the end."""

    def test_an_end_nobody_waited_for_makes_neither(self, bus: headway.Client) -> None:
        tasks = bus.map("math:sqrt", range(10))
        with headway.Client(bus.url) as other:
            other.submit("math:sqrt", 1).result()
        while not all(task._state == "FINISHED" for task in tasks):
            bus.runtimes()
        assert [task.result() for task in tasks] == [math.sqrt(n) for n in range(10)]
        assert all(task._made is None for task in tasks)

    def test_waiters_and_ends_that_race_find_one_another(self, bus: headway.Client) -> None:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(10):
                tasks = bus.map("math:sqrt", range(200))
                waiting = [pool.submit(cf.wait, tasks[at::4], 60) for at in range(4)]
                assert all(not found.result().not_done for found in waiting)


class TestExecutor:
    def test_submit_and_map(self, hub: FakeHub) -> None:
        with headway.Executor(url=hub.url) as pool:
            futures = [pool.submit(operator.add, n, b) for n, b in [(1, 2), (3, 4)]]
            assert [future.result() for future in futures] == [3, 7]
            assert list(pool.map(math.sqrt, range(10))) == [math.sqrt(n) for n in range(10)]
            assert list(pool.map(operator.add, range(10), range(10), chunksize=4)) == [2 * n for n in range(10)]
            assert len(hub.tasks) == 2 + 10 + 3
            assert pool.submit(int, "ff", base=16).result() == 255
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(math.sqrt, 1)

    def test_a_client_that_was_given_stays_open_and_its_options_hold(self, hub: FakeHub, bus: headway.Client) -> None:
        with headway.Executor(bus.options(job="pool")) as pool:
            pool.submit(math.sqrt, 4).result()
        assert {options.job for options, _ in hub.tasks.values()} == {"pool"}
        assert not bus.closed
        with pytest.raises(TypeError, match=r"expected a headway\.Client"):
            headway.Executor("tcp://127.0.0.1:1")  # type: ignore[arg-type]

    def test_map_has_a_time_limit_and_cancels_what_is_not_consumed(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        with headway.Executor(bus) as pool:
            results = pool.map(math.sqrt, [1, 4, 9], timeout=0.05)
            with pytest.raises(TimeoutError):
                list(results)
            assert [outcome.status for outcome, _ in hub.outcomes.values()].count(Status.CANCELLED) == 2
            hub.release()

    def test_shutdown_waits_or_cancels(self, hub: FakeHub, bus: headway.Client) -> None:
        hub.hold = True
        pool = headway.Executor(bus)
        future = pool.submit(math.sqrt, 4)
        pool.shutdown(wait=False)
        assert not future.done()
        pool = headway.Executor(bus)
        cancelled = pool.submit(math.sqrt, 4)
        pool.shutdown(cancel_futures=True)
        assert cancelled.cancelled()
        hub.end(future.task_id, Status.FAILED, Reason.LOST, "gone")
        with pytest.raises(headway.TaskLost):
            future.result()

    def test_a_hasty_loop_is_pushed_back_and_loses_nothing(self, hub: FakeHub, bus: headway.Client) -> None:
        with headway.Executor(bus) as pool:
            futures = [pool.submit(math.sqrt, n) for n in range(20_000)]
            assert sum(1 for _ in cf.as_completed(futures)) == 20_000
        assert len(hub.submits) < 4000
