"""How much of the bus's memory each client and each namespace takes with its unfinished tasks, and whether that is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from headway_bus.records import Blob, Options
from headway_controller.state import Task, owner_of


class Quotas(NamedTuple):
    """Settings ``[controller]`` of these names; 0: no limit of its own."""

    max_tasks: int = 10_000_000
    max_tasks_per_client: int = 0
    max_bytes_per_client: int = 0
    max_tasks_per_namespace: int = 0
    max_bytes_per_namespace: int = 0


@dataclass(slots=True)
class Usage:
    """Unfinished tasks and the bytes of their arguments in memory; blobs lie on the disk and do not count."""

    tasks_by_client: Counter[str] = field(default_factory=Counter)
    bytes_by_client: Counter[str] = field(default_factory=Counter)
    tasks_by_namespace: Counter[str] = field(default_factory=Counter)
    bytes_by_namespace: Counter[str] = field(default_factory=Counter)

    def add(self, tasks: Iterable[Task]) -> None:
        for owner, namespace, count, size in _sums(tasks):
            self.tasks_by_client[owner] += count
            self.tasks_by_namespace[namespace] += count
            if size:
                self.bytes_by_client[owner] += size
                self.bytes_by_namespace[namespace] += size

    def remove(self, tasks: Iterable[Task]) -> None:
        for owner, namespace, count, size in _sums(tasks):
            _take(self.tasks_by_client, owner, count)
            _take(self.tasks_by_namespace, namespace, count)
            if size:
                _take(self.bytes_by_client, owner, size)
                _take(self.bytes_by_namespace, namespace, size)

    def exceeded(self, quotas: Quotas, client: str, namespace: str, count: int, size: int) -> str:
        """Which limit so many more tasks and bytes of this client would exceed; empty: none."""
        owner, shown = owner_of(client), f"the namespace {namespace!r}" if namespace else "the default namespace"
        held, most = sum(self.tasks_by_namespace.values()), quotas.max_tasks
        if held + count > most:
            return f"{held} tasks wait; at most {most} (setting controller.max_tasks)"
        for counter, key, more, whose, what, setting in (
            (self.tasks_by_client, owner, count, repr(owner), "tasks", "max_tasks_per_client"),
            (self.bytes_by_client, owner, size, repr(owner), "bytes of arguments", "max_bytes_per_client"),
            (self.tasks_by_namespace, namespace, count, shown, "tasks", "max_tasks_per_namespace"),
            (self.bytes_by_namespace, namespace, size, shown, "bytes of arguments", "max_bytes_per_namespace"),
        ):
            most = getattr(quotas, setting)
            if most and counter[key] + more > most:
                return f"{counter[key]} {what} of {whose} wait; at most {most} (setting controller.{setting})"
        return ""

    def validate(self, tasks: Iterable[Task]) -> None:
        """Raise AssertionError where the counts are not those of these tasks."""
        there = Usage()
        there.add(tasks)
        assert there == self, f"usage: {there} is there, {self} is counted"


def _sums(tasks: Iterable[Task]) -> Iterator[tuple[str, str, int, int]]:
    """(client, namespace, tasks, bytes) of neighbours that share the first two: a thousand of a map are counted at once."""
    client: str | None = None
    options: Options | None = None
    count = size = 0
    for task in tasks:
        if task.client != client or task.options is not options:
            if client is not None and options is not None:
                yield owner_of(client), options.namespace, count, size
            client, options, count, size = task.client, task.options, 0, 0
        payload = task.payload
        count += 1
        size += 0 if isinstance(payload, Blob) else len(payload)
    if client is not None and options is not None:
        yield owner_of(client), options.namespace, count, size


def _take(counter: Counter[str], key: str, amount: int) -> None:
    left = counter[key] - amount
    if left:
        counter[key] = left
    else:
        del counter[key]
