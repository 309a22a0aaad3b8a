"""Waiting for several tasks of the asynchronous bus at once: ``as_completed``, ``gather``, ``wait``.

For the blocking client's tasks the functions of ``concurrent.futures`` do the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

from headway.task import Task

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"


class _Arrivals:
    """Tasks in the order in which their ends were heard."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = list(dict.fromkeys(tasks))
        self._ended: deque[Task] = deque()
        self._waiter: asyncio.Future[None] | None = None
        for task in self.tasks:
            task.watch(self._on_end)

    def stop(self) -> None:
        for task in self.tasks:
            task.unwatch(self._on_end)

    async def next(self, deadline: float | None) -> Task:
        """The next one. Raises TimeoutError at ``deadline``, by the loop's clock."""
        loop = asyncio.get_running_loop()
        while not self._ended:
            self._waiter = loop.create_future()
            left = None if deadline is None else max(0.0, deadline - loop.time())
            await self.tasks[0]._connection.until(self._waiter, left)
        return self._ended.popleft()

    def _on_end(self, task: Task) -> None:
        self._ended.append(task)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def as_completed(tasks: Iterable[Task], *, timeout: float | None = None) -> AsyncIterator[Task]:
    """The tasks as they end: ``async for task in headway.as_completed(tasks)``.

    Each is given once and is over, so that ``await task`` returns or raises at once. Raises TimeoutError if not all have
    ended ``timeout`` seconds after the first step; they go on.
    """
    arrivals = _Arrivals(tasks)
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    try:
        for done in range(len(arrivals.tasks)):
            try:
                yield await arrivals.next(deadline)
            except TimeoutError:
                total = len(arrivals.tasks)
                raise TimeoutError(f"{total - done} of {total} tasks have not ended within {timeout:g} s") from None
    finally:
        arrivals.stop()


async def gather(*tasks: Task, return_exceptions: bool = False, timeout: float | None = None) -> list[Any]:
    """The values in the order of the tasks. The first failure is raised as soon as it is heard; the others go on.

    ``return_exceptions``: errors of tasks stand in the list in their place instead.
    """
    if not return_exceptions:
        async for task in as_completed(tasks, timeout=timeout):
            error = task._error()
            if error is not None:
                raise error
    else:
        await wait(tasks, timeout=timeout, must=True)
    return [await _value_or_error(task, return_exceptions) for task in tasks]


async def wait(
    tasks: Iterable[Task], *, timeout: float | None = None, return_when: str = ALL_COMPLETED, must: bool = False
) -> tuple[set[Task], set[Task]]:
    """(ended, not ended), as soon as ``return_when`` holds or ``timeout`` seconds have passed.

    ``return_when``: "ALL_COMPLETED", "FIRST_COMPLETED" or "FIRST_EXCEPTION", as in ``asyncio`` and ``concurrent.futures``.
    ``must``: raise TimeoutError instead of returning early.
    """
    if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
        raise ValueError(
            f"return_when={return_when!r}: expected {ALL_COMPLETED}, {FIRST_COMPLETED} or {FIRST_EXCEPTION}"
        )
    tasks = list(tasks)
    try:
        async for task in as_completed(tasks, timeout=timeout):
            if return_when == FIRST_COMPLETED or (return_when == FIRST_EXCEPTION and task._error() is not None):
                break
    except TimeoutError:
        if must:
            raise
    return {task for task in tasks if task.done}, {task for task in tasks if not task.done}


async def _value_or_error(task: Task, catch: bool) -> Any:
    if not catch:
        return await task.result()
    try:
        return await task.result()
    except Exception as error:
        return error
