"""The log records of one task, stored and live, merged into one stream in order and without repetition.

Stored records are asked for page by page; while following, a subscription brings new ones at once. What was published is
not repeated, so a subscription alone could lose a record in silence: whenever a number is missing, and after each pause,
the stored ones are asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headway_bus import messages
from headway_bus.logs import get_logger
from headway_bus.records import LogRecord

if TYPE_CHECKING:
    from headway.connection import Connection
    from headway.task import Task

PAGE = 1_000
SILENCE = 2.0
"""Seconds without a record after which the stored ones are looked at again."""

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between looks while records are known to be on their way to the store."""

log = get_logger("headway.client")


@dataclass(slots=True)
class Merge:
    """Which records have been given out. Pure: records go in from both sides, each comes out once."""

    next_numbers: dict[int, int] = field(default_factory=dict)
    """By attempt, the number of the record that follows; what is below it has been given out."""

    stored: int = 0
    """How many of the stored records have been looked at: the position to ask from."""

    def from_store(self, records: list[LogRecord], position: int) -> list[LogRecord]:
        """Records of a page. They are in order, so a gap among them is a drop that the store knows of."""
        self.stored = position
        return [record for record in records if self._is_new(record)]

    def from_topic(self, records: list[LogRecord]) -> tuple[list[LogRecord], bool]:
        """Live records that continue what was given out, and whether something is missing before the rest."""
        fresh: list[LogRecord] = []
        for record in records:
            expected = self.next_numbers.get(record.attempt, 0)
            if record.sequence > expected:
                return fresh, True
            if self._is_new(record):
                fresh.append(record)
        return fresh, False

    def _is_new(self, record: LogRecord) -> bool:
        if record.sequence < self.next_numbers.get(record.attempt, 0):
            return False
        self.next_numbers[record.attempt] = record.sequence + 1
        return True


def topic_of(task: Task) -> str:
    """The topic on which a task's records are published."""
    return f"logs.{task.id}"


async def records_of(connection: Connection, task: Task, follow: bool, attempt: int) -> AsyncIterator[LogRecord]:
    """The records; see :meth:`headway.task.Task.logs`."""
    merge = Merge()
    if not follow:
        complete = False
        more = True
        while more and not complete:
            page = await _page(connection, task, attempt, merge)
            more, complete = bool(page.records), page.complete
            for record in merge.from_store(page.records, page.next):
                yield record
        return
    follower = _Follower(connection, task, attempt, merge)
    try:
        async for record in follower.records():
            yield record
    finally:
        follower.stop()


class _Follower:
    """The live side: a subscription, the task's end, and the pages that fill what is missing."""

    def __init__(self, connection: Connection, task: Task, attempt: int, merge: Merge) -> None:
        self._connection = connection
        self._task = task
        self._attempt = attempt
        self._merge = merge
        self._live: list[LogRecord] = []
        self._news: asyncio.Future[None] | None = None
        connection.listen(topic_of(task), self._on_event)
        task.watch(self._on_news)

    def stop(self) -> None:
        self._connection.unlisten(topic_of(self._task), self._on_event)
        self._task.unwatch(self._on_news)

    async def records(self) -> AsyncIterator[LogRecord]:
        looks = 0
        must_look = True
        while True:
            if must_look:
                page = await _page(self._connection, self._task, self._attempt, self._merge)
                for record in self._merge.from_store(page.records, page.next):
                    yield record
                if page.complete:
                    return
                if len(page.records) >= PAGE:
                    continue
            live, self._live = self._live, []
            fresh, missing = self._merge.from_topic(live)
            for record in fresh:
                yield record
            if missing or self._task.done:
                # What is missing, or the last of it, is on its way to the store.
                await asyncio.sleep(PAUSES[min(looks, len(PAUSES) - 1)])
                looks += 1
                must_look = True
            else:
                looks = 0
                must_look = await self._until_news()

    async def _until_news(self) -> bool:
        """Wait for records or the end. True if it is time to look at the store: after the end, or a long silence."""
        if not self._live and not self._task.done:
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._connection.until(self._news, SILENCE)
            except TimeoutError:
                return True
            finally:
                self._news = None
        return self._task.done

    def _on_event(self, event: messages.Event) -> None:
        self._live += [record for record in event.records if self._attempt in (0, record.attempt)]
        self._on_news(self._task)

    def _on_news(self, _task: Task) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


async def _page(connection: Connection, task: Task, attempt: int, merge: Merge) -> messages.LogPage:
    page: messages.LogPage
    page, _ = await connection.ask(lambda number: messages.AskLogs(number, task.task_id, attempt, merge.stored, PAGE))
    return page


async def call_back(
    connection: Connection, task: Task, callback: Callable[[LogRecord], Any], accepted: asyncio.Future[Any]
) -> None:
    """Give each record to the caller's function. What that raises is logged, once, and ends the calls: it is their code."""
    await asyncio.wait([accepted])
    if accepted.cancelled() or accepted.exception() is not None:
        return
    async for record in records_of(connection, task, follow=True, attempt=0):
        try:
            callback(record)
        except Exception:
            log.exception("the on_log function raised and is not called again", task=task.id)
            return
