"""The client while the hub is away, forgets, loses, repeats, or refuses for good."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from client_cases import run, until
from fake_hub import FakeHub

import headway
from headway import core as cores
from headway_bus.records import Code


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is overdue is said again at once instead of after seconds: the test need not wait, and nothing else changes."""
    monkeypatch.setattr(cores, "REPEAT_AFTER", 0.05)


class TestFindingTheBus:
    def test_no_bus_is_an_error_that_says_how_to_start_one(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"  # bound, and nobody listens

            async def main() -> None:
                with pytest.raises(headway.NoBus, match="headway up") as caught:
                    await headway.connect(url, timeout=0.1)
                assert url in str(caught.value)

            run(main())

    def test_a_bus_that_refuses_us_says_why(self, hub: FakeHub) -> None:
        hub.refuse_hello = Code.FORBIDDEN

        async def main() -> None:
            with pytest.raises(headway.Refused, match="not today"):
                await headway.connect(hub.url, timeout=10)

        run(main())

    def test_the_address_is_an_argument_or_a_variable_or_a_line_in_the_file(
        self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = tmp_path / "some.toml"
        file.write_text('[bus]\nurl = "tcp://127.0.0.1:1"\nconnect_timeout = 0.05\n')

        async def main() -> None:
            with pytest.raises(headway.NoBus, match=r"tcp://127\.0\.0\.1:1 "):
                await headway.connect(config=file)
            monkeypatch.setenv("HEADWAY_BUS", "tcp://127.0.0.1:2")
            with pytest.raises(headway.NoBus, match=r"tcp://127\.0\.0\.1:2 "):
                await headway.connect(config=file)
            async with headway.connect(hub.url, config=file) as bus:
                assert bus.url == hub.url
            monkeypatch.setenv("HEADWAY_BUS", hub.url)
            async with headway.connect() as bus:
                assert bus.url == hub.url
            with pytest.raises(headway.ConfigError, match="expected an address"):
                headway.connect("nonsense")

        run(main())


class TestRecovery:
    def test_what_was_submitted_while_the_hub_was_down_arrives_when_it_is_back(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                with hub.down():
                    submitting = asyncio.create_task(bus.map("math:sqrt", range(5000)))
                    await until(lambda: not bus._connection.core.up)
                tasks = await submitting
                assert len(await headway.gather(*tasks)) == 5000
                assert all(count == 1 for count in hub.runs.values())

        run(main())

    def test_awaited_tasks_are_asked_for_again_after_a_cut(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.map("math:sqrt", range(2500))
                hub.cut()
                await until(lambda: hub.seen["await"] == 3)
                hub.release()
                assert len(await headway.gather(*tasks)) == 2500

        run(main())

    def test_ends_that_came_while_we_were_cut_off_are_heard_afterwards(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 9)
                hub.drop["tasks_ended"] = 1
                hub.release()
                hub.cut()
                assert await task == 3

        run(main())

    def test_a_new_controller_is_told_what_we_wait_for(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 9)
                hub.controller_away()
                late = asyncio.create_task(bus.submit("math:sqrt", 16))
                await until(lambda: not bus._connection.core.controller)
                with pytest.raises(headway.NoBus, match="no controller is connected"):
                    await bus.runtimes(timeout=0.01)
                hub.controller_back()
                hub.hold = False
                hub.release()
                assert await task == 3
                assert await (await late) == 4

        run(main())

    @pytest.mark.usefixtures("impatient")
    def test_lost_answers_are_asked_for_again_and_nothing_runs_twice(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                hub.drop["accepted"] = 2
                hub.drop["submit"] = 1
                task = await bus.submit("math:sqrt", 9)
                assert await task == 3
                hub.drop["runtime_page"] = 1
                assert len(await bus.runtimes()) == 1
                assert hub.runs[task.task_id] == 1
                assert [submit.again for submit in hub.submits] == [True, True, True]
                counters = await bus.counters()
                assert counters["client"]["submits_repeated"] == 3

        run(main())

    def test_repeated_messages_are_harmless(self, hub: FakeHub) -> None:
        hub.twice.update({"accepted": 100, "tasks_ended": 100, "runtime_page": 100})

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                tasks = await bus.map("math:sqrt", range(3000))
                assert sum(await headway.gather(*tasks)) > 0
                await bus.runtimes()
                assert bus._connection.core.counters["ends_repeated"] > 0
                await until(lambda: not hub.unacknowledged)

        run(main())

    def test_a_subscription_survives_a_cut(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                events = bus.subscribe("runtimes")
                hub.cut()
                await until(lambda: any("runtimes" in topics for topics in hub.topics.values()))
                hub.publish("runtimes", "changed", {"n": 1})
                assert (await events.get(10)).data == {"n": 1}
                events.close()

        run(main())

    def test_a_silent_hub_is_left_and_found_again(self, hub: FakeHub) -> None:
        hub.heartbeat = 0.05

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                hub.silent = True
                await until(lambda: not bus._connection.core.up)
                hub.silent = False
                assert await (await bus.submit("math:sqrt", 9)) == 3

        run(main())


class TestLimits:
    def test_submissions_wait_within_bounds_while_the_hub_is_down(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                with hub.down():
                    await until(lambda: not bus._connection.core.up)
                    calls = [asyncio.create_task(bus.submit("builtins:len", bytes(10_000))) for _ in range(1000)]
                    for _ in range(20):
                        await asyncio.sleep(0)
                    assert bus._connection.core.waiting_weight < 2 * 1024 * 1024
                for call in calls:
                    assert await (await call) == 10_000

        run(main())

    @pytest.mark.usefixtures("impatient")
    def test_a_submission_may_have_a_time_limit(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                hub.controller_away()
                await until(lambda: not bus._connection.core.controller)
                with pytest.raises(TimeoutError, match="it was withdrawn"):
                    await bus.options(submit_timeout=0.01).submit("math:sqrt", 4)
                hub.controller_back()
                await until(lambda: bus._connection.core.controller)
                assert hub.tasks == {}
                hub.drop["accepted"] = 1000
                with pytest.raises(TimeoutError, match="will know"):
                    await bus.options(submit_timeout=0.2).submit("math:sqrt", 4)
                hub.drop.clear()

        run(main())

    def test_a_cancelled_submit_that_has_not_left_is_withdrawn(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                hub.controller_away()
                await until(lambda: not bus._connection.core.controller)
                call = asyncio.create_task(bus.submit("math:sqrt", 4))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                hub.controller_back()
                await bus.runtimes()
                assert hub.tasks == {}

        run(main())


class TestLeaving:
    def test_leaving_waits_until_what_was_submitted_is_stored(self, hub: FakeHub) -> None:
        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                calls = [asyncio.create_task(bus.submit("math:sqrt", n)) for n in range(50)]
                await asyncio.sleep(0)
            await asyncio.gather(*calls)
            assert len(hub.tasks) == 50

        run(main())

    def test_whoever_still_waits_is_told(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            bus = await headway.connect(hub.url)
            task = await bus.submit("math:sqrt", 4)
            waiting = asyncio.create_task(task.result())
            completing = asyncio.create_task(headway.gather(task))
            listening = asyncio.create_task(anext(bus.subscribe("queues")))
            await asyncio.sleep(0)
            await bus.close()
            await bus.close()
            for each in (waiting, completing, listening):
                with pytest.raises(headway.BusError, match="was closed"):
                    await each
            with pytest.raises(headway.BusError, match="is closed"):
                await bus.runtimes()
            with pytest.raises(headway.BusError, match="is closed"):
                await bus.submit("math:sqrt", 4)
            with pytest.raises(headway.BusError, match="is closed"):
                await task

        run(main())

    def test_a_hub_that_refuses_us_later_tells_everybody(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 4)
                waiting = asyncio.create_task(task.result())
                await asyncio.sleep(0)
                hub.refuse_hello = Code.FORBIDDEN
                hub.cut()
                with pytest.raises(headway.Refused, match="not today"):
                    await waiting
                with pytest.raises(headway.Refused, match="not today"):
                    await bus.submit("math:sqrt", 4)

        run(main())
