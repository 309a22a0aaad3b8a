"""What several tests of the runtime look at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runtime_world import World


@pytest.fixture
def world() -> World:
    """A runtime's core that a controller has taken in."""
    world = World()
    world.connect()
    return world


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files and folders that were written to the disk with fsync, in order."""
    found: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: found.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    return found
