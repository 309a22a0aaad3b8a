"""Shells and buses that are gone when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance_shell import Shell, make_shell, start_up, wait_for_file


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell without a bus. Whatever it started is gone afterwards."""
    made = make_shell(tmp_path / "home")
    yield made
    made.end_all()


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell with a running bus of two slots, shared by the tests of one file."""
    made = make_shell(tmp_path_factory.mktemp("bus") / "home")
    running = start_up(made, "--slots", "2", "--state", made.home / "state")
    made.bus = running.url
    yield made
    status = running.interrupt()
    left = made.processes()
    for process in left:
        process.kill()
    assert status == 0, running.log.read_text()
    assert left == []


@pytest.fixture
def held(bus: Shell, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Submits tasks that run until the test is over; returns their ids, once each has started."""
    release = tmp_path / "release"
    count = 0

    def submit(*options: str) -> str:
        nonlocal count
        count += 1
        started = tmp_path / f"started-{count}"
        task = bus.ok("submit", "work:hold", str(started), str(release), *options).out.strip()
        wait_for_file(started)
        return task

    yield submit
    release.touch()
