"""A run's own part: ends that wait to be kept, jobs that are to run on machines, and a bus that is not there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import headway
from headway.batch import config
from headway.batch.book import Selection
from headway.batch.callbacks import Callbacks
from headway.batch.config import Loaded
from headway.batch.folder import BatchFolder
from headway.batch.preparing import Preparer
from headway.batch.records import JobRecord, RunInfo, State
from headway.batch.remote.errors import MachineError
from headway.batch.remote.jobs import Jobs
from headway.batch.remote.machine import Means, Session
from headway.batch.runner import Runner
from headway.batch.running import Options, plan, run_loaded
from headway_bus.errors import NoBus
from headway_bus.ids import new_task_id
from headway_bus.records import Outcome, Status

NO_BUS: Any = None


def loaded_batch(home: Path, *names: str) -> tuple[Loaded, BatchFolder]:
    batch = headway.Batch("b", data_dir=home)
    for name in names:
        batch.add_job(name, command="true")
    loaded = batch.checked()
    folder = BatchFolder.of(loaded.batches_folder, loaded.name)
    folder.make()
    return loaded, folder


def runner_of(loaded: Loaded, folder: BatchFolder, machines: Any) -> Runner:
    book = plan(loaded, folder, Selection(), time.time())
    info = RunInfo(run="r", pid=1, host="h", since=0.0, bus="ipc:///nowhere")
    preparer = Preparer(loaded, folder, ("", ""))
    return Runner(loaded, folder, book, info, Callbacks(()), preparer, machines=machines)


class Ended:
    """A task that has ended, as far as a run looks at it."""

    def __init__(self, status: Status = Status.SUCCEEDED) -> None:
        self.outcome = Outcome(new_task_id(), status, 1, runtime="m", ran=0.5)
        self.done = True


class Slow:
    """Machines whose first answers do not come."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answers = False

    async def collect(self, job: str) -> str:
        self.asked.set()
        return "" if self.answers else await asyncio.Event().wait() or ""


def test_ends_whose_output_was_still_coming_when_the_run_was_interrupted_are_kept(tmp_path: Path) -> None:
    loaded, folder = loaded_batch(tmp_path, "one", "two")

    async def main() -> None:
        machines = Slow()
        runner = runner_of(loaded, folder, machines)
        for entry in runner.book.open:
            runner._on_end(entry, Ended())  # type: ignore[arg-type]
        taking = asyncio.create_task(runner._take_ends(NO_BUS))
        await machines.asked.wait()
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        machines.answers = True
        await runner._stop(NO_BUS)

    asyncio.run(main())
    assert folder.states(["one", "two"]) == {"one": State.SUCCEED, "two": State.SUCCEED}


class Lost:
    async def collect(self, job: str) -> str:
        return "machine m was lost before all of its output had come"


def test_a_job_that_was_killed_does_not_run_again_because_its_output_is_lost(tmp_path: Path) -> None:
    loaded, folder = loaded_batch(tmp_path, "one")

    async def main() -> None:
        runner = runner_of(loaded, folder, Lost())
        runner._on_end(runner.book.entries["one"], Ended(Status.CANCELLED))  # type: ignore[arg-type]
        await runner._take_ends(NO_BUS)

    asyncio.run(main())
    assert folder.states(["one"]) == {"one": State.KILLED}


def test_a_job_for_a_machine_does_not_look_as_the_last_run_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, folder = loaded_batch(tmp_path, "one", "two")
    folder.write_record(JobRecord(name="one", status=State.SUCCEED, content="another"))
    submitted: list[str] = []

    async def submit(bus: Any, *entries: Any) -> None:
        submitted.extend(entry.name for entry in entries)

    async def main() -> None:
        runner = runner_of(loaded, folder, Lost())
        monkeypatch.setattr(runner, "_submit", submit)
        await runner._submit_all(NO_BUS)

    asyncio.run(main())
    assert submitted == ["one", "two"]
    assert folder.states(["one", "two"]) == {"one": State.INIT, "two": State.INIT}


def test_a_run_that_finds_no_bus_leaves_the_killed_one_to_be_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, folder = loaded_batch(tmp_path, "one")
    killed = RunInfo(run="r", pid=1, host="h", since=0.0, bus="tcp://127.0.0.1:1", private=False)
    folder.write_run(killed)

    @contextlib.asynccontextmanager
    async def connect(*_: Any, **__: Any) -> AsyncIterator[None]:
        raise NoBus("nobody is there")
        yield

    monkeypatch.setattr(headway, "connect", connect)
    with pytest.raises(NoBus):
        run_loaded(loaded, Options(bus=killed.bus))
    assert folder.read_run() == killed


class Pipe:
    """A helper's standard input that takes everything and answers nothing."""

    def __init__(self) -> None:
        self.stdin = self
        self.taken = b""

    def write(self, data: bytes) -> None:
        self.taken += data

    async def drain(self) -> None:
        await asyncio.sleep(0)


def test_output_that_went_with_an_earlier_connection_is_not_taken_for_none(tmp_path: Path) -> None:
    loaded, folder = loaded_batch(tmp_path, "one")
    jobs = Jobs.of(loaded, folder, plan(loaded, folder, Selection(), 0.0).entries, ("", ""))

    async def online(name: str) -> bool:
        return True

    async def main() -> None:
        session = Session("m", config.Machine(config.Connection("m")), Means(jobs, "ipc:///nowhere", online))
        session.ready.set()
        session._process = pipe = Pipe()
        with pytest.raises(MachineError, match="before all of its output had come"):
            await session.collect("one")
        assert pipe.taken == b""
        await session._give("one")
        collecting = asyncio.create_task(session.collect("one"))
        while b'"finish"' not in pipe.taken:
            await pipe.drain()
        session._on_frame({"op": "finished", "job": "one"}, b"")
        assert await collecting == []

    asyncio.run(main())
