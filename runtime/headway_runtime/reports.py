"""What the controller is told of starts, ends and output: gathered, numbered, kept until it is settled. Pure.

Ends are never dropped. Log records are, when too many wait, and the controller is told how many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from headway_bus.endpoint import Frame
from headway_bus.handover import Batch, Outbox
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.messages import Report
from headway_bus.records import Ended, LogRecord, Started

RECORD_WEIGHT = 100
"""Bytes that any record counts for, beside its content."""

FILE_WEIGHT = 48
"""Bytes of a file's hash and size."""

HEADER_WEIGHT = 1024 * 1024
"""Bytes of records in one report: far below what a header may have."""

AGE_WORTH_TELLING = 0.1

Sent = tuple[Report, list[Frame], float]
"""A report, its frames, and when it was made."""


def log_weight(record: LogRecord) -> int:
    """Bytes that a log record counts for."""
    return RECORD_WEIGHT + len(record.text) + 40 * len(record.fields)


class Reporter:
    """The reports on their way to the controller, and the digest of what it has not been told the end of.

    :param logs_bytes: waiting log records beyond which new ones are dropped.
    :param frame_bytes: payload frames in one report.
    """

    def __init__(self, logs_bytes: int, frame_bytes: int) -> None:
        self.outbox: Outbox[Sent] = Outbox()
        self.digest = 0
        self.held = 0
        self.dropped_total = 0
        self._logs_bytes = logs_bytes
        self._frame_bytes = frame_bytes
        self._started: dict[AttemptKey, float] = {}
        self._ended: list[tuple[Ended, Frame | None, float]] = []
        self._logs: list[LogRecord] = []
        self._dropped: dict[bytes, int] = {}
        self._pending_weight = 0
        self._pending_logs = 0
        self._outbox_logs = 0
        self._unsettled: dict[AttemptKey, None] = {}

    @property
    def weight(self) -> int:
        """Bytes that wait, reported or not."""
        return self._pending_weight + self.outbox.weight

    @property
    def has_news(self) -> bool:
        return bool(self._started or self._ended or self._logs or self._dropped)

    @property
    def is_empty(self) -> bool:
        """Whether the controller has confirmed everything."""
        return not self.has_news and not len(self.outbox)

    @property
    def unsettled(self) -> Collection[AttemptKey]:
        """Attempts whose end the controller has not confirmed."""
        return self._unsettled

    @property
    def unreported(self) -> list[AttemptKey]:
        """Attempts whose end is known here and in no report yet."""
        return [(record.task, record.attempt) for record, _, _ in self._ended]

    def is_unsettled(self, key: AttemptKey) -> bool:
        return key in self._unsettled

    def took(self, key: AttemptKey) -> None:
        """An attempt was taken in."""
        self.digest ^= digest_of(*key)
        self.held += 1

    def started(self, key: AttemptKey, since: float) -> None:
        self._started[key] = since

    def ended(self, record: Ended, frame: Frame | None, now: float) -> None:
        """``frame``: the result, if it is not within the record."""
        key = (record.task, record.attempt)
        if self._started:
            self._started.pop(key, None)
        self._unsettled[key] = None
        self._ended.append((record, frame, now))
        self._pending_weight += RECORD_WEIGHT + (len(frame) if frame is not None else len_inline(record))

    def logs(self, records: Iterable[LogRecord]) -> None:
        for record in records:
            weight = log_weight(record)
            if self._pending_logs + self._outbox_logs + weight > self._logs_bytes:
                self.dropped(record.task, 1)
                continue
            self._logs.append(record)
            self._pending_logs += weight

    def dropped(self, task: bytes, count: int) -> None:
        """``count`` records of a task will never be sent."""
        self._dropped[task] = self._dropped.get(task, 0) + count
        self.dropped_total += count

    def take(self, now: float) -> list[Batch[Sent]]:
        """Everything gathered, as numbered reports that the caller sends now."""
        batches = []
        while self.has_news:
            batches.append(self._next_batch(now))
        return batches

    def _next_batch(self, now: float) -> Batch[Sent]:
        frames: list[Frame] = []
        ended, weight = self._take_ended(frames, now)
        logs, logs_weight = self._take_logs(HEADER_WEIGHT)
        started: list[Started] = []
        dropped: dict[bytes, int] = {}
        if not self._ended:  # the last report of this round
            started = [Started(*key, age=max(0.0, now - since)) for key, since in self._started.items()]
            dropped = self._dropped
            self._started, self._dropped = {}, {}
        report = Report(self.outbox.first, started, ended, logs, dropped)
        self._pending_weight -= weight
        self._outbox_logs += logs_weight
        batch = self.outbox.add((report, frames, now), weight)
        self.outbox.sent(batch, now)
        return batch

    def _take_ended(self, frames: list[Frame], now: float) -> tuple[list[Ended], int]:
        ended: list[Ended] = []
        weight = frame_bytes = count = inline = 0
        for record, frame, at in self._ended:
            if frame is not None:
                if frames and frame_bytes + len(frame) > self._frame_bytes:
                    break
                frame_bytes += len(frame)
                ended.append(replace(record, result=len(frames), age=now - at))
                frames.append(frame)
                weight += RECORD_WEIGHT + len(frame)
            else:
                size = RECORD_WEIGHT + len_inline(record)
                if inline + size > HEADER_WEIGHT and ended:
                    break
                inline += size
                weight += size
                ended.append(record if now - at < AGE_WORTH_TELLING else replace(record, age=now - at))
            count += 1
            self.digest ^= digest_of(record.task, record.attempt)
        self.held -= count
        del self._ended[:count]
        return ended, weight

    def _take_logs(self, room: int) -> tuple[list[LogRecord], int]:
        if self._pending_logs <= room:
            logs, weight = self._logs, self._pending_logs
            self._logs, self._pending_logs = [], 0
            return logs, weight
        count = weight = 0
        for record in self._logs:
            if weight > room:
                break
            weight += log_weight(record)
            count += 1
        logs = self._logs[:count]
        del self._logs[:count]
        self._pending_logs -= weight
        return logs, weight

    def settled(self, numbers: Iterable[int]) -> None:
        """The controller has stored these reports."""
        for report, _, _ in self.outbox.acknowledge(numbers):
            for record in report.ended:
                self._unsettled.pop((record.task, record.attempt), None)
            self._outbox_logs -= sum(map(log_weight, report.logs))

    def forget(self, keys: Iterable[tuple[TaskId, int]]) -> None:
        """The controller needs no report of these ends (any more)."""
        gone = {(TaskId(task), attempt) for task, attempt in keys}
        if not gone & self._unsettled.keys():
            return
        for key in gone:
            self._unsettled.pop(key, None)
        kept = []
        for record, frame, at in self._ended:
            if (record.task, record.attempt) in gone:
                self._pending_weight -= RECORD_WEIGHT + (len(frame) if frame is not None else len_inline(record))
                self.digest ^= digest_of(record.task, record.attempt)
                self.held -= 1
            else:
                kept.append((record, frame, at))
        self._ended = kept

    def resend(self, now: float, *, everything: bool = False) -> list[Sent]:
        """The reports that must go again: overdue ones, or all of them after the connection was renewed."""
        if everything:
            self.outbox.renew()
        again = []
        for batch in self.outbox.due(now):
            report, frames, made = batch.content
            self.outbox.sent(batch, now)
            aged = [replace(record, age=record.age + now - made) for record in report.ended]
            starts = [replace(record, age=record.age + now - made) for record in report.started]
            again.append((replace(report, ended=aged, started=starts), frames, now))
        return again


def len_inline(record: Ended) -> int:
    """Bytes of a record's result, error and files that lie in the header."""
    size = len(record.result) if isinstance(record.result, bytes) else 0
    if record.files:
        size += sum(FILE_WEIGHT + len(file.path) for file in record.files)
    if record.error is not None:
        size += len(record.error.message) + len(record.error.traceback)
    return size
