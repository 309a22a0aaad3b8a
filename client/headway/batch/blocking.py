"""A coroutine run to its end by a caller that waits, also where an event loop runs already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any


def run_to_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end, also from inside a program that has an event loop running, such as a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work())
        return
    caught: list[BaseException] = []
    over = threading.Event()  # a thread whose join is interrupted counts as ended, up to Python 3.12
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        begun.append((asyncio.get_running_loop(), task))
        await work()

    def in_thread() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            caught.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=in_thread, name="headway-batch")
    thread.start()
    try:
        over.wait()
    except BaseException:  # Ctrl-C, which reaches this thread alone
        for loop, task in begun:
            with suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)
        over.wait()
        thread.join()
        raise
    thread.join()
    if caught:
        raise caught[0]
