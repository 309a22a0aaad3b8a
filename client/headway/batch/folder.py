"""The folder of a batch, ``{batches_data_dir}/{batch}``, and everything that is read and written in it.

::

    config.json            the batch as it was run, without secrets
    run.json               who runs it, while somebody does
    lock                   held while somebody does; by the private bus, too, until its last job is gone
    {job}.running …        empty: the state of a job, one of running, succeed, failed, killed, interrupted
    {job}.json             how it ended
    {job}/                 run.sh, params.json, stdout, stderr, resources/

The status files are the truth about states, the JSON files tell the rest. Files that others read are written beside and
then moved, so that nobody ever reads half of one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from headway.batch.config import Config, Job, place
from headway.batch.errors import BatchError
from headway.batch.names import STATUS_SUFFIXES, file_name
from headway.batch.records import JobRecord, RunInfo, State

RESOURCES = "resources"
SECRET_FIELDS = frozenset({"password", "passphrase"})
SECRET_NAMES = re.compile(r"pass|secret|token|credential|key", re.IGNORECASE)
HIDDEN = "***"
TAIL_BYTES = 2000
FOR_OWNER = 0o700
"""The script holds the environment's values, which are nobody else's business."""


class BatchFolder:
    """One batch's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = str(path)  # what is done for every job is done with text: a Path costs more than the file does

    @classmethod
    def of(cls, batches: Path, name: str) -> BatchFolder:
        """The folder of the batch of this name among the batches."""
        return cls(batches / file_name(name))

    def make(self) -> None:
        """Make it if it is not there. Raises BatchError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    # ------------------------------------------------------------------------------------------------ the batch

    def write_config(self, config: Config) -> None:
        """Keep the batch as it is run, with its secrets hidden."""
        data = msgspec.json.encode(without_secrets(msgspec.to_builtins(config)))
        write_whole(self.path / "config.json", msgspec.json.format(data, indent=4))

    def read_config(self) -> dict[str, Any] | None:
        """The batch as it was run, as plain data; None if there is none that can be read."""
        try:
            found = msgspec.json.decode((self.path / "config.json").read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return found if isinstance(found, dict) and isinstance(found.get("jobs"), list) else None

    def write_run(self, info: RunInfo) -> None:
        write_whole(self.path / "run.json", msgspec.json.encode(info))

    def read_run(self) -> RunInfo | None:
        """Who runs it, or ran it when it was killed."""
        found: RunInfo | None = _read(self.path / "run.json", RunInfo)
        return found

    def forget_run(self) -> None:
        (self.path / "run.json").unlink(missing_ok=True)

    def is_locked(self) -> bool:
        """Whether somebody runs it now."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES)
        finally:
            os.close(descriptor)
        return False

    def lock(self) -> int | None:
        """The descriptor that holds the lock, inheritable; None if another has it. Closing it lets go."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    # ------------------------------------------------------------------------------------------------ its jobs

    def job_path(self, name: str) -> Path:
        """The job's own folder."""
        return self.path / file_name(name)

    def states(self, names: Iterable[str]) -> dict[str, State]:
        """How these jobs are. What is marked as running while nobody runs the batch was interrupted."""
        try:
            there = {entry.name for entry in os.scandir(self.path)}
        except OSError:
            there = set()
        names = list(names)
        found = {name: _state(file_name(name), there) for name in names}
        if State.RUNNING in found.values() and not self.is_locked():
            found = {name: State.INTERRUPTED if state is State.RUNNING else state for name, state in found.items()}
        return found

    def read_record(self, name: str) -> JobRecord | None:
        """How the job ended the last time; None if it has not, or what is there cannot be read."""
        found: JobRecord | None = _read(self.path / f"{file_name(name)}.json", JobRecord)
        return found

    def write_record(self, record: JobRecord) -> None:
        """Keep how a job ended, and mark its state. Raises BatchError if the disk does not take it."""
        base = file_name(record.name)
        write_whole(f"{self._text}/{base}.json", msgspec.json.encode(record))
        self._mark(base, record.status)

    def mark_running(self, name: str) -> None:
        """The job runs; said here where it cannot say it itself. Raises BatchError."""
        base = file_name(name)
        try:
            _put(f"{self._text}/{base}.{State.RUNNING}", b"")
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def clear_state(self, name: str) -> None:
        """The job is to run: forget how it was."""
        base = f"{self._text}/{file_name(name)}"
        try:
            for suffix in STATUS_SUFFIXES:
                with suppress(FileNotFoundError):
                    os.unlink(f"{base}.{suffix}")  # noqa: PTH108 (five of them for each job)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _mark(self, base: str, state: State) -> None:
        """The job's one status file: what says that it runs becomes what says how it ended."""
        marked = f"{self._text}/{base}.{state}"
        try:
            try:
                os.replace(f"{self._text}/{base}.{State.RUNNING}", marked)  # noqa: PTH105
            except FileNotFoundError:
                _put(marked, b"")
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def has_script(self, name: str, script: str) -> bool:
        """Whether the job's folder was made ready for this very script."""
        try:
            return (self.job_path(name) / "run.sh").read_text(encoding="utf-8", errors="surrogateescape") == script
        except OSError:
            return False

    def prepare(self, job: Job, script: str, params: bytes, origin: Path, known: bool = True) -> None:
        """Make the job's folder as it is before the start.

        ``origin``: what its assets' paths start from. ``known``: whether it may have run before and have left something.
        """
        path = f"{self._text}/{file_name(str(job.name))}"
        try:
            if not _made(path):
                _clean(Path(path))
            if known:
                self.clear_state(str(job.name))
            _put(f"{path}/params.json", params)
            if job.assets:
                _copy_assets(job.assets, origin, Path(path, RESOURCES))
            # Last: a folder with its script is a folder that is ready.
            _put(f"{path}/run.sh", script.encode("utf-8", "surrogateescape"), FOR_OWNER)
        except shutil.Error as error:
            raise BatchError(f"{path}/{RESOURCES}: cannot be filled: {error}") from None
        except OSError as error:
            raise cannot_write(Path(path), error) from None


def _made(path: str) -> bool:
    """Make the folder; whether it was not there."""
    try:
        os.mkdir(path)  # noqa: PTH102 (a Path costs more than the folder)
    except FileExistsError:
        return False
    return True


def _clean(folder: Path) -> None:
    """What an earlier run of the job has left, and this one makes anew."""
    for stale in ("run.sh", "stdout", "stderr"):
        (folder / stale).unlink(missing_ok=True)
    if (folder / RESOURCES).exists():
        shutil.rmtree(folder / RESOURCES)


def _state(base: str, there: set[str]) -> State:
    for state in (State.RUNNING, State.SUCCEED, State.FAILED, State.KILLED, State.INTERRUPTED):
        if f"{base}.{state}" in there:
            return state
    return State.INIT


def _copy_assets(assets: Iterable[str], origin: Path, resources: Path) -> None:
    resources.mkdir()
    for asset in assets:
        source = place(asset, origin)
        if source.is_dir():
            shutil.copytree(source, resources / source.name, symlinks=True)
        else:
            shutil.copy2(source, resources / source.name)


def _put(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a file. A batch writes four small ones for each job, and Python's files cost twice what this does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None


def write_whole(path: Path | str, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one. Raises BatchError."""
    beside = f"{path}.part"
    try:
        _put(beside, data)
        os.replace(beside, path)  # noqa: PTH105 (one for each job)
    except OSError as error:
        raise cannot_write(Path(path), error) from None


def cannot_write(path: Path, error: OSError) -> BatchError:
    """What the person is told: the file, the reason, and what to do if the disk is full."""
    advice = "; make room and run the batch again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return BatchError(f"{error.filename or path}: cannot be written: {error.strerror}{advice}")


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """The batch as plain data with passwords, and variables whose names sound like one, hidden."""
    found = dict(config)
    if isinstance(found.get("backend"), Mapping):
        found["backend"] = _hidden(found["backend"])
    return found


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _hidden_environments(inner)
            if name == "environments"
            else HIDDEN
            if name in SECRET_FIELDS and inner is not None
            else _hidden(inner)
            for name, inner in value.items()
        }
    return [_hidden(each) for each in value] if isinstance(value, list) else value


def _hidden_environments(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: HIDDEN if SECRET_NAMES.search(name) else inner for name, inner in value.items()}


def last_line_of(path: Path) -> str:
    """The last line that is not empty at the end of a file; nothing if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    kept = [line.strip() for line in lines if line.strip()]
    return "".join(each if each.isprintable() else " " for each in kept[-1].rpartition("\r")[2]) if kept else ""
