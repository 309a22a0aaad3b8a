"""A link that is far away: a TCP proxy that passes everything on after a fixed delay, in either direction.

``python -m benchmarks.placement.proxy --to HOST:PORT --delay SECONDS`` listens on a free port of this machine, prints it as
its first line, and runs until its standard input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress

CHUNK = 65_536
UNDERWAY = 1_024
"""Chunks that may be on their way in one direction; a sender that is faster has to wait, as behind any link."""


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass on what is read, each piece ``delay`` seconds after it came."""
    loop = asyncio.get_running_loop()
    way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDERWAY)

    async def arrive() -> None:
        while True:
            due, data = await way.get()
            await asyncio.sleep(max(due - loop.time(), 0.0))
            if not data:
                return
            writer.write(data)
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    try:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await way.put((loop.time() + delay, data))
        await way.put((loop.time() + delay, b""))
        with suppress(OSError):
            await arriving
    finally:
        arriving.cancel()
        writer.close()


async def serve(host: str, port: int, delay: float) -> None:
    """Run until standard input is closed, so that nothing is left when whoever started it is gone."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, there[1], delay), carry(there[0], writer, delay))

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--delay", type=float, required=True, metavar="SECONDS")
    chosen = parser.parse_args()
    host, _, port = chosen.to.rpartition(":")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(host, int(port), chosen.delay))


if __name__ == "__main__":
    main()
