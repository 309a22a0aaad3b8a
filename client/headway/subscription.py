"""Events of one topic, as they are published. What is published while the connection is down is not repeated."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from headway_bus.messages import Event

if TYPE_CHECKING:
    from headway.connection import Connection

KEPT = 10_000
"""Events kept for a reader that is slower than the bus; beyond it the oldest go and ``dropped`` counts them."""


class Subscription:
    """``async for`` gives the events. It begins when it is made, and ends with ``close()``, ``async with`` or the loop's end."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self.topic = topic
        self.dropped = 0
        self._connection = connection
        self._events: deque[Event] = deque()
        self._news: asyncio.Future[None] | None = None
        self._closed = False
        connection.check()
        connection.listen(topic, self._on_event)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._connection.check()
            self._news = asyncio.get_running_loop().create_future()
            await self._connection.until(self._news)
        return self._events.popleft()

    async def get(self, timeout: float | None = None) -> Event:
        """The next event. Raises TimeoutError after ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            return await anext(self)

    def close(self) -> None:
        """No more events; those that came already are still given out."""
        if not self._closed:
            self._closed = True
            self._connection.unlisten(self.topic, self._on_event)
            self._wake()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _on_event(self, event: Event) -> None:
        if len(self._events) >= KEPT:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
