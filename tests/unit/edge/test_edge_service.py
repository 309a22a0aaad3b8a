"""The agent's shell, made as the program makes it but never connected: what it writes, and when."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from edge_world import task_id

from headway_bus import messages as m
from headway_bus.config import Edge
from headway_bus.records import Blob, RuntimeInfo
from headway_edge.service import EdgeService, EdgeSetup

CONTROLLER = b"controller"
WELCOME = m.Welcome(1, "shop-17", b"broker", 2.0, 1 << 26, CONTROLLER)


def with_agent(folder: Path, check: Callable[[EdgeService], None], edge: Edge | None = None) -> None:
    """Make an agent that is not connected, and look at it."""

    async def look() -> None:
        setup = EdgeSetup("tcp://127.0.0.1:1", RuntimeInfo("shop-17", 1.0, edge=True), folder, edge=edge or Edge())
        service = EdgeService(setup)
        try:
            check(service)
        finally:
            service._spool.close()
            service._folder.close()

    asyncio.run(look())


def test_a_large_result_takes_nothing_from_the_bandwidth_while_cut_off(tmp_path: Path) -> None:
    content = bytes(200_000)
    blob = Blob(hashlib.blake2b(content, digest_size=32).digest(), len(content))

    def check(service: EdgeService) -> None:
        service._folder.blob_path(blob).write_bytes(content)
        service._transfers.upload((task_id(1), 1), blob)
        for _ in range(20):
            service._tick()
        bucket = service._bucket
        assert bucket._level == bucket.burst
        assert not service._transfers._requests

    with_agent(tmp_path, check, Edge(bandwidth=50_000))
