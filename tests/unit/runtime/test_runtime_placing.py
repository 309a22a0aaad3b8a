"""A script whose files are so large that they are placed beside the loop: it may be stopped, or the runtime end, meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_world import NO_ARGUMENTS, options, task_id

from headway_bus import copying
from headway_bus.records import Blob, Ended, File, Kind, LogRecord, Reason
from headway_runtime import commands
from headway_runtime.commands import Command
from headway_runtime.files import WorkFolder
from headway_runtime.state import Attempt, Spec

SCRIPT = b"print(1)"


class Surroundings:
    """A command's keeper and its listener."""

    def __init__(self) -> None:
        self.started: list[list[str]] = []
        self.has_started = asyncio.Event()
        self.gone: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def want_command(self, command: Command, arguments: list[str], *others: Any) -> int:
        self.started.append(arguments)
        self.has_started.set()
        for descriptor in others[-1]:
            commands.os.close(descriptor)
        return 7

    def send_signal(self, tree: int, number: int) -> None:
        raise AssertionError("there is no process to be signalled")

    def on_command_said(self, records: list[LogRecord]) -> None: ...

    def on_command_gone(self, key: object, ended: Ended, dropped: int) -> None:
        self.gone.set_result(ended)


class Placing:
    """Holds the copying back until it is told to go on, or stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()
        self._copy = copying.copy
        monkeypatch.setattr(copying, "copy", self)
        monkeypatch.setattr(commands, "PLACED_AT_ONCE", 0)

    def __call__(self, source: Path, target: Path, is_stopped: Callable[[], bool] = copying.never) -> None:
        self.has_begun.set()
        while not self.may_go_on.wait(0.01):
            if is_stopped():
                raise copying.CopyStoppedError
        self._copy(source, target, is_stopped)

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.has_begun.wait, 20)


def make(folder: WorkFolder, around: Surroundings) -> Command:
    blob = Blob(hashlib.blake2b(SCRIPT, digest_size=32).digest(), len(SCRIPT))
    folder.blob_path(blob).write_bytes(SCRIPT)
    own = options(Kind.SCRIPT, "run.py", files=[File("run.py", blob)])
    attempt = Attempt((task_id(1), 1), NO_ARGUMENTS, Spec(1, own, None, ""))
    return Command(attempt, around, folder, around, 1000, "mark")  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    folder = WorkFolder(tmp_path / "work")
    folder.open(b"instance")
    return folder


def test_the_loop_goes_on_and_the_script_is_started_when_all_is_there(
    folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        around, placing = Surroundings(), Placing(monkeypatch)
        command = make(folder, around)
        command.start({})
        await placing.until_begun()
        assert not around.started
        placing.may_go_on.set()
        await asyncio.wait_for(around.has_started.wait(), 20)
        script = Path(around.started[0][2])
        assert await asyncio.to_thread(script.read_bytes) == SCRIPT
        command.discard()

    asyncio.run(check())


def test_one_that_is_stopped_meanwhile_is_never_started(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        around, placing = Surroundings(), Placing(monkeypatch)
        command = make(folder, around)
        command.start({})
        await placing.until_begun()
        command.send_signal(signal.SIGTERM)
        ended = await asyncio.wait_for(around.gone, 20)
        assert ended.error is not None and ended.error.reason is Reason.CANCELLED and not around.started

    asyncio.run(check())
    assert not any(path.is_file() for path in folder.attempts.rglob("*"))


def test_a_runtime_that_ends_meanwhile_leaves_no_folder_and_tells_nothing(
    folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        around, placing = Surroundings(), Placing(monkeypatch)
        given, give = asyncio.Event(), folder.give_folder

        def on_given(path: str) -> None:
            give(path)
            given.set()

        monkeypatch.setattr(folder, "give_folder", on_given)
        command = make(folder, around)
        command.start({})
        await placing.until_begun()
        command.discard()
        await asyncio.wait_for(given.wait(), 20)
        assert not around.started and not around.gone.done()

    asyncio.run(check())
    assert not any(path.is_file() for path in folder.attempts.rglob("*"))


def test_a_full_disk_fails_the_attempt_with_the_reason(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def check() -> None:
        around = Surroundings()
        command = make(folder, around)
        command.start({})
        ended = await asyncio.wait_for(around.gone, 20)
        assert ended.error is not None and ended.error.reason is Reason.START and "No space left" in ended.error.message

    monkeypatch.setattr(commands, "PLACED_AT_ONCE", 0)
    monkeypatch.setattr(copying, "copy", full)
    asyncio.run(check())
    assert not any(path.is_file() for path in folder.attempts.rglob("*"))
