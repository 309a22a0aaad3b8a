"""Whether the bytes that arrived are those that a blob stands for."""

from __future__ import annotations

import hashlib

from headway_bus.copying import HASH_BYTES
from headway_bus.records import Blob


class Content:
    """The check of one blob, part by part: by its hash, and by its size alone where it has only a name."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._hash = None if blob.named else hashlib.blake2b(digest_size=HASH_BYTES)
        self._size = 0

    def add(self, part: bytes | bytearray | memoryview) -> None:
        """The next bytes."""
        self._size += len(part)
        if self._hash is not None:
            self._hash.update(part)

    @property
    def is_right(self) -> bool:
        """Whether what was added is all of the blob and nothing else."""
        return self._size == self._blob.size and (self._hash is None or self._hash.digest() == self._blob.hash)


def is_of(data: bytes | bytearray | memoryview, blob: Blob) -> bool:
    """The same for bytes that are all there."""
    content = Content(blob)
    content.add(data)
    return content.is_right
