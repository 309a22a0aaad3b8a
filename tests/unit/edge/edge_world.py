"""What tests of the edge agent's core need: a spool in memory that forgets what was not committed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

from headway_bus.ids import AttemptKey, TaskId
from headway_bus.records import AttemptEnd, Ended, LogRecord
from headway_edge.bucket import Bucket
from headway_edge.delivery import Delivery, LinkSettings
from headway_edge.ledger import StoredAttempt, StoredReport

AT_ONCE = LinkSettings(gather=0.0)


class MemoryLedger:
    """A spool without a disk. ``crash()``: what a new process would find."""

    def __init__(self) -> None:
        self.now_attempts: dict[AttemptKey, StoredAttempt] = {}
        self.now_reports: dict[int, StoredReport] = {}
        self.now_notes: dict[str, bytes] = {}
        self._durable = self._state()

    def _state(self) -> tuple[dict[AttemptKey, StoredAttempt], dict[int, StoredReport], dict[str, bytes]]:
        return copy.deepcopy((self.now_attempts, self.now_reports, self.now_notes))

    def commit(self) -> None:
        self._durable = self._state()

    def crash(self) -> None:
        self.now_attempts, self.now_reports, self.now_notes = copy.deepcopy(self._durable)

    def add_attempt(self, attempt: StoredAttempt) -> None:
        self.now_attempts[attempt.key] = attempt

    def note_start(self, key: AttemptKey) -> None:
        if key in self.now_attempts:
            self.now_attempts[key].starts += 1

    def note_outcome(self, key: AttemptKey, outcome: Ended) -> None:
        self.now_attempts[key].outcome = outcome

    def remove_attempt(self, key: AttemptKey) -> None:
        self.now_attempts.pop(key, None)

    def add_report(self, report: StoredReport) -> None:
        assert report.number not in self.now_reports
        report.frames = [bytes(frame) for frame in report.frames]
        self.now_reports[report.number] = report

    def report(self, number: int) -> StoredReport:
        return self.now_reports[number]

    def remove_reports(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.now_reports.pop(number, None)

    def note(self, name: str, value: bytes) -> None:
        self.now_notes[name] = value

    def noted(self, name: str) -> bytes:
        return self.now_notes.get(name, b"")

    def attempts(self) -> list[StoredAttempt]:
        return list(self.now_attempts.values())

    def reports(self) -> Iterator[StoredReport]:
        for number in sorted(self.now_reports):
            stored = self.now_reports[number]
            size = sum(map(len, stored.frames))
            yield StoredReport(number, stored.report, [], stored.made, stored.is_logs, size)


def delivery(
    ledger: MemoryLedger, link: LinkSettings = AT_ONCE, rate: float = 0.0, wall: float = 5_000.0, logs: int = 1 << 20
) -> Delivery:
    return Delivery(logs, 1 << 20, ledger, link, Bucket(rate), lambda: wall)


def task_id(number: int) -> TaskId:
    return TaskId(number.to_bytes(16, "big"))


def end(number: int, attempt: int = 1) -> Ended:
    return Ended(task_id(number), attempt, AttemptEnd.SUCCEEDED, 0.5)


def line(number: int, sequence: int, text: str = "x", stream: str = "stdout") -> LogRecord:
    return LogRecord(task_id(number), 1, sequence, stream, 0.0, text)
