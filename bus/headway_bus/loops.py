"""The event loop that services run on, and the folder where a user's state lives."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a service's main coroutine: on uvloop, which halves the loop's share of the work, where there is one."""
    if sys.platform == "win32":
        # The default loop there cannot watch a ZeroMQ descriptor.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(main)
    import uvloop

    return uvloop.run(main)


def state_folder(chosen: str = "") -> Path:
    """Where a bus keeps its state: as chosen, or by the XDG rules. The folder is made, for its owner only."""
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        base = os.environ.get("XDG_STATE_HOME", "")
        folder = (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "headway"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
