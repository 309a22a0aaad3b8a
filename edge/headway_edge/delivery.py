"""What the agent has to tell the controller: gathered, written to the spool, sent in order as the link allows. Pure but for
the spool, which is handed in.

It has the face of the runtime's :class:`~headway_runtime.reports.Reporter`, whose gathering it uses. What is different:
reports are made whether or not there is a controller; their content lies in the spool and not in memory; only so many bytes
are on their way at once; and when output has outgrown its budget, the oldest goes. Ends never go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from headway_bus.handover import Batch
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.messages import Report
from headway_bus.records import Ended, Started
from headway_edge.bucket import Bucket
from headway_edge.ledger import Ledger, StoredReport
from headway_runtime.reports import HEADER_WEIGHT, RECORD_WEIGHT, Reporter, Sent, len_inline, log_weight

MESSAGE_STREAM = "message"
"""Log records of this stream are messages to the clients: they are not given up for want of room."""


@dataclass(slots=True)
class Entry:
    """One report in the spool."""

    number: int
    weight: int
    keys: list[AttemptKey] = field(default_factory=list)
    """Attempts whose end is in it."""

    logs: dict[bytes, int] = field(default_factory=dict)
    """Records of output by task, of a report that has nothing else and may be given up."""

    sent: float | None = None


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How the link is used. Bytes, seconds."""

    gather: float = 0.1
    """Seconds for which news is gathered into one report."""

    window: int = 1024 * 1024
    """Reports that may be on their way, unconfirmed; at least one always may."""

    retry: float = 60.0
    """Without a confirmation, after which a report goes again although the link was not cut."""

    output_budget: int = 256 * 1024 * 1024
    """Output that is kept on disk; beyond it the oldest goes."""


class Delivery(Reporter):
    """:param wall: the agent's own clock, Unix seconds; only differences of it are used, and only across a restart."""

    def __init__(
        self,
        logs_bytes: int,
        frame_bytes: int,
        ledger: Ledger,
        link: LinkSettings,
        bucket: Bucket,
        wall: Callable[[], float],
    ) -> None:
        super().__init__(logs_bytes, frame_bytes)
        self.link = link
        self.bucket = bucket
        self.entries: dict[int, Entry] = {}
        self.output_bytes = 0
        self._ledger = ledger
        self._wall = wall
        self._news_since: float | None = None
        self._unannounced: dict[AttemptKey, None] = {}
        """Ends in reports that never left, of attempts that the controller takes to be held."""

        self._on_their_way = 0

    # -------------------------------------------------------------------------------------- the reporter's face

    @property
    def is_empty(self) -> bool:
        return not self.has_news and not self.entries

    @property
    def unreported(self) -> list[AttemptKey]:
        return [*super().unreported, *self._unannounced]

    def take(self, now: float) -> list[Batch[Sent]]:
        """What may leave now: in order, as far as window and bandwidth go."""
        self.store(now)
        batches = []
        for entry in self.entries.values():
            if entry.sent is not None:
                continue
            if self._on_their_way and self._on_their_way + entry.weight > self.link.window:
                break
            if not self.bucket.take(entry.weight, now):
                break
            batches.append(self._send(entry, now))
        return batches

    def _send(self, entry: Entry, now: float) -> Batch[Sent]:
        stored = self._ledger.report(entry.number)
        entry.sent = now
        self._on_their_way += entry.weight
        self._announce(entry.keys)
        report = stored.report
        age = max(0.0, self._wall() - stored.made)  # a clock that was set back says nothing
        aged = [replace(record, age=record.age + age) for record in report.ended]
        starts = [replace(record, age=record.age + age) for record in report.started]
        report = replace(report, ended=aged, started=starts)
        return Batch(entry.number, (report, stored.frames, now), entry.weight, now, 1)

    def resend(self, now: float, *, everything: bool = False) -> list[Sent]:
        """Nothing at once: what must go again takes its place in the order, and goes as the window allows."""
        if everything:
            self.store(now, force=True)
            self._announce(self._unannounced)  # the register message that was just made names them as ended
        limit = now if everything else now - self.link.retry
        self.renew(limit)
        return []

    def renew(self, limit: float) -> None:
        """Whatever was sent until ``limit`` and is not confirmed goes again."""
        for entry in self.entries.values():
            if entry.sent is not None and entry.sent <= limit:
                entry.sent = None
                self._on_their_way -= entry.weight

    def settled(self, numbers: Iterable[int]) -> None:
        """The controller has stored these reports."""
        gone = [self.entries.pop(number) for number in numbers if number in self.entries]
        for entry in gone:
            self._let_go(entry)
            for key in entry.keys:
                self._unsettled.pop(key, None)
        self._ledger.remove_reports(entry.number for entry in gone)

    def forget(self, keys: Iterable[tuple[TaskId, int]]) -> None:
        """The controller needs no report of these ends. One that is written goes all the same, and is fenced there."""
        gone = {(TaskId(task), attempt) for task, attempt in keys}
        for key in gone & {(record.task, record.attempt) for record, _, _ in self._ended}:
            self._ledger.remove_attempt(key)
        super().forget(gone - {key for entry in self.entries.values() for key in entry.keys})

    def _let_go(self, entry: Entry) -> None:
        if entry.sent is not None:
            self._on_their_way -= entry.weight
        if entry.logs:
            self.output_bytes -= entry.weight

    def _announce(self, keys: Collection[AttemptKey]) -> None:
        for key in list(keys):
            if self._unannounced.pop(key, True) is None:
                self.digest ^= digest_of(*key)
                self.held -= 1

    # -------------------------------------------------------------------------------------- writing down

    def next_store(self) -> float | None:
        """When what was gathered is to be written, if there is something."""
        return None if self._news_since is None else self._news_since + self.link.gather

    def next_send(self, now: float) -> float | None:
        """Seconds until the bandwidth allows what the window would."""
        for entry in self.entries.values():
            if entry.sent is None:
                is_open = not self._on_their_way or self._on_their_way + entry.weight <= self.link.window
                return self.bucket.wait(entry.weight, now) if is_open else None
        return None

    def store(self, now: float, *, force: bool = False) -> None:
        """Write what was gathered for long enough; or, ``force``, whatever there is."""
        if not self.has_news:
            self._news_since = None
            return
        if self._news_since is None:
            self._news_since = now
        pending = (
            self._pending_weight + self._pending_logs
        )  # of which a report holds so much, and the memory not for ever
        if not force and now - self._news_since < self.link.gather and pending < HEADER_WEIGHT:
            return
        self._news_since = None
        # Output before ends: who is told of an end may count on having all of its output.
        while self._logs:
            self._store_logs()
        while self._ended or self._started or self._dropped:
            self._store_ends(now)
        self._keep_to_budget()

    def _store_logs(self) -> None:
        logs, _ = self._take_logs(HEADER_WEIGHT)
        kept = [record for record in logs if record.stream == MESSAGE_STREAM]
        if kept:
            self._add(Report(self._number(), logs=kept), [], sum(map(log_weight, kept)))
            logs = [record for record in logs if record.stream != MESSAGE_STREAM]
        if logs:
            entry = self._add(Report(self._number(), logs=logs), [], sum(map(log_weight, logs)), is_logs=True)
            for record in logs:
                entry.logs[record.task] = entry.logs.get(record.task, 0) + 1
            self.output_bytes += entry.weight

    def _store_ends(self, now: float) -> None:
        frames: list[bytes | memoryview] = []
        ended, weight = self._take_ended(frames, now)
        self._pending_weight -= weight
        started: list[Started] = []
        dropped: dict[bytes, int] = {}
        if not self._ended:
            started = [Started(*key, age=max(0.0, now - since)) for key, since in self._started.items()]
            dropped, self._started, self._dropped = self._dropped, {}, {}
        entry = self._add(Report(self._number(), started, ended, [], dropped), frames, weight + RECORD_WEIGHT)
        for record in ended:
            key = (record.task, record.attempt)
            entry.keys.append(key)
            self._ledger.remove_attempt(key)
            # The controller takes it to be held until a report or a register message says that it is not.
            self._unannounced[key] = None
            self.digest ^= digest_of(*key)
            self.held += 1

    def _number(self) -> int:
        number = self.outbox.first
        self.outbox.first += 1
        return number

    def _add(self, report: Report, frames: list[bytes | memoryview], weight: int, is_logs: bool = False) -> Entry:
        self._ledger.add_report(StoredReport(report.batch, report, frames, self._wall(), is_logs))
        entry = self.entries[report.batch] = Entry(report.batch, weight)
        return entry

    def _keep_to_budget(self) -> None:
        """Give up the oldest output that is not on its way, until the rest is within the budget."""
        excess = self.output_bytes - self.link.output_budget
        if excess <= 0:
            return
        oldest = []
        for entry in self.entries.values():
            if entry.logs and entry.sent is None:
                oldest.append(entry)
                excess -= entry.weight
                if excess <= 0:
                    break
        for entry in oldest:
            self.give_up(entry)

    def give_up(self, entry: Entry) -> None:
        """Drop a report of output, and tell how many records of which tasks went."""
        del self.entries[entry.number]
        self._let_go(entry)
        self._ledger.remove_reports([entry.number])
        for task, count in entry.logs.items():
            self.dropped(task, count)

    def give_up_output(self) -> None:
        """The disk is full: all output that is not on its way goes."""
        for entry in [each for each in self.entries.values() if each.logs and each.sent is None]:
            self.give_up(entry)

    # -------------------------------------------------------------------------------------- after a restart

    def restore(self, stored: StoredReport) -> None:
        """A report that was written before the restart; in order. None of them counts as sent."""
        report = stored.report
        weight = sum(map(_weight_of, report.ended)) + stored.frame_bytes + sum(map(log_weight, report.logs))
        entry = Entry(stored.number, weight + (0 if stored.is_logs else RECORD_WEIGHT))
        entry.keys = [(record.task, record.attempt) for record in report.ended]
        if stored.is_logs:
            for record in report.logs:
                entry.logs[record.task] = entry.logs.get(record.task, 0) + 1
            self.output_bytes += entry.weight
        self.entries[stored.number] = entry
        self._unsettled.update(dict.fromkeys(entry.keys))
        self.outbox.first = stored.number + 1


def _weight_of(record: Ended) -> int:
    return RECORD_WEIGHT + len_inline(record)
