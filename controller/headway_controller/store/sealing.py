"""Arguments that were marked secret, as the store keeps them: encrypted, with a key in a file of its own beside the database.

Whoever gets the database, a copy of it, or a backup, does not get them; whoever gets the folder does. AES-256-GCM from the
``cryptography`` package, a fresh nonce each, bound to the task's id, so that they cannot be put into another task's place.
"""

from __future__ import annotations

import os
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE = "arguments.key"
KEY_BYTES = 32
NONCE_BYTES = 12

MISSING = (
    "secret arguments need a package that is not installed where the controller runs: pip install 'headway[secret]'"
)


def can_seal() -> bool:
    """Whether the package is there."""
    return find_spec("cryptography") is not None


class Sealer:
    """``folder``: that of the database; None: everything is in memory, and nothing need be encrypted."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / KEY_FILE if folder is not None else None
        self._cipher: AESGCM | None = None
        self.unreadable = 0
        """Arguments that could not be read back: the key is gone, or another."""

    def seal(self, task: TaskId, value: bytes | memoryview) -> bytes:
        """What is stored. Raises StoreError."""
        if self._path is None:
            return bytes(value)
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._find_cipher(self._path, make=True).encrypt(nonce, bytes(value), task)

    def open(self, task: TaskId, stored: bytes) -> bytes:
        """What was sealed. Empty, and counted, where it cannot be read: the task then fails by itself, and no other does."""
        if self._path is None or not stored:
            return stored
        try:
            from cryptography.exceptions import InvalidTag

            cipher = self._find_cipher(self._path, make=False)
            return cipher.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], task)
        except (ImportError, StoreError, ValueError):
            self.unreadable += 1
        except InvalidTag:
            self.unreadable += 1
        return b""

    def _find_cipher(self, path: Path, make: bool) -> AESGCM:
        if self._cipher is None:
            try:
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            except ImportError:
                raise StoreError(MISSING) from None
            if make:
                _make_key(path)
            self._cipher = AESGCM(_read_key(path))
        return self._cipher


def _make_key(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if sys.platform != "win32" and os.fstat(file.fileno()).st_mode & 0o077:
                raise StoreError(f"{path}: others may read or write it; do: chmod 600 {path}")
            found = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    if len(found) != KEY_BYTES:
        raise StoreError(f"{path}: {len(found)} bytes; expected a key of {KEY_BYTES}")
    return found
