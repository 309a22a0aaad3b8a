"""What ``headway doctor`` looks at on this machine. Each check returns findings and raises nothing.

A finding is ``ok``, a ``note`` (worth knowing, nothing to do at once) or ``wrong`` (something does not work, with what to
do about it).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from headway.cli.words import size

OK, NOTE, WRONG = "ok", "note", "wrong"
LEAST_PYTHON = (3, 11)
LIBRARIES = ("pyzmq", "msgpack", "msgspec", "structlog", "click", "rich", "psutil")
SPACE_WRONG = 100 * 1024 * 1024
SPACE_NOTE = 1024 * 1024 * 1024
"""Bytes free: below the first submissions will soon be refused, below the second it is time to look."""


@dataclass(frozen=True)
class Finding:
    subject: str
    state: str
    text: str
    advice: str = ""


def check_python(running: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    text = ".".join(map(str, running))
    if running[:2] < LEAST_PYTHON:
        return Finding("python", WRONG, f"{text} is too old", "install Python 3.11 or newer and headway in it")
    return Finding("python", OK, f"{text} at {sys.executable}")


def check_libraries(names: Iterable[str] = LIBRARIES) -> list[Finding]:
    """The installed versions, one finding; and one for each library that is missing."""
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(Finding(name, WRONG, "is not installed", "pip install --force-reinstall headway"))
    return [Finding("libraries", OK, ", ".join(found)), *missing] if found else missing


def check_own_version() -> Finding:
    try:
        return Finding("headway", OK, version("headway"))
    except PackageNotFoundError:
        advice = "pip install -e . in the checkout: without it the services' commands are not found"
        return Finding("headway", WRONG, "runs from its source without being installed", advice)


def check_uvloop() -> Finding:
    try:
        return Finding("uvloop", OK, version("uvloop"))
    except PackageNotFoundError:
        return Finding("uvloop", NOTE, "is not installed: the hub works, at about half the speed", "pip install uvloop")


def check_curve() -> Finding:
    """Whether ZeroMQ can encrypt: without it the bus stays on this machine."""
    import zmq

    text = f"ZeroMQ {zmq.zmq_version()}, pyzmq {zmq.pyzmq_version()}"
    if zmq.has("curve"):
        return Finding("encryption", OK, f"{text}, with CURVE")
    advice = "install pyzmq from a wheel (pip install --only-binary :all: --force-reinstall pyzmq)"
    return Finding("encryption", NOTE, f"{text} was built without CURVE: the bus cannot leave this machine", advice)


def check_folder(folder: Path) -> list[Finding]:
    """The state folder: whether it can be written, and how much room there is."""
    subject = "state folder"
    place = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
    if folder.exists() and not folder.is_dir():
        return [Finding(subject, WRONG, f"{folder} is not a folder", "move it away, or name another with --state")]
    if not os.access(place, os.W_OK | os.X_OK):
        text = f"{place} cannot be written by this user"
        return [Finding(subject, WRONG, text, f"chown or chmod {place}, or name another folder with --state")]
    text = f"{folder}" if folder.exists() else f"{folder} will be made when a bus starts"
    return [Finding(subject, OK, text), check_space(place)]


def check_space(place: Path, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage) -> Finding:
    free = usage(place)[2]
    text = f"{size(free)} free on the disk of {place}"
    if free < SPACE_WRONG:
        return Finding(
            "disk", WRONG, text, "make room: when the disk is full, submissions are refused until there is some"
        )
    return Finding("disk", NOTE if free < SPACE_NOTE else OK, text, "make room soon" if free < SPACE_NOTE else "")


def check_holder(lock: Path) -> Finding:
    """Who has the store, from its lock file. The lock is tried and let go at once; the file is not changed."""
    subject = "store lock"
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Finding(subject, OK, "no controller has used this folder yet")
    except OSError as error:
        return Finding(subject, WRONG, f"{lock}: {error.strerror}", f"make it readable: chmod u+rw {lock}")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return Finding(
                subject, NOTE, f"{lock} cannot be locked: {error.strerror}", "use a local disk for the state"
            )
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "a process that is just starting"
        return Finding(subject, OK, f"held by {holder}")
    finally:
        os.close(descriptor)
    return Finding(subject, OK, "free: no controller is running on it")


def check_database(path: Path) -> Finding:
    """Whether the file is a whole SQLite database. Read only, so that a damaged one stays as it is."""
    subject = "store"
    if not path.exists():
        return Finding(subject, OK, f"{path} will be made when a controller starts")
    advice = (
        f"stop the controller and move {path} away together with {path.name}-wal and {path.name}-shm; then put back a "
        f"backup (headway backup makes them) or start empty; what is readable can be saved with: sqlite3 {path} .recover"
    )
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        return Finding(subject, WRONG, f"{path} cannot be read: {error}", "check its owner and rights")
    except sqlite3.DatabaseError as error:
        return Finding(subject, WRONG, f"{path} is damaged: {error}", advice)
    if found != ["ok"]:
        return Finding(subject, WRONG, f"{path} is damaged: {'; '.join(found)}", advice)
    return Finding(subject, OK, f"{path} is whole, {size(path.stat().st_size)}")
