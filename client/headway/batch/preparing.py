"""A job's folder as it is before the start. The first ones are made while the private bus is still starting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from shlex import quote

from headway.batch.book import Entry
from headway.batch.config import Loaded, place
from headway.batch.folder import BatchFolder
from headway.batch.records import State
from headway.batch.script import params_bytes, run_script


class Preparer:
    """Makes jobs' folders, each once. ``portal``: where the batch answers over HTTP, and the token for it."""

    def __init__(self, loaded: Loaded, folder: BatchFolder, portal: tuple[str, str]) -> None:
        self._loaded = loaded
        self._folder = folder
        self._portal = portal
        self._made: set[str] = set()

    def ahead(self, entries: Iterable[Entry], is_enough: Callable[[], bool]) -> None:
        """Make folders until it is enough. Not where a job may turn out to be too large for this machine: then none is made."""
        if any(entry.job.resource.is_asked for entry in self._entries(entries)):
            return
        for entry in self._entries(entries):
            if is_enough():
                return
            self.prepare(entry)

    @staticmethod
    def _entries(entries: Iterable[Entry]) -> Iterable[Entry]:
        return (entry for entry in entries if entry.is_open)

    def prepare(self, entry: Entry, resumed: bool = False) -> None:
        """Make the job's folder, unless its task, submitted by a run that was killed, may be at work in it."""
        if entry.name in self._made:
            return
        self._made.add(entry.name)
        path, loaded = self._folder.job_path(entry.name), self._loaded
        working = place(entry.job.working_dir, loaded.folder) if entry.job.working_dir else path
        mark = f"{path}.{State.RUNNING}"
        script = run_script(entry.job, loaded.name, path, quote(str(working)), loaded.environments, self._portal, mark)
        interrupted = resumed and entry.before in (State.INIT, State.INTERRUPTED)
        if interrupted and self._folder.has_script(entry.name, script):
            return
        known = entry.before is not State.INIT
        self._folder.prepare(entry.job, script, params_bytes(entry.job), loaded.folder, known)
