"""What the tests of the client share: running what is asynchronous, and waiting for something to be so."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def until(condition: Any) -> None:
    """Turn the loop until something is so; the test's own time limit ends it if it never is."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in another thread
        await asyncio.sleep(0.002)
