"""How a job is, and what is kept of one that has ended: ``{job}.json`` in the batch's folder."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    """Where a job is. The words are those of the manual."""

    INIT = "init"
    RUNNING = "running"
    SUCCEED = "succeed"
    FAILED = "failed"
    KILLED = "killed"  # somebody ended it with ``job kill``
    INTERRUPTED = "interrupted"  # the run was ended while it ran


ENDS = frozenset({State.SUCCEED, State.FAILED, State.KILLED, State.INTERRUPTED})


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended. Times are Unix seconds, ``elapsed`` is seconds."""

    name: str
    status: State
    content: str  # hash of what it was
    runs: int = 1  # ends that were recorded
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    message: str = ""
    host: str = ""
    attempts: int = 0
    start_datetime: float | None = None
    end_datetime: float | None = None
    elapsed: float | None = None
    task: str = ""
    ext: dict[str, Any] = {}


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs a batch: ``run.json``, there from the start of a run to its end.

    One that is found without anybody holding the lock is of a run that was killed: ``run`` names its tasks on the bus.
    """

    run: str
    pid: int
    host: str
    since: float
    bus: str
    private: bool = True
    portal: str = ""

    @property
    def mark(self) -> str:
        """What tells the run's machines from all else on a bus that is not its own; nothing on a private one."""
        return "" if self.private else self.run[:8]
