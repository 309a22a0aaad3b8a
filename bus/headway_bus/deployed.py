"""Files that were brought to a machine to stay there: a model that was trained elsewhere, for a script that predicts here.

They lie in one folder, by the name that they were given: ``$HEADWAY_DEPLOYED``, or ``deployed`` in the state folder.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

from headway_bus import copying, task_context
from headway_bus.config import state_folder
from headway_bus.copying import HASH_BYTES

VARIABLE = "HEADWAY_DEPLOYED"


def folder() -> Path:
    """Where they lie on this machine."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else state_folder() / "deployed"


def path_of(name: str) -> Path:
    """Where the file of that name lies, or would. Raises ValueError for a name that leads out of the folder."""
    pure = PurePosixPath(name)
    if not pure.name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} is no name for a deployed file; expected a relative path without '..'")
    return folder() / pure


def place(name: str, content: bytes) -> dict[str, object]:
    """Put a file there, whole or not at all, in the place of an earlier one. Runs as a task on the machine that gets it."""
    target = path_of(name)
    write_whole(target, content)
    digest = hashlib.blake2b(content, digest_size=HASH_BYTES).hexdigest()
    return {"path": str(target), "size": len(content), "hash": digest}


def place_file(name: str) -> dict[str, object]:
    """The same with a file that came with the task under this name."""
    target = path_of(name)
    source = task_context.current().files[name]
    copying.copy_whole(source, target)
    return {"path": str(target), "size": target.stat().st_size, "hash": source.name}


def write_whole(target: Path, content: bytes) -> None:
    """Write a file, with fsync, whole or not at all, in the place of an earlier one. Its folder is made. Raises OSError."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
