"""The logs of a whole union: of one look at it, so that they are of one round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headway.task import Task
from headway.union import Union
from headway_bus.errors import Refused
from headway_bus.ids import new_task_id, text_of
from headway_bus.records import Kind, Options

NOWHERE: Any = None


class Looked(Union):
    """A union that is in another round whenever it is asked."""

    def __init__(self) -> None:
        super().__init__(Task(new_task_id(), NOWHERE, Options(Kind.CALL, "a:b")))
        self.rounds: list[dict[str, list[str]]] = []

    async def state(self) -> dict[str, Any]:
        self.rounds.append({edge: [text_of(new_task_id()), "open"] for edge in ("e1", "e2", "e3")})
        return {"edges": self.rounds[-1]}


def test_the_logs_of_all_edges_are_of_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    async def logs(task: Task, follow: bool = False) -> AsyncIterator[str]:
        assert not follow
        yield task.id

    async def main() -> None:
        union = Looked()
        found = [each async for each in union.logs()]
        assert found == [(edge, part) for edge, (part, _) in union.rounds[0].items()]
        assert len(union.rounds) == 1
        with pytest.raises(Refused, match=r"edge 'e4' has no part .* those that have: e1, e2, e3"):
            await anext(union.logs("e4"))

    monkeypatch.setattr(Task, "logs", logs)
    asyncio.run(main())
