"""How much of the bus's memory each client and each namespace takes with its unfinished tasks, and whether that is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headway_bus.ids import TaskId
from headway_bus.messages import Group
from headway_bus.records import Blob, Options
from headway_controller.state import Bytes, Task, owner_of

Shares = dict[str, tuple[int, int]]
"""(tasks, bytes of arguments) by namespace."""


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

    def exceeded(self, quotas: Quotas, client: str, shares: Shares) -> str:
        """Which limit so many more tasks and bytes of this client would exceed; empty: none."""
        owner, count = owner_of(client), sum(more for more, _ in shares.values())
        held, most = sum(self.tasks_by_namespace.values()), quotas.max_tasks
        if held + count > most:
            return f"{held} tasks wait; at most {most} (setting controller.max_tasks)"
        own = (count, sum(size for _, size in shares.values()))
        text = _excess(quotas, "client", owner, repr(owner), own, (self.tasks_by_client, self.bytes_by_client))
        for namespace, share in shares.items():
            shown = f"the namespace {namespace!r}" if namespace else "the default namespace"
            counters = (self.tasks_by_namespace, self.bytes_by_namespace)
            text = text or _excess(quotas, "namespace", namespace, shown, share, counters)
        return text

    def validate(self, tasks: Iterable[Task]) -> None:
        """Raise AssertionError where the counts are not those of these tasks."""
        there = Usage()
        there.add(tasks)
        assert there == self, f"usage: {there} is there, {self} is counted"


def shares_of(
    groups: Iterable[Group], frames: Sequence[Bytes], counts: Callable[[TaskId], bool] | None = None
) -> Shares:
    """What a submission adds to each namespace, as it will be counted. ``counts``: of which tasks alone; None: of all.

    The indices of its frames need not have been checked yet.
    """
    found: Shares = {}
    for group in groups:
        count = size = 0
        for task_id, payload in group.tasks:
            if counts is not None and not counts(task_id):
                continue
            count += 1
            if type(payload) is bytes:
                size += len(payload)
            elif isinstance(payload, int) and 0 <= payload < len(frames):
                size += len(frames[payload])
        if count:
            before = found.get(group.options.namespace, (0, 0))
            found[group.options.namespace] = (before[0] + count, before[1] + size)
    return found


def _excess(
    quotas: Quotas, kind: str, key: str, shown: str, share: tuple[int, int], counters: tuple[Counter[str], Counter[str]]
) -> str:
    for counter, more, what, setting in (
        (counters[0], share[0], "tasks", f"max_tasks_per_{kind}"),
        (counters[1], share[1], "bytes of arguments", f"max_bytes_per_{kind}"),
    ):
        most = getattr(quotas, setting)
        if most and counter[key] + more > most:
            return f"{counter[key]} {what} of {shown} wait; at most {most} (setting controller.{setting})"
    return ""


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
