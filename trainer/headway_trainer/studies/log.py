"""The append-only file of a study: one JSON object a line, the first of them its settings.

A line that was cut off by a kill is the last one; it is dropped, and what it would have said is done again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from headway_trainer.errors import TrainerError


class StudyLog:
    """Appends to one file. Each record reaches the system before ``append`` returns: a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] = path.open("ab", buffering=0)

    def append(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps(record, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        self._stream.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole records; a torn last line is cut off the file. Raises TrainerError for damage anywhere else."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}") from None
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as stream:
            stream.truncate(whole)
    records = []
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise TrainerError(f"{path}, line {number}: not a record of a study")
        records.append(record)
    return records
