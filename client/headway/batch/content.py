"""What makes a job the same as the last time: its command, parameters, working folder, assets and environment.

Assets count by what is in them, not by their dates: a copy, or a checkout, is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from headway.batch.config import Job, place

READ_BYTES = 1 << 20


class Contents:
    """Hashes of jobs. Assets that several jobs share are read once."""

    def __init__(self, folder: Path, environments: Mapping[str, str]) -> None:
        self._folder = folder
        self._environments = dict(environments)
        self._assets: dict[Path, str] = {}

    def of(self, job: Job) -> str:
        """The hash of a job, in hex."""
        parts = {
            "command": job.command,
            "params": job.params,
            "working_dir": job.working_dir,
            "assets": [[Path(each).name, self._asset(place(each, self._folder))] for each in job.assets],
            "environments": self._environments,
        }
        text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _asset(self, path: Path) -> str:
        found = self._assets.get(path)
        if found is None:
            found = self._assets[path] = hash_of_tree(path)
        return found


def hash_of_tree(path: Path) -> str:
    """The hash of a file, or of a folder with the names and contents of all that is in it. Raises OSError."""
    total = hashlib.blake2b(digest_size=16)
    if not path.is_dir():
        _add_file(total, path)
        return total.hexdigest()
    for where, folders, files in os.walk(path):
        folders.sort()
        for name in sorted([*folders, *files]):
            inner = Path(where) / name
            mark = "d" if inner.is_dir() else "f"
            total.update(f"{mark}{inner.relative_to(path).as_posix()}\0".encode("utf-8", "surrogateescape"))
            if mark == "f":
                _add_file(total, inner)
    return total.hexdigest()


def _add_file(total: hashlib.blake2b, path: Path) -> None:
    with path.open("rb") as file:
        total.update(f"{os.fstat(file.fileno()).st_size}\0".encode())
        while data := file.read(READ_BYTES):
            total.update(data)
