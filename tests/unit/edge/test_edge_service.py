"""The agent's shell, made as the program makes it but never connected: what it writes, and when."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from edge_world import task_id

from headway_bus import messages as m
from headway_bus.config import Bus, Edge, Runtime, Settings
from headway_bus.payloads import encode_call
from headway_bus.records import Blob, Kind, Options, RuntimeInfo
from headway_bus.task_context import TaskContext
from headway_edge.__main__ import edge_setup
from headway_edge.counter import Counter
from headway_edge.service import NAME_PATIENCE, EdgeService, EdgeSetup

CONTROLLER = b"controller"
WELCOME = m.Welcome(1, "shop-17", b"broker", 2.0, 1 << 26, CONTROLLER)


def setup_in(folder: Path, edge: Edge) -> EdgeSetup:
    return EdgeSetup("tcp://127.0.0.1:1", RuntimeInfo("shop-17", 1.0, edge=True), folder, edge=edge)


def with_agent(folder: Path, check: Callable[[EdgeService], Awaitable[None]], setup: EdgeSetup | None = None) -> None:
    """Make an agent that is not connected, and look at it."""

    async def look() -> None:
        service = EdgeService(setup or setup_in(folder, Edge()))
        try:
            await check(service)
        finally:
            service._spool.close()
            service._folder.close()

    asyncio.run(look())


def test_a_large_result_takes_nothing_from_the_bandwidth_while_cut_off(tmp_path: Path) -> None:
    content = bytes(200_000)
    blob = Blob(hashlib.blake2b(content, digest_size=32).digest(), len(content))

    async def check(service: EdgeService) -> None:
        service._folder.blob_path(blob).write_bytes(content)
        service._transfers.upload((task_id(1), 1), [blob])
        for _ in range(20):
            service._tick()
        bucket = service._bucket
        assert bucket._level == bucket.burst
        assert not service._transfers._requests

    with_agent(tmp_path, check, setup_in(tmp_path, Edge(bandwidth=50_000)))


class NoKeeper:
    """In the place of the nursery: it only notes that it was asked to start something."""

    def __init__(self) -> None:
        self.was_asked = asyncio.Event()

    def want_command(self, *wish: Any) -> int:
        for descriptor in wish[-1]:
            os.close(descriptor)
        self.was_asked.set()
        return 1


def test_taking_in_and_beginning_is_one_write_to_the_disk(tmp_path: Path) -> None:
    async def check(service: EdgeService) -> None:
        keeper = service._keeper = NoKeeper()  # type: ignore[assignment]
        service.on_up(WELCOME)
        service.on_messages([(CONTROLLER, m.Registered(CONTROLLER), [])])
        await asyncio.sleep(0)
        commits: list[str] = []
        service._spool._connected().set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
        group = m.AssignGroup(Options(Kind.COMMAND, "true"), [(task_id(1), 1, encode_call([], {}))])
        service.on_messages([(CONTROLLER, m.Assign(1, [group]), [])])
        assert not keeper.was_asked.is_set()
        await asyncio.wait_for(keeper.was_asked.wait(), 10.0)
        assert len(commits) == 1
        service._discard_processes()

    with_agent(tmp_path, check)


def test_a_name_is_asked_for_again_for_as_long_as_the_bus_may_take_to_notice_a_power_cut(tmp_path: Path) -> None:
    edge = Edge(heartbeat=1.0, spool=str(tmp_path))
    settings = Settings(bus=Bus(heartbeat=20.0), runtime=Runtime(name="shop-17"), edge=edge)

    async def check(service: EdgeService) -> None:
        assert service._link.session.name_patience == NAME_PATIENCE * 20.0
        assert service._link.session.wish == 1.0

    with_agent(tmp_path, check, edge_setup(settings))


def test_a_file_that_is_pushed_is_whole_or_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    class Context(TaskContext):
        files = {"data/a.bin": tmp_path / "came"}  # noqa: RUF012

    counter = Counter([], tmp_path)
    with Context():
        (tmp_path / "came").write_bytes(b"one")
        counter.push("data/a.bin")
        (tmp_path / "came").write_bytes(b"two")
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
            patch.setattr(os, "fsync", full)
            counter.push("data/a.bin")
        with pytest.raises(FileNotFoundError, match="no file 'other' came"):
            counter.push("other")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a.bin"] and counter.pull(
        "data/a.bin"
    ).path.read_bytes() == b"one"
