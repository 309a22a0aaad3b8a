"""The Python face of batches: ``Batch`` is one, ``run_batch`` runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headway.batch.book import Selection, summary_of
from headway.batch.callbacks import Callback
from headway.batch.config import Loaded, load
from headway.batch.errors import BatchError, BatchFileError
from headway.batch.folder import BatchFolder
from headway.batch.reading import read_tree
from headway.batch.records import State
from headway.batch.running import Options, Result, run_loaded

NOT_START, RUNNING, FINISHED = "NOT_START", "RUNNING", "FINISHED"


class Batch:
    """Jobs under one name. Fields are those of a batch file; what is wrong with them is told by :meth:`add_job` or a run.

    ``data_dir``: the folder of all batches; None: as the environment says. Other fields of a batch file (``backend``,
    ``scheduler``, …) go by their names.
    """

    def __init__(
        self, name: str, job_command: str | None = None, data_dir: str | Path | None = None, **fields: Any
    ) -> None:
        self._tree: dict[str, Any] = {"name": name, "jobs": [], **fields}
        if job_command is not None:
            self._tree["job_command"] = job_command
        if data_dir is not None:
            self._tree["batches_data_dir"] = str(data_dir)
        self._origin = Path.cwd()

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | Path, data_dir: str | Path | None = None) -> Batch:
        """A batch from a file, or from what :meth:`to_config` gave. Raises BatchFileError."""
        if isinstance(source, Mapping):
            tree, origin = dict(source), Path.cwd()
        else:
            tree, origin = read_tree(Path(source)), Path(source).absolute().parent
        jobs = tree.pop("jobs", None) or tree.pop("job", None) or []
        batch = cls(data_dir=data_dir, **{"name": "", **tree})
        batch._origin = origin
        batch._tree["jobs"] = list(jobs)
        return batch

    def add_job(self, name: str | None = None, params: Mapping[str, Any] | None = None, **fields: Any) -> Batch:
        """Add a job: ``command``, ``working_dir``, ``assets``, ``resource``, ``timeout``, ``max_attempts`` by their names."""
        if name is not None and any(job.get("name") == name for job in self._tree["jobs"]):
            raise BatchFileError(f"batch {self.name}: there is a job {name!r} already; expected another name")
        given = {"name": name, "params": dict(params or {}), **fields}
        self._tree["jobs"].append({key: value for key, value in given.items() if value is not None})
        return self

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def name(self) -> str:
        return str(self._tree["name"])

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The jobs as plain data."""
        return [dict(job) for job in self._tree["jobs"]]

    def get_job_by_name(self, name: str) -> dict[str, Any] | None:
        """The job of this name, or None."""
        return next((job for job in self.jobs if job.get("name") == name), None)

    def to_config(self) -> dict[str, Any]:
        """The batch as a batch file has it, which :meth:`load` takes."""
        return {**self._tree, "jobs": self.jobs}

    def checked(self) -> Loaded:
        """The batch with every field checked. Raises BatchFileError."""
        return load(self._tree, f"batch {self.name}", self._origin)

    # ------------------------------------------------------------------------------------------------ how it is

    @property
    def folder(self) -> Path:
        """Where it lies once it has been run: ``{data_dir}/{name}``."""
        return self._folder().path

    def get_persisted_job_status(self, name: str) -> str:
        """How the job is, by what lies in the folder: init, running, succeed, failed, killed, interrupted."""
        return str(self._folder().states([name])[name])

    def summary(self) -> dict[str, Any]:
        """``{name, status, total, failed, init, succeed, running}``."""
        states = self._states()
        return {"name": self.name, "status": self.status(), **summary_of(Counter(states.values()), len(states))}

    def status(self) -> str:
        """NOT_START, RUNNING or FINISHED."""
        if self._folder().is_locked():
            return RUNNING
        return FINISHED if (self._folder().path / "config.json").exists() else NOT_START

    def is_finished(self) -> bool:
        """Whether every job has come to an end of its own: succeeded, failed or killed."""
        ends = {State.SUCCEED, State.FAILED, State.KILLED}
        return all(state in ends for state in self._states().values())

    def _states(self) -> dict[str, State]:
        return self._folder().states(str(job.name) for job in self.checked().jobs)

    def _folder(self) -> BatchFolder:
        return BatchFolder.of(self.checked().batches_folder, self.name)


def run_batch(
    batch: Batch | Mapping[str, Any] | str | Path,
    callbacks: Iterable[Callback] = (),
    *,
    bus: str | None = None,
    slots: float | None = None,
    only: Iterable[str] = (),
    keep_failed: bool = False,
    force: bool = False,
    accept_new_hosts: bool = False,
) -> Result:
    """Run a batch, a batch file, or a batch as plain data, and return when it is over.

    ``bus``: the address of a bus to run it on, None: a private one with ``slots`` jobs at the same time. Raises
    BatchFileError before anything runs, BatchBusy if another process runs it, BatchError, BusError. That jobs fail is no
    error: the result says so.
    """
    if isinstance(only, str):
        raise BatchError(f"only={only!r}: expected a list of names")
    made = batch if isinstance(batch, Batch) else Batch.load(batch)
    options = Options(Selection(frozenset(only), keep_failed, force), bus, slots, accept_new_hosts=accept_new_hosts)
    return run_loaded(made.checked(), options, callbacks)
