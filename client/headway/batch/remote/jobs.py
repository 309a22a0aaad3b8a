"""The jobs of a batch as machines see them: what each gets to begin with, and what comes back into its folder here."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from headway.batch.book import Entry
from headway.batch.config import Job, Loaded, Machine, place, plain_text
from headway.batch.folder import BatchFolder, cannot_write
from headway.batch.names import file_name
from headway.batch.records import ENDS
from headway.batch.remote.errors import MachineError
from headway.batch.remote.frames import inner_path
from headway.batch.script import params_bytes, run_script

STREAMS = ("stdout", "stderr")


@dataclass
class Jobs:
    """Who works on what. ``owners``: which machine began a job last; only its output counts. Jobs go by their folders' names."""

    loaded: Loaded
    folder: BatchFolder
    entries: dict[str, Entry]
    portal: tuple[str, str] = ("", "")
    owners: dict[str, str] = field(default_factory=dict)
    assets: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: Loaded, folder: BatchFolder, entries: dict[str, Entry], portal: tuple[str, str]) -> Jobs:
        return cls(loaded, folder, {file_name(name): entry for name, entry in entries.items()}, portal)

    def begin(self, job: str, machine: str, record: Machine, root: str) -> tuple[bytes, bytes]:
        """A job is about to start there: make its folder here anew. Returns its script and its parameters.

        Raises MachineError for a job that does not exist, BatchError if the disk does not take it.
        """
        entry = self.entries.get(job)
        if entry is None or entry.state in ENDS:
            raise MachineError(f"it asks for a job that is not to run: {job!r}")
        there = PurePosixPath(root, "jobs", job)
        environments = {name: plain_text(value) for name, value in record.environments.items()}
        script = run_script(
            entry.job, self.loaded.name, there, working_word(entry.job.working_dir, there), environments, self.portal
        )
        params = params_bytes(entry.job)
        self.owners[job] = machine
        bare = msgspec.structs.replace(entry.job, assets=[])
        self.folder.prepare(bare, script, params, self.loaded.folder)
        for stream in STREAMS:  # they are there from the start, as when the shell here opens them
            self.take(job, {"path": stream, "offset": 0}, b"")
        self.folder.mark_running(entry.name)
        return script.encode("utf-8", "surrogateescape"), params

    def assets_of(self, job: str) -> list[tuple[Path, str, str]]:
        """Each asset of a job: where it lies here, the number it has there, and its name."""
        found: Job = self.entries[job].job
        paths = [place(asset, self.loaded.folder) for asset in found.assets]
        return [(path, self.assets.setdefault(path, str(len(self.assets))), path.name) for path in paths]

    def is_owner(self, job: Any, machine: str) -> bool:
        return isinstance(job, str) and job in self.entries and self.owners.get(job) == machine

    def take_folder(self, job: str, path: Any) -> None:
        """A folder that the job has made."""
        target = self._target(job, path)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(target, error) from None

    def take(self, job: str, header: dict[str, Any], data: bytes) -> None:
        """A part of a file that the job has written. Raises BatchError if the disk does not take it."""
        target, offset = self._target(job, header.get("path")), header.get("offset")
        if not isinstance(offset, int) or offset < 0:
            raise MachineError(f"it sends a part of a file at {offset!r}")
        mode = header.get("mode", 0o644)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (0 if offset else os.O_TRUNC)
            descriptor = os.open(target, flags, (mode if isinstance(mode, int) else 0o644) & 0o777 | 0o600)
            try:
                os.lseek(descriptor, offset, os.SEEK_SET)
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write(target, error) from None

    def _target(self, job: str, path: Any) -> Path:
        return self.folder.path / job / inner_path(path)


def working_word(working_dir: str | None, folder: PurePosixPath) -> str:
    """The working folder as a word for the shell there; a relative one starts from the home folder."""
    if not working_dir:
        return shlex.quote(str(folder))
    if working_dir.startswith("/"):
        return shlex.quote(working_dir)
    inner = working_dir.removeprefix("~").lstrip("/")
    return f'"$HOME"/{shlex.quote(inner)}' if inner else '"$HOME"'
