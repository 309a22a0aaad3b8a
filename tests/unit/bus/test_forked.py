"""Processes made by fork: their ends are told, they keep nothing that they were told to close, and they never come back."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from headway_bus.forked import Forked, wait_for_end

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked where there is a fork")


def _leave_with(status: object) -> Callable[[], None]:
    def work() -> None:
        sys.exit(status)  # type: ignore[arg-type]

    return work


@pytest.mark.parametrize(("leaving", "status"), [(0, 0), (3, 3), (None, 0), ("wrong", 1)])
def test_its_exit_status_is_that_of_its_work(leaving: object, status: int) -> None:
    assert Forked(_leave_with(leaving)).wait(10) == status


def test_work_that_returns_has_succeeded_and_work_that_raises_has_not() -> None:
    assert Forked(lambda: None).wait(10) == 0
    assert Forked(lambda: 1 // 0).wait(10) == 1  # type: ignore[arg-type, return-value]


def test_it_has_the_words_of_popen() -> None:
    reading, writing = os.pipe()
    began, begun = os.pipe()
    child = Forked(lambda: (os.write(begun, b"x"), os.read(reading, 1), None)[2], [writing])
    os.close(reading)
    os.read(began, 1)
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    assert os.getsid(child.pid) == child.pid
    child.kill()
    assert child.wait(10) == -signal.SIGKILL
    child.kill()  # nothing, for it is gone
    for descriptor in (writing, began, begun):
        os.close(descriptor)


def test_what_it_was_told_to_close_is_closed_there() -> None:
    reading, writing = os.pipe()
    child = Forked(lambda: (os.read(reading, 1), None)[1], [writing])
    os.close(writing)  # the last one: it reads the end of the pipe
    assert child.wait(10) == 0
    os.close(reading)


def test_an_end_that_somebody_else_has_waited_for_is_an_end() -> None:
    child = Forked(lambda: None)
    os.waitpid(child.pid, 0)
    assert child.wait(10) == 0


def test_waiting_for_an_end_returns_at_the_end() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    began = time.monotonic()
    while child.poll() is None:
        wait_for_end(child.pid, 60.0)
    assert time.monotonic() - began < 60.0


def test_waiting_works_in_a_program_that_has_a_thousand_files_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    reading, writing = os.pipe()
    many: list[int] = []
    try:
        child = Forked(lambda: (os.read(reading, 1), None)[1], [writing])
        while not many or many[-1] < 1100:
            many.append(os.dup(reading))
        wait_for_end(child.pid, 0.01)
        os.close(writing)
        assert child.wait(10) == 0
    finally:
        for descriptor in [*many, reading]:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_waits_to_be_written_is_written_once() -> None:
    program = "from headway_bus.forked import Forked; print('once'); Forked(lambda: None).wait(10)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    written = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert written.stdout == "once\n"
