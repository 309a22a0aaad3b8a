"""The asynchronous bus over real sockets, against a hub that answers on the spot."""

from __future__ import annotations

import asyncio
import math
import statistics
from pathlib import Path

import pytest
from client_cases import run, until
from fake_hub import FakeHub

import headway
from headway.connection import Connection
from headway.parcels import MESSAGE_TASKS
from headway_bus.records import Code, Kind, Options, Reason, Status


def connection_of(bus: headway.Bus) -> Connection:
    return bus._connection


class TestSubmitting:
    def test_a_call_by_path_and_by_function_gives_its_value(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                hub.hold = True
                task = await bus.submit("statistics:fmean", [1, 2, 4])
                assert task.status == Status.QUEUED
                hub.hold = False
                hub.release()
                assert await task == statistics.fmean([1, 2, 4])
                assert await task == await task.result(timeout=1)
                assert task.status == Status.SUCCEEDED
                assert task.done
                assert await (await bus.submit(math.hypot, 3, 4)) == 5
                assert await (await bus.submit("builtins:dict", a=1)) == {"a": 1}

        run(main())

    def test_options_travel_with_the_task(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                night = bus.options(job="night", priority=5)
                first = await night.options(meta={"rows": 3}).submit("math:sqrt", 4)
                await first
                await bus.submit("math:sqrt", 4)
                assert hub.tasks[first.task_id][0] == Options(
                    Kind.CALL, "math:sqrt", job="night", priority=5, meta={"rows": 3}
                )
                assert {options.job for options, _ in hub.tasks.values()} == {"night", ""}

        run(main())

    def test_submissions_of_one_turn_of_the_loop_are_one_message(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await asyncio.gather(*(bus.submit("math:sqrt", n) for n in range(300)))
                assert await headway.gather(*tasks) == [math.sqrt(n) for n in range(300)]
                assert [len(group.tasks) for submit in hub.submits for group in submit.groups] == [300]

        run(main())

    def test_a_refused_submission_does_not_harm_those_beside_it(self, hub: FakeHub) -> None:
        hub.deny = lambda options: (Code.INVALID, "not this") if options.job == "bad" else None

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                calls = [bus.options(job="bad" if n == 3 else "").submit("math:sqrt", n) for n in range(8)]
                found = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(each) for each in found].count(headway.Task) == 7
                refused = found[3]
                assert isinstance(refused, headway.Refused)
                assert refused.code == Code.INVALID

        run(main())

    def test_a_map_keeps_order_and_is_bounded_in_every_message(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.map("operator:add", range(12_345), iter(range(12_345)))
                assert len({task.task_id for task in tasks}) == 12_345
                assert await headway.gather(*tasks) == [2 * n for n in range(12_345)]
                sizes = [len(group.tasks) for submit in hub.submits for group in submit.groups]
                assert max(sizes) == MESSAGE_TASKS
                assert sum(sizes) == 12_345
                few = await bus.starmap("operator:mul", [(2, 3), (4, 5)], chunksize=1)
                assert await headway.gather(*few) == [6, 20]

        run(main())

    def test_a_map_of_large_values_is_cut_into_small_messages(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.map("builtins:len", [bytes(300_000)] * 10)
                assert await headway.gather(*tasks) == [300_000] * 10
                assert max(len(group.tasks) for submit in hub.submits for group in submit.groups) == 3

        run(main())

    def test_a_map_that_is_refused_midway_says_what_went_before(self, hub: FakeHub) -> None:
        hub.deny = lambda options: (Code.LIMIT, "enough") if len(hub.tasks) >= 2000 else None

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                with pytest.raises(headway.Refused, match="enough") as caught:
                    await bus.map("math:sqrt", range(20_000))
                assert "had been handed in before" in caught.value.__notes__[0]

        run(main())

    def test_the_same_key_is_the_same_task(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                keyed = bus.options(key="invoice-7")
                first, second = await keyed.submit("math:sqrt", 9), await keyed.submit("math:sqrt", 9)
                assert first.id == second.id
                assert await first == await second == 3
                assert hub.runs[first.task_id] == 1
                found = await bus.task("invoice-7")
                assert found.id == first.id
                with pytest.raises(ValueError, match="a map makes many"):
                    await keyed.map("math:sqrt", [1])

        run(main())

    def test_commands_scripts_and_models(self, hub: FakeHub, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.txt").write_text("aaa")
        (tmp_path / "train.py").write_text("print('hello')")

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                command = await (await bus.command("echo {x}", params={"x": 1}, env={"A": "b"}, cwd=tmp_path))
                assert command["target"] == "echo 1"
                assert command["extras"] == {"params": {"x": 1}, "env": {"A": "b"}, "cwd": str(tmp_path)}
                script = await (
                    await bus.script(
                        tmp_path / "train.py", [1, "two"], files={"in/a": b"12", "data": tmp_path / "data"}
                    )
                )
                assert script["target"] == "train.py"
                assert script["args"] == ["1", "two"]
                assert script["files"] == [["train.py", 14], ["in/a", 2], ["data/a.txt", 3]]
                model = await (await bus.model("resnet", [1, 2]))
                assert model["target"] == "resnet"
                with pytest.raises(ValueError, match=r"without '\.\.'"):
                    await bus.script(tmp_path / "train.py", files={"../evil": b""})
                with pytest.raises(TypeError, match=r"env\['A'\]=1: expected a str"):
                    await bus.command("true", env={"A": 1})  # type: ignore[dict-item]

        run(main())

    def test_by_value_needs_leave_on_this_side_to_open_what_others_made(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                factor = 7
                task = await bus.options(by_value=True).submit(lambda value: value * factor, 6)
                assert await task == 42
                found = await bus.task(task.id)
                found.options = Options(Kind.CALL, "as/if:not")
                with pytest.raises(headway.PayloadError, match="by_value=True"):
                    await found

        run(main())

    def test_bad_arguments_are_errors_before_anything_is_sent(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                with pytest.raises(headway.CannotEncode, match="argument 2"):
                    await bus.submit("math:hypot", 1, object())
                with pytest.raises(ValueError, match="lambda"):
                    await bus.submit(lambda: None)
                with pytest.raises(TypeError, match="unknown option"):
                    bus.options(colour="red")
                assert hub.submits == []

        run(main())


class TestPayloads:
    def test_sizes_around_every_limit_come_back_whole(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                limits = connection_of(bus).limits
                for size in (0, limits.inline, limits.inline + 1, limits.frame - 100, limits.frame + 1):
                    task = await bus.submit("operator:concat", bytes(size), b"x")
                    assert await task == bytes(size) + b"x"
                assert hub.seen["blob_put"] > 1

        run(main())

    def test_a_hundred_mebibytes_both_ways(self, hub: FakeHub) -> None:
        data = bytes(bytearray(range(256))) * 4096 * 100

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("operator:concat", data, b"x")
                result = await task.result(timeout=60)
                assert len(result) == len(data) + 1
                assert result.startswith(data)

        run(main())

    def test_what_the_bus_has_already_is_not_sent_again(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                data = bytes(20_000_000)
                await bus.submit("builtins:len", data)
                before = hub.seen["blob_put"]
                await bus.submit("builtins:len", data)
                assert hub.seen["blob_put"] == before + 1

        run(main())

    def test_beyond_the_limit_nothing_is_sent(self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADWAY_BUS_PAYLOAD_LIMIT", "100000")

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                with pytest.raises(headway.TooLarge, match="the limit is 100000"):
                    await bus.submit("builtins:len", bytes(100_000))
                assert set(hub.seen) == {"hello"}

        run(main())

    def test_parts_that_are_lost_are_sent_again(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                sending = asyncio.create_task(bus.submit("builtins:len", bytes(30_000_000)))
                await until(lambda: hub.seen["blob_put"] >= 3)
                hub.cut()
                assert await (await sending) == 30_000_000

        run(main())


class TestEnds:
    def test_a_failure_carries_the_remote_traceback(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", -1)
                with pytest.raises(headway.TaskFailed, match="math domain error") as caught:
                    await task
                assert "Traceback" in str(caught.value)
                assert caught.value.task == task.id
                assert caught.value.error is not None
                assert caught.value.error.reason == Reason.EXCEPTION
                assert isinstance(await task.exception(), headway.TaskFailed)
                assert task.status == Status.FAILED

        run(main())

    @pytest.mark.parametrize(
        ("status", "reason", "error"),
        [
            (Status.EXPIRED, Reason.TIMEOUT_RUN, headway.TaskExpired),
            (Status.FAILED, Reason.LOST, headway.TaskLost),
            (Status.CANCELLED, Reason.CANCELLED, headway.TaskCancelled),
            (Status.FAILED, Reason.SIGNAL, headway.TaskFailed),
        ],
    )
    def test_each_end_has_its_error(
        self, hub: FakeHub, status: Status, reason: Reason, error: type[headway.TaskError]
    ) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 4)
                hub.end(task.task_id, status, reason, "so it was")
                with pytest.raises(headway.TaskError, match="so it was") as caught:
                    await task
                assert type(caught.value) is error

        run(main())

    def test_waiting_has_a_time_limit_and_the_task_goes_on(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 4)
                with pytest.raises(TimeoutError, match=r"not ended within 0\.01 s; it goes on"):
                    await task.result(timeout=0.01)
                hub.release()
                assert await task == 2

        run(main())

    def test_cancelling_the_wait_cancels_no_task_but_cancel_does(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 4)
                waiting = asyncio.ensure_future(task.result())
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert (await task.info()).status == Status.QUEUED
                assert await task.cancel()
                with pytest.raises(headway.TaskCancelled):
                    await task
                assert not await task.cancel()

        run(main())

    def test_as_completed_gives_each_once_in_the_order_of_their_ends(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.map("math:sqrt", range(3))
                found = []
                completed = headway.as_completed([*tasks, tasks[0]], timeout=30)
                for _ in tasks:
                    hub.release(1)
                    found.append(await anext(completed))
                assert found == tasks
                with pytest.raises(StopAsyncIteration):
                    await anext(completed)
                assert [task async for task in headway.as_completed([])] == []

        run(main())

    def test_as_completed_gather_and_wait_have_time_limits(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.map("math:sqrt", [4, 9])
                with pytest.raises(TimeoutError, match="2 of 2 tasks"):
                    [task async for task in headway.as_completed(tasks, timeout=0.01)]
                with pytest.raises(TimeoutError):
                    await headway.gather(*tasks, timeout=0.01)
                hub.release(1)
                done, pending = await headway.wait(tasks, return_when="FIRST_COMPLETED")
                assert (done, pending) == ({tasks[0]}, {tasks[1]})
                assert await headway.wait(tasks, timeout=0.01) == ({tasks[0]}, {tasks[1]})

        run(main())

    def test_gather_raises_the_first_failure_or_returns_all(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.map("math:sqrt", [4, -1, 9])
                with pytest.raises(headway.TaskFailed):
                    await headway.gather(*tasks)
                two, failed, three = await headway.gather(*tasks, return_exceptions=True)
                assert (two, three) == (2, 3)
                assert isinstance(failed, headway.TaskFailed)

        run(main())

    def test_a_task_of_another_client_can_be_awaited(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 16)
            async with headway.connect(hub.url) as bus:
                found = await bus.task(task.id[:8])
                assert found.status == Status.SUCCEEDED
                assert await found == 4
                with pytest.raises(headway.Refused) as caught:
                    await bus.task("zzzzzzzz")
                assert caught.value.code == Code.NOT_FOUND

        run(main())

    def test_an_ended_task_runs_again_and_is_awaited_again(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 16)
                assert await task == 4
                hub.hold = True
                await task.retry()
                assert not task.done
                hub.release()
                assert await task == 4
                assert hub.runs[task.task_id] == 2

        run(main())


class TestAsking:
    def test_listings_and_verbs(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url, name="me") as bus:
                assert bus.name == "me"
                await bus.options(job="a").map("math:sqrt", range(1200))
                await bus.submit("math:sqrt", 1)
                assert len(await bus.tasks()) == 1201
                assert len([info async for info in bus.tasks(job="a")]) == 1200
                assert len(await bus.tasks(limit=7)) == 7
                assert {job.job for job in await bus.jobs()} == {"a", ""}
                assert [state.info.name for state in await bus.runtimes()] == ["fake"]
                assert [state.target for state in await bus.queues("math:sqrt")] == ["math:sqrt"]
                assert await bus.scores() == {"": {"p50": 0.5}}
                prediction = await bus.estimate("math:sqrt", meta={"rows": 4})
                assert (prediction.runtime, prediction.starts.expectation, prediction.ends.expectation) == (
                    "fake",
                    1,
                    2,
                )
                assert (await bus.drain("fake")).count == 1
                with pytest.raises(headway.Refused, match="no runtime other"):
                    await bus.drain("other")
                counters = await bus.counters()
                assert set(counters) == {"client", "broker", "controller"}
                assert (await bus.controller()).state == {"version": "0"}
                await bus.control("pause")
                assert (await bus.purge(await bus.map("math:sqrt", [1, 2]))).count == 2

        run(main())

    def test_a_task_says_when_and_why(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 4)
                assert task.first_estimate is not None
                assert task.first_estimate.expectation == 0.5
                prediction = await task.estimate()
                assert prediction.starts.expectation == 1 and prediction.runtime == "fake"
                assert await task.explain() == {"chosen": "fake"}
                hub.release()
                await task
                after = await task.estimate()
                assert not after.starts.known
                assert "succeeded" in after.starts.why

        run(main())

    def test_cancelling_by_job_and_by_task_but_not_by_both_or_neither(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.options(job="night").map("math:sqrt", range(5))
                single = await bus.submit("math:sqrt", 1)
                assert (await bus.cancel(job="night")).count == 5
                assert (await bus.cancel([single, tasks[0]])).refused == [(tasks[0].id, "it is over")]
                for wrong in ({"tasks": [single], "job": "night"}, {}):
                    with pytest.raises(ValueError, match="and not both"):
                        await bus.cancel(**wrong)  # type: ignore[arg-type]

        run(main())

    def test_a_subscription_gives_events_until_it_is_closed(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                async with bus.subscribe("queues") as events:
                    await bus.runtimes()  # the subscription is in the same line before it
                    hub.publish("queues", "changed", {"n": 1})
                    hub.publish("others", "changed", {"n": 2})
                    hub.publish("queues", "changed", {"n": 3})
                    assert [(await events.get(10)).data["n"] for _ in range(2)] == [1, 3]
                    with pytest.raises(TimeoutError):
                        await events.get(0.01)
                await bus.runtimes()
                assert all("queues" not in topics for topics in hub.topics.values())

        run(main())
