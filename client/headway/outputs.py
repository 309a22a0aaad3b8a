"""What a task left beside its value: the outputs of a script or command, and files that are a call's result.

Small ones are part of the value. Large ones lie on the bus by their hash, and are fetched when somebody wants them: into
memory as far as they fit into one value, or a part at a time into a file.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.blobs import fetch, fetch_file
from headway_bus import copying
from headway_bus.copying import write_whole
from headway_bus.errors import PayloadError, TooLarge
from headway_bus.records import Blob, File

if TYPE_CHECKING:
    from headway.connection import Connection


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a task left: its path there and its bytes, as a number. ``content``: themselves, or where they lie."""

    path: str
    size: int
    content: bytes | Blob


def outputs_of(value: Any, files: Sequence[File]) -> dict[str, Output]:
    """All that a task left, by path; empty for a value that holds no files. One without a path is the value itself."""
    if files and not files[0].path:
        return {"": Output("", files[0].content.size, files[0].content)}
    if isinstance(value, bytes):
        return {"": Output("", len(value), value)}
    inside = value.get("outputs") if isinstance(value, dict) else None
    named = inside.items() if isinstance(inside, dict) else ()
    found = {
        path: Output(path, len(data), data)
        for path, data in named
        if isinstance(path, str) and path and isinstance(data, bytes)  # a call may return what looks like it
    }
    found.update((file.path, Output(file.path, file.content.size, file.content)) for file in files)
    return dict(sorted(found.items()))


async def with_files(connection: Connection, value: Any, files: Sequence[File]) -> Any:
    """The value with the files in their places. Raises TooLarge where they are more than one value may be."""
    size, limit = sum(file.content.size for file in files), connection.limits.payload_limit
    if size > limit:
        raise TooLarge(
            f"the task left {size} bytes in {len(files)} files, and a value here may have {limit} ([bus] payload_limit in "
            "config.toml, or HEADWAY_BUS_PAYLOAD_LIMIT); nothing was fetched. task.save(folder) or `headway outputs ID FOLDER` "
            "writes them to the disk, whatever their size"
        )
    for file in files:
        content = bytes(await fetch(connection, file.content))
        if not file.path:
            return content
        value["outputs"][file.path] = content
    return value


async def save(connection: Connection, outputs: dict[str, Output], target: Path) -> list[Path]:
    """Write them below the folder ``target``; the one without a path is written to ``target`` itself.

    Each file is there whole or not at all. Raises PayloadError for a path that leads out, before any is written; OSError.
    """
    if not outputs:
        raise PayloadError("the task left no files: a script's are kept if it is submitted with outputs=[PATTERN]")
    places = {path: await asyncio.to_thread(_place_of, target, path) for path in outputs}
    for path, place in places.items():
        output = outputs[path]
        if isinstance(output.content, Blob):
            await fetch_file(connection, output.content, place)
        else:
            write_whole(place, output.content)
    return list(places.values())


def _place_of(target: Path, path: str) -> Path:
    """Where it is written. Raises PayloadError where that is not below the target, be it by a link that was there before."""
    place = target / path if path else target
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of that name; nothing was written", str(place))
    if not path:
        return place
    if not copying.stays_within(path, everywhere=False):
        raise PayloadError(f"the path {path!r} does not stay within the folder {target}; nothing was written")
    if not place.parent.resolve().is_relative_to(target.resolve()):
        raise PayloadError(f"{place.parent} leads out of the folder {target} by a link; nothing was written")
    return place
