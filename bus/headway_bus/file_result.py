"""A file as the result of a call: it travels by itself, in parts, and is never in memory as a value would be."""

from __future__ import annotations

from pathlib import Path


class FileResult:
    """What a callable returns whose value is a file's content. The file is read before the attempt counts as ended.

    Who waits for the task gets the content as bytes, or saves it to a file: see ``Task.save``.
    """

    __slots__ = ("path",)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
