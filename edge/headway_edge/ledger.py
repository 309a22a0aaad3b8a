"""What the agent's core asks of its spool: records that outlive the process. The core works on anything of this shape.

Changes take effect for the reader at once and are on disk after ``commit``. Nothing that the agent does may be seen outside,
no message and no started process, before what led to it is committed: that is all of the spool's order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.messages import Report
from headway_bus.records import Blob, Ended, Options


@dataclass(slots=True)
class StoredAttempt:
    """An attempt that was taken in and whose end is in no report yet."""

    key: AttemptKey
    options: Options
    payload: Frame | Blob
    gpus: list[int] = field(default_factory=list)
    starts: int = 0
    """How often it was begun; more than once only where its options say that it is resumable."""

    outcome: Ended | None = None
    """Its end, whose large result has not been brought to the controller yet."""


@dataclass(slots=True)
class StoredReport:
    """A report that the controller has not confirmed. ``made``: Unix time by the agent's clock, for ages after a restart."""

    number: int
    report: Report
    frames: list[Frame]
    made: float
    is_logs: bool = False
    frame_bytes: int = 0
    """Of the frames, where they were left out (see ``Ledger.reports``)."""


class Ledger(Protocol):
    """See :class:`headway_edge.spool.Spool`; tests have one in memory."""

    def add_attempt(self, attempt: StoredAttempt) -> None: ...
    def note_start(self, key: AttemptKey) -> None: ...
    def note_outcome(self, key: AttemptKey, outcome: Ended) -> None: ...
    def remove_attempt(self, key: AttemptKey) -> None: ...
    def add_report(self, report: StoredReport) -> None: ...
    def report(self, number: int) -> StoredReport: ...
    def remove_reports(self, numbers: Iterable[int]) -> None: ...
    def note(self, name: str, value: bytes) -> None: ...
    def noted(self, name: str) -> bytes: ...
    def attempts(self) -> list[StoredAttempt]: ...
    def reports(self) -> Iterable[StoredReport]:
        """In order; without their frames, which may be larger together than the memory."""
        ...
