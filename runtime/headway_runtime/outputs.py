"""The files that a script or command leaves for whoever submitted it: ``outputs=["model/*"]``. Blocks on the disk: for a thread.

They are the attempt's result, beside its exit status: a small one travels in the report, a larger one is written, file by
file and so without memory growing, into the folder of large values, and is brought to the controller like any large result.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgpack

from headway_bus.records import Blob
from headway_runtime.files import HASH_BYTES, WorkFolder, outputs_prefix, settle

INLINE_BYTES = 64 * 1024
READ_BYTES = 1024 * 1024
MOST_FILES = 10_000
MOST_BYTES = 2**32 - 1
"""Of one file: the longest piece of bytes that msgpack has a form for."""


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a pattern that leads out of the attempt's folder."""
    pure = PurePosixPath(pattern)
    if not pattern or pure.is_absolute() or ".." in pure.parts or "\0" in pattern:
        raise ValueError(f"outputs: {pattern!r} does not stay within the attempt's folder")


def collect(folder: str, patterns: Sequence[str], work: WorkFolder) -> bytes | Blob:
    """The result: ``{"exit_code": 0, "outputs": {path: bytes}}``, encoded. Raises ValueError, OSError."""
    found = _find(Path(folder), patterns)
    sizes = {name: os.stat(path).st_size for name, path in found.items()}  # noqa: PTH116
    for name, size in sizes.items():
        if size > MOST_BYTES:
            raise ValueError(f"the output {name!r} has {size} bytes; one file may have {MOST_BYTES}")
    if sum(sizes.values()) <= INLINE_BYTES:
        value = {"exit_code": 0, "outputs": {name: path.read_bytes() for name, path in found.items()}}
        return bytes(msgpack.packb(value))
    return _write(found, sizes, work)


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
