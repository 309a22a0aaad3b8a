"""The state of a run: who is where, who is skipped and why. Touches no file, no socket and no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from headway.batch.config import Job
from headway.batch.records import ENDS, JobRecord, State
from headway_bus.records import Estimate


class Choice(StrEnum):
    """What a run does with a job."""

    RUN = "run"
    SKIP = "skip"  # it is done, or a failed one is to be kept
    LEAVE = "leave"  # not among those that were named


@dataclass(frozen=True)
class Selection:
    """Which jobs a person wants. ``only``: their names, none: all."""

    only: Collection[str] = ()
    keep_failed: bool = False
    force: bool = False

    def choose(self, name: str, state: State, record: JobRecord | None, content: str) -> Choice:
        """A job is skipped only if it succeeded and is what it was. One that failed runs again, unless it is kept."""
        if self.only and name not in self.only:
            return Choice.LEAVE
        if self.force or record is None or record.content != content or record.status != state:
            return Choice.RUN
        if state is State.SUCCEED or (self.keep_failed and state in (State.FAILED, State.KILLED)):
            return Choice.SKIP
        return Choice.RUN


@dataclass
class Entry:
    """A job in this run. ``before``: how the run found it. Times are Unix seconds."""

    job: Job
    content: str
    choice: Choice
    state: State
    before: State = State.INIT
    runs: int = 0
    record: JobRecord | None = None
    task: str = ""
    runtime: str = ""
    started: float = 0.0
    ended: float = 0.0
    told_started: bool = False
    last_line: str = ""

    @property
    def name(self) -> str:
        return str(self.job.name)

    @property
    def is_open(self) -> bool:
        """Whether this run has yet to see its end."""
        return self.choice is Choice.RUN and self.state not in ENDS

    def elapsed(self, now: float) -> float | None:
        """Seconds that it ran, or runs."""
        if self.state is State.RUNNING and self.started:
            return max(0.0, now - self.started)
        return self.record.elapsed if self.record is not None and self.state in ENDS else None


@dataclass
class Book:
    """All jobs of a run, in the order of the file."""

    batch: str
    entries: dict[str, Entry]
    began: float
    left: Estimate | None = None
    """Seconds that the rest is predicted to take."""

    by_task: dict[str, Entry] = field(default_factory=dict)
    _perhaps_open: list[Entry] = field(default_factory=list)
    _begun: dict[str, tuple[float, str]] = field(default_factory=dict)
    """When and where tasks began whose submission has not been answered yet: word of that may come first."""

    def __post_init__(self) -> None:
        self._perhaps_open = list(self.entries.values())

    @classmethod
    def of(cls, batch: str, entries: Iterable[Entry], began: float) -> Book:
        return cls(batch, {entry.name: entry for entry in entries}, began)

    def chosen(self, choice: Choice) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.choice is choice]

    @property
    def open(self) -> list[Entry]:
        """Those whose end is awaited."""
        return [entry for entry in self.entries.values() if entry.is_open]

    @property
    def has_open(self) -> bool:
        """Whether an end is awaited. Asked after every end, so it looks at each job once: none opens again."""
        while self._perhaps_open and not self._perhaps_open[-1].is_open:
            self._perhaps_open.pop()
        return bool(self._perhaps_open)

    def on_submitted(self, entry: Entry, task: str) -> Entry | None:
        """The bus has accepted a job's task; returns the job if it has begun meanwhile."""
        entry.task = task
        self.by_task[task] = entry
        begun = self._begun.pop(task, None)
        return self.on_started(task, *begun) if begun is not None else None

    def on_started(self, task: str, at: float, runtime: str) -> Entry | None:
        """A task runs; returns its job the first time."""
        entry = self.by_task.get(task)
        if entry is None:
            self._begun[task] = (at, runtime)
            return None
        if entry.state in ENDS:
            return None
        entry.state, entry.runtime, entry.started = State.RUNNING, runtime, at
        first, entry.told_started = not entry.told_started, True
        return entry if first else None

    def on_ended(self, entry: Entry, record: JobRecord) -> None:
        entry.record, entry.state = record, record.status
        entry.runtime = record.host or entry.runtime
        entry.started, entry.ended = record.start_datetime or 0.0, record.end_datetime or 0.0

    def counts(self) -> dict[str, int]:
        """Jobs by state, with those of the manual always there."""
        found = Counter(entry.state for entry in self.entries.values())
        return summary_of(found, len(self.entries))

    @property
    def all_succeeded(self) -> bool:
        """Whether every job that the run was about has succeeded, now or before."""
        return all(entry.state is State.SUCCEED for entry in self.entries.values() if entry.choice is not Choice.LEAVE)


def summary_of(states: Counter[State], total: int) -> dict[str, int]:
    """Counts in the words of the manual; killed and interrupted ones only where there are some."""
    words = (State.FAILED, State.INIT, State.SUCCEED, State.RUNNING)
    found = {"total": total, **{str(word): states.get(word, 0) for word in words}}
    return found | {str(word): states[word] for word in (State.KILLED, State.INTERRUPTED) if states.get(word)}
