"""Parts of blobs, written and read beside the event loop in the order in which they came or were asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from headway_bus.records import Blob
from headway_controller.store.blobs import BlobFolder


class BlobThreads:
    """One thread for the parts of all blobs, and one for those that take long, for which nobody else is to wait."""

    def __init__(self, blobs: BlobFolder) -> None:
        self._blobs = blobs
        self._parts = ThreadPoolExecutor(1, thread_name_prefix="headway-blob")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="headway-blob-end")
        self._ending: Counter[bytes] = Counter()

    async def put(self, blob: Blob, offset: int, data: bytes) -> int:
        """:meth:`BlobFolder.put_part`. What comes for a blob while it is read again waits with it."""
        loop = asyncio.get_running_loop()
        if not self._ending[blob.hash] and not self._blobs.is_read_again(blob, offset + len(data)):
            del self._ending[blob.hash]
            return await loop.run_in_executor(self._parts, self._blobs.put_part, blob, offset, data)
        self._ending[blob.hash] += 1
        try:
            return await loop.run_in_executor(self._long, self._blobs.put_part, blob, offset, data)
        finally:
            self._ending[blob.hash] -= 1
            if not self._ending[blob.hash]:
                del self._ending[blob.hash]

    async def get(self, blob: Blob, offset: int, length: int) -> bytes:
        """:meth:`BlobFolder.read_part`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._parts, self._blobs.read_part, blob, offset, length
        )

    def close(self) -> None:
        for each in (self._parts, self._long):
            each.shutdown(wait=False)
