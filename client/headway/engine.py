"""The private event loop of a blocking client: one thread that runs the connection, and the way into it from others."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from headway.connection import FLUSH_PATIENCE, Connection
from headway.parcels import Unit
from headway.places import Place

Value = TypeVar("Value")

MANY_UNITS = 4_096
"""Submissions posted and not yet seen by the loop, after which whoever posts waits for it."""


class Engine:
    """One thread, one loop, one connection. Every public method may be called from any other thread."""

    def __init__(self, place: Place) -> None:
        self.connection: Connection
        self._pid = os.getpid()
        self._posted: deque[Unit] = deque()
        self._closed = False
        self._closing = threading.Lock()
        self._at_close: list[Callable[[], None]] = []
        # Not uvloop: its import costs more than it saves a client, whose time goes into the socket. And a selector loop
        # by name, because the default one of Windows cannot watch a ZeroMQ descriptor.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run_loop, name="headway-client", daemon=True)
        self._thread.start()
        try:
            self.run(self._open(place))
        except BaseException:
            self._stop_loop()
            raise
        # Weakly, or a client that nobody holds any more would live until the end of the program.
        self._atexit = partial(_close_if_alive, weakref.ref(self))
        atexit.register(self._atexit)

    @property
    def closed(self) -> bool:
        return self._closed

    def check(self) -> None:
        """Raise if the engine cannot be used from here."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this headway client belongs to process {self._pid}; a forked process cannot use its connection and must "
                "make a client of its own"
            )
        if self._closed:
            raise RuntimeError("this headway client is closed")
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a blocking verb of headway was called from the client's own thread, in a callback perhaps: it would wait "
                "for itself. Do the work in another thread, or take headway.connect()"
            )

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run this on the loop and wait for it. An interrupted wait cancels it."""
        try:
            self.check()
        except RuntimeError:
            work.close()
            raise
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    def call_soon(self, work: Callable[[], object]) -> None:
        """Run this on the loop, and do not wait for it."""
        self._loop.call_soon_threadsafe(work)

    def submit(self, unit: Unit) -> None:
        """Hand in a submission. Those of one moment go to the loop together: waking it is what costs."""
        self.check()
        if len(self._posted) >= MANY_UNITS or not self.connection.core.has_room:
            self.run(self.connection.room())
        first = not self._posted
        self._posted.append(unit)
        if first:
            self._loop.call_soon_threadsafe(self._take_posted)

    def at_close(self, work: Callable[[], None]) -> None:
        """Do this after the connection is closed; the last first."""
        self._at_close.append(work)

    def close(self, patience: float = FLUSH_PATIENCE) -> None:
        """Close the connection and end the thread. May be called twice."""
        with self._closing:
            if self._closed or os.getpid() != self._pid:
                return
            try:
                self.run(self.connection.close(patience))
            finally:
                self._closed = True
                self._stop_loop()
                atexit.unregister(self._atexit)
                while self._at_close:
                    self._at_close.pop()()

    async def _open(self, place: Place) -> None:
        self.connection = Connection(
            place.url, place.limits, name=place.name, by_value=place.by_value, prepare=place.prepare
        )
        await self.connection.open(place.connect_timeout)

    def _take_posted(self) -> None:
        posted = self._posted
        while posted:
            self.connection.submit(posted.popleft())

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._end_loop()

    def _stop_loop(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _end_loop(self) -> None:
        """In the loop's own thread: a notebook runs a loop in the thread of whoever closes the client."""
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def _close_if_alive(reference: weakref.ref[Engine]) -> None:
    engine = reference()
    if engine is not None:
        engine.close()


async def awaited(work: Awaitable[Value]) -> Value:
    """An awaitable as a coroutine, which is what another thread's loop takes."""
    return await work


Accepting = concurrent.futures.Future[Any]
