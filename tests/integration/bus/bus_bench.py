"""Coroutines with a deadline, a listener that keeps what it hears, and a context that must end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import zmq

from headway_bus.link import Received
from headway_bus.messages import Rejected, Welcome

PATIENCE = 20.0
Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it within the deadline. Afterwards no socket may be left: the context ends, or the test fails."""

    async def limited() -> Result:
        async with asyncio.timeout(PATIENCE):
            return await work

    try:
        result = asyncio.run(limited())
    except BaseException:
        zmq.Context.instance().destroy(0)  # what this test left open is not the next one's fault
        raise
    end_context()
    return result


def end_context() -> None:
    """End the process's context. A socket that was not closed keeps it from ending."""
    context = zmq.Context.instance()
    left = [socket for socket in context._sockets if not socket.closed]
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(10.0)
    assert not ending.is_alive(), f"sockets were left open: {left}"


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is true of something that tells nobody when it changes."""
    for _ in iter(condition, True):
        await asyncio.sleep(0.005)


class Recorder:
    """A listener that keeps everything, and wakes whoever waits for something."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.messages: list[Received] = []
        self._changed = asyncio.Event()

    def _note(self, name: str, content: Any) -> None:
        self.events.append((name, content))
        self._changed.set()

    def on_up(self, welcome: Welcome) -> None:
        self._note("up", welcome)

    def on_down(self, reason: str) -> None:
        self._note("down", reason)

    def on_controller(self, controller: bytes) -> None:
        self._note("controller", controller)

    def on_messages(self, messages: list[Received]) -> None:
        self.messages += messages
        self._changed.set()

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        self._note("undecodable", (source, request, text))

    def on_over(self, rejected: Rejected) -> None:
        self._note("over", rejected)

    def count(self, name: str) -> int:
        return sum(event == name for event, _ in self.events)

    def last(self, name: str) -> Any:
        return [content for event, content in self.events if event == name][-1]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was heard makes it true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()
