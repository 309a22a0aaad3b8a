"""A union as the blocking client holds it: the verbs of :class:`headway.union.Union` without ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from headway.client_task import ClientTask
from headway.union import EdgeOutcome, Union, UnionResult
from headway_bus.records import LogRecord

if TYPE_CHECKING:
    from headway.engine import Engine

Item = TypeVar("Item")


class ClientUnion:
    """One union: ``result()`` waits for its :class:`UnionResult`; ``task`` is the task that it is."""

    def __init__(self, task: ClientTask, engine: Engine) -> None:
        self.task = task
        self._engine = engine
        self._union = Union(task._light())

    @property
    def id(self) -> str:
        return self.task.id

    def __repr__(self) -> str:
        return repr(self._union)

    def result(self, timeout: float | None = None) -> UnionResult:
        """The result. Raises what the union ended with; see :meth:`ended`. TimeoutError after ``timeout`` seconds."""
        return self._engine.run(self._union.result(timeout))

    def ended(self, timeout: float | None = None) -> UnionResult:
        """The same whatever the end was: ``status`` and ``error`` say which, and what the edges returned is there."""
        return self._engine.run(self._union.ended(timeout))

    def state(self) -> dict[str, Any]:
        """How far it is: ``round``, ``edges`` (name → id of the part, its status), ``missing``, ``merged``, ``rounds``."""
        return self._engine.run(self._union.state())

    def parts(self) -> Iterator[EdgeOutcome]:
        """What the edges did, as they end, of every round; ends with the union."""
        return self._each(self._union.parts)

    def part(self, edge: str) -> ClientTask:
        """The part of one edge in the present round: a task like any other. Raises Refused if the edge has none."""
        found = self._engine.run(self._union.part(edge))
        return ClientTask(found.task_id, self._engine, found.options, heeded=False)

    def cancel(self, edge: str = "") -> bool:
        """Cancel the whole, or one edge's part. Returns when nothing of it runs any more."""
        return self._engine.run(self._union.cancel(edge))

    def describe(self, text: str, edge: str = "") -> None:
        """Give the whole, or one edge's part, another description; nothing else of it changes."""
        (self.part(edge) if edge else self.task).describe(text)

    def logs(self, edge: str = "", follow: bool = False) -> Iterator[tuple[str, LogRecord]]:
        """(edge, record) of every part of the present round; or of one edge, ``follow``ing it."""
        return self._each(lambda: self._union.logs(edge, follow))

    def _each(self, make: Callable[[], AsyncIterator[Item]]) -> Iterator[Item]:
        items = make()

        async def following() -> Item | None:
            return await anext(items, None)

        async def stop() -> None:
            await items.aclose()  # type: ignore[attr-defined]

        try:
            while (item := self._engine.run(following())) is not None:
                yield item
        except GeneratorExit:
            # As in ClientTask.logs: only the caller who has had enough leaves something to be closed.
            if not self._engine.closed:
                self._engine.run(stop())
            raise
