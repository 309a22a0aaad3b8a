"""A TCP link of the tests' own between an agent and the broker: it delays, throttles, stalls and cuts real connections."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

CHUNK = 16 * 1024


class Link:
    """Listens on a port of its own and passes on to another. ``up`` bytes go to the broker, ``down`` come from it."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece waits."""

        self.rate = 0.0
        """Bytes a second, each way; 0: no limit."""

        self.bytes_up = 0
        self.bytes_down = 0
        self.pieces_up = 0
        self._is_cut = False
        self._stalled = False
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._moving: asyncio.Event
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._thread.start()
        assert self._started.wait(10.0), "the link did not come up"

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    # ------------------------------------------------------------------------------------------ what tests do to it

    def cut(self) -> None:
        """End every connection and take no more."""
        self._call(self._cut)

    def mend(self) -> None:
        self._is_cut = False

    def stall(self) -> None:
        """Everything stays connected, and nothing arrives any more: a link that is dead without a word."""
        self._call(self._moving.clear)

    def go_on(self) -> None:
        self._call(self._moving.set)

    def close(self) -> None:
        self.mend()
        self.go_on()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)

    # ------------------------------------------------------------------------------------------ the inside

    def _call(self, function: object) -> None:
        done = threading.Event()

        def call() -> None:
            function()  # type: ignore[operator]
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(10.0), "the link does not answer"

    def _cut(self) -> None:
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._moving = asyncio.Event()
        self._moving.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        while tasks := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(
                self._pass_on(reader, far_writer, up=True), self._pass_on(far_reader, writer, up=False)
            )
        finally:
            self._writers -= {writer, far_writer}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.rate:
                    await asyncio.sleep(len(data) / self.rate)
                await self._moving.wait()
                if up:
                    self.bytes_up += len(data)
                    self.pieces_up += 1
                else:
                    self.bytes_down += len(data)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
