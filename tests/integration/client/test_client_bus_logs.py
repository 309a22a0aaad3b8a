"""Log records of tasks, stored and live, over real sockets."""

from __future__ import annotations

import asyncio

from client_cases import run, until
from fake_hub import FakeHub

import headway
from headway_bus.records import LogRecord


class TestLogs:
    def test_stored_records_and_live_ones_are_one_stream_that_ends_with_the_task(self, hub: FakeHub) -> None:
        hub.hold = True

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.submit("math:sqrt", 4)
                hub.say(task.task_id, "stored before")
                seen: list[LogRecord] = []

                async def follow() -> None:
                    async for record in task.logs(follow=True):
                        seen.append(record)

                following = asyncio.create_task(follow())
                await until(lambda: len(seen) == 1)
                hub.say(task.task_id, "both ways")
                await until(lambda: len(seen) == 2)
                hub.say(task.task_id, "never published", published=False)
                hub.say(task.task_id, "after the gap")
                await until(lambda: len(seen) == 4)
                hub.say(task.task_id, "last words", published=False)
                hub.release()
                await following
                assert [record.text for record in seen] == [
                    "stored before", "both ways", "never published", "after the gap", "last words",
                ]  # fmt: skip
                assert [record.text async for record in task.logs()] == [record.text for record in seen]

        run(main())

    def test_on_log_calls_back_with_each_record_and_its_errors_stay_its_own(self, hub: FakeHub) -> None:
        hub.hold = True
        seen: list[str] = []

        def odd(record: LogRecord) -> None:
            raise ValueError("in the callback")

        async def main() -> None:
            async with headway.connect(hub.url) as bus:
                task = await bus.options(on_log=lambda record: seen.append(record.text)).submit("math:sqrt", 4)
                other = await bus.options(on_log=odd).submit("math:sqrt", 9)
                for each in (task, other):
                    hub.say(each.task_id, "one")
                    hub.say(each.task_id, "two")
                hub.release()
                assert await task == 2
                assert await other == 3
            assert seen == ["one", "two"]  # leaving waits for the records of what has ended

        run(main())
