"""What went wrong in SQLite or in the file system, as a StoreError that says what to do."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

from headway_bus.errors import StoreError
from headway_controller.store.protocol import StoreDamaged

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_SURROUNDINGS = _DAMAGED | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
}


def is_of_the_surroundings(error: BaseException) -> bool:
    """Whether the machine is to blame (disk, lock, damage), and not what was to be written."""
    return isinstance(error, sqlite3.Error) and _code(error) in _SURROUNDINGS


def explain(error: BaseException, path: Path | None) -> StoreError:
    """The error in words. ``path``: the database's file, None for a store in memory."""
    where = str(path) if path else "the store in memory"
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OSError):
        return _explain_system(error, where, path)
    if isinstance(error, sqlite3.Error) and _code(error):
        return _explain_sqlite(error, where, path)
    return StoreError(f"this cannot be stored in {where}: {type(error).__name__}: {error}")


def damaged(path: Path, why: str) -> StoreDamaged:
    """The error for a file that must not be touched any more."""
    return StoreDamaged(
        f"{path} is damaged ({why}) and was left as it is. Stop the controller; move the file with {path.name}-wal and"
        f" {path.name}-shm away together, then put back a backup (headway backup makes them) or start with an empty"
        f" state; what is readable can be saved with: sqlite3 {path} .recover"
    )


def free_space(path: Path) -> str:
    """The room left on the disk of ``path``, for a message."""
    try:
        return f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB free"
    except OSError:
        return "free space unknown"


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _explain_sqlite(error: sqlite3.Error, where: str, path: Path | None) -> StoreError:
    code = _code(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in _DAMAGED and path:
        return damaged(path, f"{name}: {error}")
    if code == sqlite3.SQLITE_FULL:
        room = free_space(path) if path else "no memory"
        return StoreError(f"the disk of {where} is full ({room}); nothing was changed. Make room: writing then goes on")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{where} is locked by another program that writes to it; end that program's transaction")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return StoreError(
            f"{where} cannot be opened for writing ({name}: {error}); check owner and rights of file and folder"
        )
    if code == sqlite3.SQLITE_IOERR:
        room = free_space(path) if path else "no memory"
        return StoreError(f"the disk of {where} does not take writes ({name}, {room}); nothing was changed")
    if code == sqlite3.SQLITE_TOOBIG:
        return StoreError(f"a value is too large for a row of {where}; values of more than some MB belong in a blob")
    return StoreError(f"{where}: {name}: {error}")


def _explain_system(error: OSError, where: str, path: Path | None) -> StoreError:
    place = error.filename or where
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        room = f" ({free_space(path)})" if path else ""
        return StoreError(f"no room for {place}{room}: {error.strerror}. Make room and try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreError(
            f"no right to write {place}: {error.strerror}; check owner and rights, or choose another --state"
        )
    return StoreError(f"{place}: {error.strerror or error}")
