"""The files that a script or command leaves for whoever submitted it: ``outputs=["model/*"]``. Blocks on the disk: for a thread.

Together they are the attempt's result, beside its exit status: small ones travel in the report, and up to ``MOST_IN_VALUE``
they are one large value. What is more than that would have to fit into the memory of whoever reads the result, so the files
stay files: each is brought by its own hash, and the result names them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgpack

from headway_bus.copying import HASH_BYTES, settle
from headway_bus.records import Blob, File
from headway_runtime.files import WorkFolder, outputs_prefix

INLINE_BYTES = 64 * 1024
READ_BYTES = 1024 * 1024
MOST_FILES = 10_000
MOST_IN_VALUE = 16 * 1024 * 1024
"""Bytes of all outputs together up to which they are one value."""

SMALL_BYTES = 16 * 1024
"""Files up to this size are part of the value even then: each costs less there than as a file of its own."""

MOST_NAMED = 256 * 1024
"""Bytes of the names and hashes of files, which travel in one report."""

NAMING_BYTES = 48


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a pattern that leads out of the attempt's folder."""
    pure = PurePosixPath(pattern)
    if not pattern or pure.is_absolute() or ".." in pure.parts or "\0" in pattern:
        raise ValueError(f"outputs: {pattern!r} does not stay within the attempt's folder")


def collect(
    folder: str, patterns: Sequence[str], work: WorkFolder, most: int, *, take: bool = False
) -> tuple[bytes | Blob, list[File]]:
    """The result, ``{"exit_code": 0, "outputs": {path: bytes}}``, encoded, and the files that are too large for it.

    :param most: bytes of the largest file that the bus takes.
    :param take: the folder is nobody's any more, so that files may be moved out of it.

    Raises ValueError, OSError.
    """
    found = _find(Path(folder), patterns)
    for name in found:
        if not _is_utf8(name):
            raise ValueError(f"the output {name!r} has a name that is not UTF-8; give the file another")
    sizes = {name: os.stat(path).st_size for name, path in found.items()}  # noqa: PTH116
    for name, size in sizes.items():
        if size > most:
            raise ValueError(
                f"the output {name!r} has {size} bytes; one file may have {most} ([bus] file_limit in config.toml)"
            )
    files: list[File] = []
    if sum(sizes.values()) > MOST_IN_VALUE:
        large = [name for name, size in sizes.items() if size > SMALL_BYTES]
        if sum(NAMING_BYTES + len(name) for name in large) > MOST_NAMED:
            raise ValueError(f"outputs: {len(large)} large files match; pack them into fewer")
        files = [File(name, work.keep_file(found.pop(name), take=take)) for name in large]
    if sum(sizes[name] for name in found) <= INLINE_BYTES:
        value = {"exit_code": 0, "outputs": {name: path.read_bytes() for name, path in found.items()}}
        return bytes(msgpack.packb(value)), files
    return _write(found, sizes, work), files


def _find(folder: Path, patterns: Sequence[str]) -> dict[str, Path]:
    """Regular files inside the folder, by their path in it. Links are passed over: they may lead anywhere."""
    found: dict[str, Path] = {}
    home = folder.resolve()
    for pattern in patterns:
        check_pattern(pattern)
        for match in sorted(folder.glob(pattern)):
            for path in sorted(match.rglob("*")) if match.is_dir() and not match.is_symlink() else [match]:
                inside = path.parent.resolve().is_relative_to(home)
                if inside and stat.S_ISREG(path.lstat().st_mode):
                    found[path.relative_to(folder).as_posix()] = path
    if len(found) > MOST_FILES:
        raise ValueError(f"outputs: {len(found)} files match; at most {MOST_FILES} are kept. Pack them into one")
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write(found: dict[str, Path], sizes: dict[str, int], work: WorkFolder) -> Blob:
    partial = work.blobs / f"{outputs_prefix()}{id(found)}.part"
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    packer = msgpack.Packer(autoreset=True)
    try:
        with partial.open("wb") as file:

            def put(data: bytes) -> None:
                digest.update(data)
                file.write(data)

            put(packer.pack_map_header(2) + packer.pack("exit_code") + packer.pack(0) + packer.pack("outputs"))
            put(packer.pack_map_header(len(found)))
            for name, path in found.items():
                put(packer.pack(name) + b"\xc6" + sizes[name].to_bytes(4, "big"))
                left = sizes[name]
                with path.open("rb") as source:
                    while left and (data := source.read(min(READ_BYTES, left))):
                        put(data)
                        left -= len(data)
                if left:
                    raise ValueError(f"the output {name!r} became shorter while it was read")
            size = file.tell()
        blob = Blob(digest.digest(), size)
        target = work.blob_path(blob)
        partial.rename(target)
        if work.keep:
            settle(target)
        return blob
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
