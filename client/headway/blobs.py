"""Values too large for a message, and files, in parts and with a window, so that 100 MiB never stand in a queue at once.

They are named by the hash of their bytes: what the bus has already is not sent again, and what arrives is checked.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections import deque
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from headway_bus import copying, messages
from headway_bus.contents import Content, is_of
from headway_bus.copying import HASH_BYTES
from headway_bus.errors import BundleError, BusError, Refused, TooLarge
from headway_bus.records import Blob

if TYPE_CHECKING:
    from headway.connection import Connection

WINDOW = 4
"""Parts on their way at a time: enough to keep a link busy through its round trip."""

PATIENCE = 60.0
"""Seconds without the answer to a part, after which the transfer is given up."""

SLOW_DISK = 50e6
"""Bytes a second that the bus's disk can be read with, at least."""

IN_PLACE = 256 * 1024
"""Bytes that are hashed on the event loop; larger ones in a thread, so that the loop goes on."""


async def blob_of(data: bytes | memoryview) -> Blob:
    """The name and size of these bytes."""
    if len(data) <= IN_PLACE:
        return Blob(_hash(data), len(data))
    return Blob(await asyncio.to_thread(_hash, data), len(data))


class FileSource:
    """A file's bytes, hashed and then read part by part as they are sent: one of 10 GiB never stands in memory.

    Making it reads the whole file. Raises BundleError for one that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
                raise BundleError(f"{path} is no regular file (a folder, a pipe, a device); only such are sent")
            self._stamp = _stamp(status)
            self.blob = Blob(*copying.hash_of(path))
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror or error}") from None

    def read(self, offset: int, length: int) -> bytes:
        """Raises BundleError if the file has gone or was changed since it was hashed."""
        try:
            with self.path.open("rb", buffering=0) as file:
                if _stamp(os.fstat(file.fileno())) != self._stamp:
                    raise BundleError(
                        f"{self.path} was changed while it was sent; send it again when nothing writes to it"
                    )
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            raise BundleError(f"{self.path} vanished while it was sent") from None
        except OSError as error:
            raise BundleError(f"{self.path} cannot be read: {error.strerror or error}") from None


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


async def store(connection: Connection, data: bytes) -> Blob:
    """Bring the bytes to the bus, as far as it lacks them. Raises TooLarge before anything is sent."""
    limit = connection.limits.payload_limit
    if len(data) > limit:
        raise TooLarge(
            f"{len(data)} bytes, the limit is {limit} ([bus] payload_limit in config.toml, or HEADWAY_BUS_PAYLOAD_LIMIT); "
            "nothing was sent"
        )
    return await _store(connection, await blob_of(data), data)


async def store_file(connection: Connection, source: Path | FileSource) -> Blob:
    """The same for a file. Raises TooLarge, and BundleError if it cannot be read or was changed since it was hashed."""
    path = source if isinstance(source, Path) else source.path
    limit = connection.limits.file_limit
    with suppress(FileNotFoundError):
        if (size := path.stat().st_size) > limit:
            raise TooLarge(
                f"{path} has {size} bytes; one file may have {limit} ([bus] file_limit in config.toml, or "
                "HEADWAY_BUS_FILE_LIMIT); nothing of it was sent"
            )
    if isinstance(source, Path):
        source = await asyncio.to_thread(FileSource, source)
    return await _store(connection, source.blob, source)


async def store_content(connection: Connection, content: bytes | Path) -> Blob:
    """The same for either."""
    return await (store(connection, content) if isinstance(content, bytes) else store_file(connection, content))


async def _store(connection: Connection, blob: Blob, data: bytes | FileSource) -> Blob:
    # The first part goes alone: its answer says how much of the blob is there already, all of it perhaps.
    offset = await (await _begin_put(connection, blob, data, 0))
    try:
        return await _store_rest(connection, blob, data, offset)
    except Refused:
        if offset <= connection.limits.blob_part:
            raise
    # What was there of it had suffered, and was thrown away: from the beginning, once.
    return await _store_rest(connection, blob, data, await (await _begin_put(connection, blob, data, 0)))


async def _store_rest(connection: Connection, blob: Blob, data: bytes | FileSource, offset: int) -> Blob:
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
    whole = memoryview(buffer)
    if not (is_of(whole, blob) if blob.size <= IN_PLACE else await asyncio.to_thread(is_of, whole, blob)):
        raise BusError(f"a value of {blob.size} bytes arrived damaged: its hash is not the one it was announced by")
    return whole


async def fetch_file(connection: Connection, blob: Blob, target: Path) -> None:
    """Write the bytes behind a blob to a file, whole or not at all, in the place of an earlier one. Its folder is made.

    Parts are asked for a few at a time, and are written and hashed in order. What has come before a cut stays beside the
    target, and the next call goes on there. Raises Refused, BusError, OSError.
    """
    arriving = await asyncio.to_thread(Arriving, blob, target)
    part = connection.limits.blob_part
    asked: deque[asyncio.Task[bytearray]] = deque()
    writing: asyncio.Future[None] | None = None
    following = arriving.offset
    try:
        while arriving.offset < blob.size:
            while following < blob.size and len(asked) < WINDOW:
                asked.append(asyncio.create_task(_part(connection, blob, following, min(part, blob.size - following))))
                following += part
            writing = asyncio.ensure_future(asyncio.to_thread(arriving.add, await asked.popleft()))
            await asyncio.shield(writing)
        await asyncio.to_thread(arriving.finish)
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        if writing is not None:  # a disk may be slow, and whoever has broken this off may fetch it again at once
            await asyncio.wait([writing])
        arriving.close()


class Arriving:
    """A file on its way into its place. Blocks on the disk: for a thread."""

    def __init__(self, blob: Blob, target: Path) -> None:
        self.offset = 0
        self._blob = blob
        self._target = target
        target.parent.mkdir(parents=True, exist_ok=True)
        # By the hash: what has come before a cut can be no part of anything else.
        self._path = target.with_name(f".{blob.hash.hex()[:32]}.part")
        self._content = Content(blob)
        self._is_own = False
        """Somebody else fetches the same at this moment, and the usual place is taken: this one's goes with it."""

        copying.check_room(target.parent, blob.size - (self._path.stat().st_size if self._path.exists() else 0))
        self._file = self._claim()
        present = os.fstat(self._file.fileno()).st_size
        if present > blob.size or blob.named:  # without a hash nobody would see what it may have suffered
            self._file.truncate(0)
        elif present:
            self._take_in_earlier()

    def _claim(self) -> FileIO:
        """Open what has come of it, for this one alone: two that append to one file would spoil it for both."""
        while True:
            file = self._path.open("ab", buffering=0)
            if self._is_own:
                return file
            if not _lock(file):
                self._is_own = True
                self._path = self._path.with_name(f"{self._path.stem}.{os.urandom(8).hex()}.part")
            else:
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                        return file
            file.close()  # another had it, or has just put it into its place

    def _take_in_earlier(self) -> None:
        with self._path.open("rb", buffering=0) as file:
            while data := file.read(copying.READ_BYTES):
                self._content.add(data)
                self.offset += len(data)

    def add(self, data: bytes | bytearray) -> None:
        """The next bytes. Raises OSError, and then nothing of it stays."""
        try:
            copying.write_all(self._file, memoryview(data))
        except OSError as error:
            self._path.unlink(missing_ok=True)
            text = f"{error.strerror or error}, after {self.offset} of {self._blob.size} bytes; they were removed again"
            raise OSError(error.errno, text, str(self._target)) from None
        self._content.add(data)
        self.offset += len(data)

    def finish(self) -> None:
        """All is there: see that it is right, and put it into its place. Raises BusError, OSError."""
        if not self._content.is_right or os.fstat(self._file.fileno()).st_size != self._blob.size:
            self._path.unlink(missing_ok=True)
            raise BusError(
                f"{self._target}: {self.offset} bytes arrived damaged, and were thrown away; fetch them again"
            )
        self._path.replace(self._target)

    def close(self) -> None:
        self._file.close()
        if self._is_own:
            self._path.unlink(missing_ok=True)


def _lock(file: FileIO) -> bool:
    """Take an open file for oneself; False: somebody has it, or this system cannot tell."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Where a file system knows no locks, resuming is worth more than what two at once would need them for.
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True


async def _part(connection: Connection, blob: Blob, offset: int, length: int) -> bytearray:
    buffer = bytearray(length)
    await _get(connection, blob, offset, memoryview(buffer))
    return buffer


async def _put_window(connection: Connection, blob: Blob, data: bytes | FileSource, offset: int) -> int:
    """Send parts from ``offset`` on, ``WINDOW`` at a time. Returns how far the bus is when it differs from what was sent."""
    part = connection.limits.blob_part
    sending: deque[tuple[int, asyncio.Task[int]]] = deque()
    try:
        following = offset
        while sending or following < blob.size:
            while following < blob.size and len(sending) < WINDOW:
                sending.append((following + part, await _begin_put(connection, blob, data, following)))
                following += part
            end, task = sending.popleft()
            offset = await task
            if offset != min(end, blob.size):
                # The bus was restarted, or has more than we thought. What is on its way is awaited and not sent twice.
                while sending:
                    offset = await sending.popleft()[1]
                return offset
        return offset
    finally:
        for _end, task in sending:
            task.cancel()
        await asyncio.gather(*(task for _end, task in sending), return_exceptions=True)


async def _begin_put(connection: Connection, blob: Blob, data: bytes | FileSource, offset: int) -> asyncio.Task[int]:
    """Read a part, and begin to send it: parts leave in the order of these calls, as the bus must have them."""
    await connection.parts.acquire()
    try:
        length = connection.limits.blob_part
        frame: bytes | memoryview
        if isinstance(data, FileSource):
            frame = await asyncio.to_thread(data.read, offset, length)
        else:
            frame = memoryview(data)[offset : offset + length]
        task = asyncio.create_task(_put(connection, blob, frame, offset, isinstance(data, FileSource)))
    except BaseException:
        connection.parts.release()
        raise
    task.add_done_callback(lambda _: connection.parts.release())
    return task


async def _put(
    connection: Connection, blob: Blob, frame: bytes | memoryview, offset: int, is_file: bool = False
) -> int:
    # With the last part of what was begun before a restart, the bus reads all of it again.
    patience = PATIENCE + blob.size / SLOW_DISK
    have: messages.BlobHave
    have, _ = await connection.ask(
        lambda number: messages.BlobPut(number, blob, offset, is_file), frames=[frame], timeout=patience
    )
    return have.offset


async def _get(connection: Connection, blob: Blob, offset: int, place: memoryview) -> None:
    done = 0
    while done < len(place):
        make = partial(_blob_get, blob, offset + done, len(place) - done)
        async with connection.parts:
            _, frames = await connection.ask(make, timeout=PATIENCE)
        if not frames or not 0 < len(frames[0]) <= len(place) - done:
            raise BusError(f"the bus sent a part of a value that was not asked for, at byte {offset + done}")
        place[done : done + len(frames[0])] = frames[0]
        done += len(frames[0])


def _blob_get(blob: Blob, offset: int, length: int, number: int) -> messages.BlobGet:
    return messages.BlobGet(number, blob, offset, length)


def _hash(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()
