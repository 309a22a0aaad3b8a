"""Values too large for a message, in parts and with a window, so that 100 MiB never stand in a queue at once.

They are named by the hash of their bytes: what the bus has already is not sent again, and what arrives is checked.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headway_bus import messages
from headway_bus.errors import BusError, TooLarge
from headway_bus.records import Blob

if TYPE_CHECKING:
    from headway.connection import Connection

HASH_BYTES = 32
WINDOW = 4
"""Parts on their way at a time: enough to keep a link busy through its round trip."""

PATIENCE = 60.0
"""Seconds without the answer to a part, after which the transfer is given up."""

IN_PLACE = 256 * 1024
"""Bytes that are hashed on the event loop; larger ones in a thread, so that the loop goes on."""


async def blob_of(data: bytes | memoryview) -> Blob:
    """The name and size of these bytes."""
    if len(data) <= IN_PLACE:
        return Blob(_hash(data), len(data))
    return Blob(await asyncio.to_thread(_hash, data), len(data))


class FileSource:
    """A file's bytes, read part by part as they are sent: one of 10 GiB never stands in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


async def store(connection: Connection, data: bytes) -> Blob:
    """Bring the bytes to the bus, as far as it lacks them. Raises TooLarge before anything is sent."""
    _check_size(connection, len(data))
    return await _store(connection, await blob_of(data), data)


async def store_file(connection: Connection, path: Path, blob: Blob) -> Blob:
    """The same for a file whose hash is known. Raises BusError if it was changed since."""
    _check_size(connection, blob.size)
    return await _store(connection, blob, FileSource(path))


def _check_size(connection: Connection, size: int) -> None:
    limit = connection.limits.payload_limit
    if size > limit:
        raise TooLarge(
            f"{size} bytes, the limit is {limit} ([bus] payload_limit in config.toml, or HEADWAY_BUS_PAYLOAD_LIMIT); "
            "nothing was sent"
        )


async def _store(connection: Connection, blob: Blob, data: bytes | FileSource) -> Blob:
    # The first part goes alone: its answer says how much of the blob is there already, all of it perhaps.
    offset = await _put(connection, blob, data, 0)
    stuck = 0
    while offset < blob.size:
        before, offset = offset, await _put_window(connection, blob, data, offset)
        stuck = 0 if offset > before else stuck + 1
        if stuck > WINDOW:
            raise BusError(f"the bus takes no more of a value of {blob.size} bytes after the first {offset}")
    return blob


async def fetch(connection: Connection, blob: Blob) -> memoryview:
    """The bytes behind a blob. Each part is copied once, to where it belongs. Raises Refused if the bus has it no longer."""
    limit = connection.limits.payload_limit
    if blob.size > limit:
        raise TooLarge(
            f"the result has {blob.size} bytes, the limit here is {limit} ([bus] payload_limit in config.toml, or "
            "HEADWAY_BUS_PAYLOAD_LIMIT); it was not fetched"
        )
    part = connection.limits.blob_part
    buffer = bytearray(blob.size)
    offsets = iter(range(0, blob.size, part))

    async def worker() -> None:
        for offset in offsets:
            await _get(connection, blob, offset, memoryview(buffer)[offset : offset + part])

    workers = [asyncio.create_task(worker()) for _ in range(min(WINDOW, 1 + blob.size // part))]
    try:
        await asyncio.gather(*workers)
    finally:  # a TaskGroup would do the same, but wrap the one error that matters
        for each in workers:
            each.cancel()
    if (await blob_of(memoryview(buffer))).hash != blob.hash:
        raise BusError(f"a value of {blob.size} bytes arrived damaged: its hash is not the one it was announced by")
    return memoryview(buffer)


async def _put_window(connection: Connection, blob: Blob, data: bytes | FileSource, offset: int) -> int:
    """Send parts from ``offset`` on, ``WINDOW`` at a time. Returns how far the bus is when it differs from what was sent."""
    part = connection.limits.blob_part
    sending: deque[tuple[int, asyncio.Task[int]]] = deque()
    try:
        following = offset
        while sending or following < blob.size:
            while following < blob.size and len(sending) < WINDOW:
                sending.append((following + part, asyncio.create_task(_put(connection, blob, data, following))))
                following += part
            end, task = sending.popleft()
            offset = await task
            if offset != min(end, blob.size):
                return offset  # the bus was restarted, or has more than we thought: go on from where it is
        return offset
    finally:
        for _end, task in sending:
            task.cancel()
        await asyncio.gather(*(task for _end, task in sending), return_exceptions=True)


async def _put(connection: Connection, blob: Blob, data: bytes | FileSource, offset: int) -> int:
    length = connection.limits.blob_part
    frame: bytes | memoryview
    if isinstance(data, FileSource):
        frame = await asyncio.to_thread(data.read, offset, length)
        if len(frame) < min(length, blob.size - offset):
            raise BusError(f"a file of {blob.size} bytes became shorter while it was sent")
    else:
        frame = memoryview(data)[offset : offset + length]
    have: messages.BlobHave
    have, _ = await connection.ask(
        lambda number: messages.BlobPut(number, blob, offset), frames=[frame], timeout=PATIENCE
    )
    return have.offset


async def _get(connection: Connection, blob: Blob, offset: int, place: memoryview) -> None:
    done = 0
    while done < len(place):
        make = partial(_blob_get, blob, offset + done, len(place) - done)
        _, frames = await connection.ask(make, timeout=PATIENCE)
        if not frames or not 0 < len(frames[0]) <= len(place) - done:
            raise BusError(f"the bus sent a part of a value that was not asked for, at byte {offset + done}")
        place[done : done + len(frames[0])] = frames[0]
        done += len(frames[0])


def _blob_get(blob: Blob, offset: int, length: int, number: int) -> messages.BlobGet:
    return messages.BlobGet(number, blob, offset, length)


def _hash(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()
