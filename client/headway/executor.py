"""``concurrent.futures.Executor`` on the bus: what a program for a process pool needs to run elsewhere."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakSet

from headway.client import Client
from headway.client_task import ClientTask
from headway.targets import target_of

CHUNK_TARGET = "headway.executor:run_chunk"


class Executor(futures.Executor):
    """Functions go by their import path, arguments and results as values; otherwise as in the standard library.

    ``bus``: a Client to use, with its options; it stays open. Else one is made as ``Client(url, …)`` and closed by
    ``shutdown``.
    """

    def __init__(
        self,
        bus: Client | None = None,
        *,
        url: str | None = None,
        config: str | Path | None = None,
        timeout: float | None = None,
    ) -> None:
        if bus is not None and not isinstance(bus, Client):
            raise TypeError(f"Executor({bus!r}): expected a headway.Client")
        self._bus = Client(url, config=config, timeout=timeout) if bus is None else bus
        self._owns_bus = bus is None
        self._tasks: WeakSet[ClientTask] = WeakSet()
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> ClientTask:
        """Hand in one call and return at once. A refusal by the bus becomes the future's exception."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        task = self._bus.submit_soon(fn, *args, **kwargs)
        self._tasks.add(task)
        return task

    def map(
        self, fn: Callable[..., Any] | str, *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """The results in order. ``chunksize``: calls that one task makes, worth it for very short ones.

        TimeoutError if a result is not there ``timeout`` seconds after this call.
        """
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if chunksize < 1:
            raise ValueError(f"chunksize={chunksize}: expected 1 or more")
        deadline = None if timeout is None else time.monotonic() + timeout
        rows = zip(*iterables, strict=False)
        if chunksize == 1:
            tasks = self._bus.starmap(fn, rows)
        else:
            target = target_of(fn)
            calls = ((target, [list(row) for row in chunk]) for chunk in _rows(rows, chunksize))
            tasks = self._bus.starmap(CHUNK_TARGET, calls)
        self._tasks.update(tasks)
        return _results(tasks, deadline, chunksize > 1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more. ``wait``: until all tasks are over. ``cancel_futures``: cancel those that are not, running or not."""
        self._is_shut_down = True
        open_tasks = [task for task in self._tasks if not task.done()]
        if cancel_futures and open_tasks:
            self._bus.cancel(open_tasks)
        if wait:
            futures.wait(open_tasks)
        if self._owns_bus:
            self._bus.close()


def run_chunk(target: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """What a task of a chunked map does on the runtime: call the target for each row."""
    module, _, path = target.partition(":")
    function: Any = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    return [function(*row) for row in rows]


def _rows(rows: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    source = iter(rows)
    while chunk := list(islice(source, size)):
        yield chunk


def _results(tasks: list[ClientTask], deadline: float | None, chunked: bool) -> Iterator[Any]:
    """As in the standard library: what is not consumed is cancelled, and results are let go as they are given out."""
    tasks.reverse()
    try:
        while tasks:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            result = tasks.pop().result(left)
            if chunked:
                yield from result
            else:
                yield result
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
