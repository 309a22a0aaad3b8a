"""Running a coroutine to its end, also from inside a program that has an event loop running."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from headway.batch.blocking import run_to_end


@pytest.fixture
def loop() -> asyncio.AbstractEventLoop:
    """Not asyncio's runner: that takes Ctrl-C for itself, and a notebook has none."""
    return asyncio.new_event_loop()


async def fail() -> None:
    raise ValueError("of the work")


def test_what_the_work_raises_is_raised_where_it_is_waited_for(loop: asyncio.AbstractEventLoop) -> None:
    async def cell() -> None:
        run_to_end(fail)

    with pytest.raises(ValueError, match="of the work"):
        run_to_end(fail)
    with pytest.raises(ValueError, match="of the work"):
        loop.run_until_complete(cell())
    loop.close()


def test_ctrl_c_cancels_the_work_and_waits_until_it_has_ended(loop: asyncio.AbstractEventLoop) -> None:
    begun, told = threading.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(600.0)
        except asyncio.CancelledError:
            await asyncio.sleep(0.0)
            told.append("cancelled")
            raise

    async def cell() -> None:
        run_to_end(work)

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    loop.close()
    assert told == ["cancelled"]
    assert "headway-batch" not in [each.name for each in threading.enumerate()]
