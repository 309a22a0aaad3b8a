"""A run that is ended at an awkward moment: what the bus has accepted is ended too, and its record kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headway
from headway.batch.book import Selection
from headway.batch.callbacks import Callbacks
from headway.batch.folder import BatchFolder
from headway.batch.preparing import Preparer
from headway.batch.records import RunInfo, State
from headway.batch.runner import Runner
from headway.batch.running import plan


class LateAnswers:
    """A bus whose answers to submissions come when ``arrived`` is set; the tasks are there before."""

    def __init__(self, bus: headway.Bus) -> None:
        self.arrived = asyncio.Event()
        self._bus = bus

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def options(self, **fields: Any) -> Any:
        return LateOptions(self._bus.options(**fields), self.arrived)


class LateOptions:
    def __init__(self, chosen: Any, arrived: asyncio.Event) -> None:
        self._chosen = chosen
        self._arrived = arrived

    async def command(self, *words: Any, **fields: Any) -> Any:
        task = await self._chosen.command(*words, **fields)
        await self._arrived.wait()
        return task


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway.local(slots=1) as bus:
        yield bus.url


async def until(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes the file
        await asyncio.sleep(0.01)


def test_a_job_that_began_before_its_submission_was_answered_is_ended_with_the_run(url: str, tmp_path: Path) -> None:
    batch = headway.Batch("late", data_dir=tmp_path)
    batch.add_job("one", command="touch ../started; sleep 600")
    loaded = batch.checked()
    folder = BatchFolder.of(loaded.batches_folder, loaded.name)
    folder.make()
    book = plan(loaded, folder, Selection(), time.time())
    info = RunInfo(run="r", pid=1, host="h", since=0.0, bus=url)

    async def main() -> None:
        async with headway.connect(url) as bus:
            late: Any = LateAnswers(bus)
            runner = Runner(loaded, folder, book, info, Callbacks(()), Preparer(loaded, folder, ("", "")))
            running = asyncio.create_task(runner.run(late))
            await until(folder.path / "started")
            running.cancel()
            await asyncio.sleep(0)
            late.arrived.set()
            with pytest.raises(asyncio.CancelledError):
                await running
            (task,) = await bus.tasks(job="late")
            assert task.status == "cancelled"

    asyncio.run(main())
    kept = folder.read_record("one")
    assert kept is not None
    assert (kept.status, kept.start_datetime is not None, kept.elapsed > 0) == (State.INTERRUPTED, True, True)
    assert folder.states(["one"]) == {"one": State.INTERRUPTED}
