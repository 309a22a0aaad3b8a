"""Files that were brought to a machine to stay there: a model that was trained elsewhere, for a script that predicts here.

They lie in one folder, by the name that they were given: ``$HEADWAY_DEPLOYED``, or ``deployed`` in the state folder.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from headway_bus import copying, task_context
from headway_bus.config import state_folder

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


def place_file(name: str) -> dict[str, object]:
    """Put a file that came with the task there, whole or not at all, in the place of an earlier one.

    Runs as a task on the machine that gets it.
    """
    target = path_of(name)
    source = task_context.current().files[name]
    copying.copy_whole(source, target)
    return {"path": str(target), "size": target.stat().st_size, "hash": source.name}
