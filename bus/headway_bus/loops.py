"""The event loop that services run on, and how they are told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from headway_bus import memory

Result = TypeVar("Result")

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that computes lets another have the interpreter, if that waits. Python's own 5 ms leave
the controller's writer waiting behind a busy loop at every statement: commits were ten times slower."""

GC_THRESHOLD = (50_000, 20, 50)
"""Objects more than were freed, after which cycles are looked for. A burst of a thousand tasks makes that many and drops them
again without a single cycle; Python's own 700 looks through them, and at times through every task that waits, for nothing."""


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a service's main coroutine: on uvloop, which halves the loop's share of the work, where there is one."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    memory.keep_freed()
    settle_imports()
    gc.set_threshold(*GC_THRESHOLD)
    if sys.platform == "win32":
        # The default loop there cannot watch a ZeroMQ descriptor.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(main)
    try:
        import uvloop
    except ModuleNotFoundError:  # a machine that was lent the rest; the loop of the library does the same, slower
        return asyncio.run(main)
    return uvloop.run(main)


def settle_imports() -> None:
    """What is imported stays: no need to look through it again. Who has imported with the collector off, which is a tenth
    quicker, is spared the one look, too, and has it on from here."""
    if gc.isenabled():
        gc.collect()
    gc.freeze()
    gc.enable()


def on_stop(call: Callable[[], None]) -> None:
    """Call this at every TERM or INT, from the running loop."""
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, lambda number, frame: call())
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, call)
