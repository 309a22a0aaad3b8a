"""A union as its client holds it: one task, an attempt on every runtime that matches, and what each of them returned.

The union is a task like others, and so is each part. What is here puts them together: partial results as they come, the
result by edge, logs and cancels of the whole or of one edge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headway.options import task_id_of
from headway.subscription import Subscription
from headway.task import Task, value_of
from headway_bus import messages
from headway_bus.errors import Refused, TaskError
from headway_bus.ids import part_task_id, text_of
from headway_bus.records import ENDS, Blob, Code, LogRecord, Status

SILENCE = 2.0
"""Seconds without news after which the union is looked at again: what is published during a cut is not repeated."""

OPEN = "open"
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class EdgeOutcome:
    """What one edge did in one round. ``status``: an end, "missing" (too late: stopped, if it had begun) or "open"."""

    edge: str
    round: int
    status: str
    task: Task
    value: Any = None
    error: TaskError | None = None

    @property
    def ok(self) -> bool:
        return self.status == Status.SUCCEEDED


class UnionResult(Mapping[str, EdgeOutcome]):
    """Of the last round what each edge did, by its name; the merged value; who is missing; all rounds in short."""

    def __init__(
        self, status: Status, error: TaskError | None, outcomes: dict[str, EdgeOutcome], merged: Any, rounds: list[Any]
    ) -> None:
        self.status = status
        self.error = error
        self.merged = merged
        self.rounds: list[dict[str, Any]] = rounds
        self._outcomes = outcomes

    @property
    def missing(self) -> list[str]:
        """Edges without a result: they failed, were cancelled, or were too late."""
        return [edge for edge, outcome in self._outcomes.items() if not outcome.ok]

    @property
    def values_by_edge(self) -> dict[str, Any]:
        """The values of those that succeeded."""
        return {edge: outcome.value for edge, outcome in self._outcomes.items() if outcome.ok}

    def __getitem__(self, edge: str) -> EdgeOutcome:
        return self._outcomes[edge]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"<union result: {self.status}, {len(self) - len(self.missing)} of {len(self)} edges>"


class Union:
    """One union. ``await`` it for its :class:`UnionResult`; the verbs of its ``task`` work, too."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def id(self) -> str:
        return self.task.id

    def __repr__(self) -> str:
        return f"<headway union {self.task.id[:8]} {self.task.target} {self.task.status}>"

    def __await__(self) -> Any:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> UnionResult:
        """The result. Raises what the union ended with: TaskFailed, TaskExpired, TaskCancelled; see :meth:`ended`."""
        found = await self.ended(timeout)
        if found.error is not None:
            raise found.error
        return found

    async def ended(self, timeout: float | None = None) -> UnionResult:
        """The same whatever the end was: ``status`` and ``error`` say which, and what the edges returned is there."""
        async with asyncio.timeout(timeout):
            error = await self.task.exception()
            summary = await self.state()
            outcomes = await self._outcomes(summary)
            merged = await self._part(summary["merged"]).result() if summary.get("merged") else None
        assert self.task.outcome is not None
        return UnionResult(self.task.outcome.status, error, outcomes, merged, summary.get("rounds", []))

    async def state(self) -> dict[str, Any]:
        """How far it is: ``round``, ``edges`` (name → id of the part, its status), ``missing``, ``merged``, ``rounds``.

        Empty while it waits for what it comes after.
        """
        story = await self.task.explain()
        if "union" in story:
            found: dict[str, Any] = story["union"]
            return found
        if story.get("state") not in ENDS:
            return {}
        return await self._summary()

    async def parts(self) -> AsyncIterator[EdgeOutcome]:
        """What the edges did, as they end, of every round; ends with the union. Those that were too late are not among them.

        Of rounds that were over before, the last hundred.
        """
        seen: set[str] = set()
        async with Subscription(self.task._connection, f"union.{self.id}") as news:
            over = False
            while not over:
                over = (await self.task.info()).status in ENDS  # asked first: what it ended with is in the state then
                summary = await self.state()
                for number, edge, part, status in self._known_parts(summary):
                    if part not in seen:
                        seen.add(part)
                        yield await self._outcome(edge, number, part, status)
                is_news = not over
                while is_news:
                    try:
                        event = await news.get(SILENCE)
                    except TimeoutError:
                        break
                    for change in event.data.get("changes", ()):
                        part, edge, status = change["task"], change.get("edge", ""), change["status"]
                        if edge and status in ENDS and part not in seen:
                            seen.add(part)
                            yield await self._outcome(edge, change["round"], part, status)
                        is_news = is_news and not (part == self.id and status in ENDS)

    async def part(self, edge: str) -> Task:
        """The part of one edge in the present round: a task like any other. Raises Refused if the edge has none."""
        return self._part_of(edge, await self.state())

    async def cancel(self, edge: str = "") -> bool:
        """Cancel the whole, or one edge's part. Returns when nothing of it runs any more."""
        return await (await self.part(edge) if edge else self.task).cancel()

    async def describe(self, text: str, edge: str = "") -> None:
        """Give the whole, or one edge's part, another description; nothing else of it changes."""
        await (await self.part(edge) if edge else self.task).describe(text)

    async def logs(self, edge: str = "", follow: bool = False) -> AsyncIterator[tuple[str, LogRecord]]:
        """(edge, record) of every part of the present round, one edge behind the other; or of one edge, ``follow``ing it."""
        state = await self.state()  # once: all parts are of one round then
        for name in [edge] if edge else state.get("edges", {}):
            async for record in self._part_of(name, state).logs(follow=follow and bool(edge)):
                yield name, record

    # ------------------------------------------------------------------------------------------------ inside

    async def _summary(self) -> dict[str, Any]:
        """The result of a union that has ended, however it did."""
        number_of = self.task.task_id
        answer: messages.ResultFound
        answer, frames = await self.task._connection.ask(lambda number: messages.AskResult(number, number_of))
        outcome = answer.outcome
        data = frames[outcome.result] if isinstance(outcome.result, int) else outcome.result
        if isinstance(data, Blob):
            from headway.blobs import fetch

            data = await fetch(self.task._connection, data)
        found = value_of(outcome, data, False)
        return found if isinstance(found, dict) else {}

    def _known_parts(self, summary: dict[str, Any]) -> Iterator[tuple[int, str, str, str]]:
        """(round, edge, id, status) of the parts that have ended: those of earlier rounds have ids that follow from these."""
        for past in summary.get("rounds", ()):
            number = past["round"]
            for edge in past["succeeded"]:
                part = part_task_id(self.task.task_id, summary["run"], number, edge)
                yield number, edge, text_of(part), Status.SUCCEEDED
        for edge, (part_id, status) in summary.get("edges", {}).items():
            if status not in (OPEN, MISSING):
                yield summary["round"], edge, part_id, status

    async def _outcomes(self, summary: dict[str, Any]) -> dict[str, EdgeOutcome]:
        edges, number = summary.get("edges", {}), summary.get("round", 0)
        found = await asyncio.gather(*(self._outcome(edge, number, *each) for edge, each in edges.items()))
        return {outcome.edge: outcome for outcome in found}

    async def _outcome(self, edge: str, number: int, part: str, status: str) -> EdgeOutcome:
        task = self._part(part)
        if status in (OPEN, MISSING):
            return EdgeOutcome(edge, number, MISSING if self.task.done else OPEN, task)
        error = await task.exception()
        value = await task.result() if error is None else None
        return EdgeOutcome(edge, number, status, task, value, error)

    def _part_of(self, edge: str, state: Mapping[str, Any]) -> Task:
        edges = state.get("edges", {})
        if edge not in edges:
            known = ", ".join(edges) or "none yet"
            raise Refused(
                Code.NOT_FOUND, f"edge {edge!r} has no part in this union's present round; those that have: {known}"
            )
        return self._part(edges[edge][0])

    def _part(self, part: str) -> Task:
        return Task(task_id_of(part), self.task._connection, self.task.options, heeded=False)
