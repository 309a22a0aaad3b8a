"""Broker and controller in one process, as ``headway up`` runs them, with plain peers around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plain_peers import Hub, PlainClient, PlainRuntime


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(f"ipc://{tmp_path}/bus", state=tmp_path / "state", heartbeat=60.0) as hub:
        yield hub


@pytest.fixture
def client(hub: Hub) -> Iterator[PlainClient]:
    with PlainClient(hub.url) as client:
        yield client


@pytest.fixture
def runtime(hub: Hub) -> Iterator[PlainRuntime]:
    """A runtime of one slot that never beats: the heartbeat is a minute."""
    with PlainRuntime(hub.url) as runtime:
        yield runtime
