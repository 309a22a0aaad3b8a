"""What can be asked of the bus, and the operator's verbs: the half of :class:`headway.bus.Bus` that submits nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any

import msgspec

from headway.connection import ASK_PATIENCE, Connection
from headway.options import description_of, task_id_of
from headway.subscription import Subscription
from headway.task import Task
from headway_bus import messages
from headway_bus.ids import TaskId, text_of
from headway_bus.link import BROKER
from headway_bus.records import JobInfo, QueueState, RuntimeState, Status, TaskInfo

PAGE = 500
"""Tasks in one page of a listing."""

CHANGE_PATIENCE = 60.0
"""Seconds that a verb waits until what it changes is over."""


class Questions:
    """The verbs; every one takes ``timeout`` in seconds and raises Refused, NoBus or TimeoutError."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def task(self, which: str | bytes, *, timeout: float | None = ASK_PATIENCE) -> Task:
        """A task by its id, the beginning of its id, or its key, whoever submitted it. Raises Refused if none or several."""
        prefix = which if isinstance(which, str) else text_of(task_id_of(which))
        found: messages.TaskFound = await self._ask(lambda number: messages.AskTask(number, prefix), timeout)
        info = found.task
        return Task(info.task, self._connection, info.options, info.status, heeded=False)

    def tasks(
        self,
        job: str = "",
        status: str | Iterable[str] = (),
        queue: str = "",
        name: str = "",
        runtime: str = "",
        limit: int | None = None,
        *,
        timeout: float | None = ASK_PATIENCE,
    ) -> Listing:
        """Tasks, newest first: ``await`` it for a list, or ``async for`` it page by page. ``name`` is a shell-style pattern."""
        wanted = [Status(each) for each in ([status] if isinstance(status, str) else status)]

        def page(count: int, before: TaskId) -> Callable[[int], messages.Message]:
            return lambda number: messages.AskTasks(number, job, wanted, queue, name, runtime, count, before)

        return Listing(self._connection, page, limit, timeout)

    async def jobs(self, job: str = "", *, timeout: float | None = ASK_PATIENCE) -> list[JobInfo]:
        """The named groups of tasks, or one of them, with the number of tasks by status."""
        found: messages.JobPage = await self._ask(lambda number: messages.AskJobs(number, job), timeout)
        return found.jobs

    async def runtimes(self, *, timeout: float | None = ASK_PATIENCE) -> list[RuntimeState]:
        """The runtimes: what they offer, how they are, what they run."""
        found: messages.RuntimePage = await self._ask(messages.AskRuntimes, timeout)
        return found.runtimes

    async def queues(self, target: str | None = None, *, timeout: float | None = ASK_PATIENCE) -> list[QueueState]:
        """The expected waiting time (expectation, error, p50, p90, in seconds) by runtime and target."""
        return (await self._queues(target, timeout)).queues

    async def scores(
        self, target: str | None = None, *, timeout: float | None = ASK_PATIENCE
    ) -> dict[str, dict[str, float]]:
        """How well earlier estimates held, by target; under "" over all."""
        return (await self._queues(target, timeout)).scores

    async def cancel(
        self, tasks: Iterable[Any] = (), *, job: str = "", timeout: float | None = CHANGE_PATIENCE
    ) -> messages.Changed:
        """Cancel tasks, or all unfinished ones of a job; returns when they are over, with ``.count`` and ``.refused``."""
        return await self._change(messages.Cancel, tasks, job, timeout, safe=True)

    async def retry(
        self, tasks: Iterable[Any] = (), *, job: str = "", timeout: float | None = CHANGE_PATIENCE
    ) -> messages.Changed:
        """Run ended tasks again, with a fresh count of attempts."""
        tasks = _listed(tasks)
        changed = await self._change(messages.RetryTasks, tasks, job, timeout, safe=False)
        refused = {text for text, _why in changed.refused}
        for task in tasks:
            if isinstance(task, Task) and task.id not in refused:
                task._forget_end()
        return changed

    async def purge(
        self, tasks: Iterable[Any] = (), *, job: str = "", timeout: float | None = CHANGE_PATIENCE
    ) -> messages.Changed:
        """Forget ended tasks and their results now."""
        return await self._change(messages.Purge, tasks, job, timeout, safe=True)

    async def describe(self, task: Any, text: str, *, timeout: float | None = CHANGE_PATIENCE) -> None:
        """Give a task another description, whatever its status; nothing else of it changes, and a running one goes on.

        ``task``: one, or its id. Returns when it is stored.
        """
        text = description_of(text)
        task_id = task_id_of(task)
        await self._ask(lambda number: messages.Describe(number, task_id, text), timeout)
        if hasattr(task, "options"):
            task.options = msgspec.structs.replace(task.options, description=text)

    async def drain(
        self, runtime: str, *, resume: bool = False, timeout: float | None = CHANGE_PATIENCE
    ) -> messages.Changed:
        """Let a runtime finish what it runs and give it nothing new; ``resume`` takes that back."""
        changed: messages.Changed = await self._ask(
            lambda number: messages.DrainRuntime(number, runtime, resume), timeout
        )
        return changed

    async def control(
        self, verb: str, *, timeout: float | None = CHANGE_PATIENCE, **arguments: Any
    ) -> messages.Message:
        """An operator's verb on the controller: pause, resume, strategy, predictor, backup …"""
        answer: messages.Message = await self._ask(
            lambda number: messages.Control(number, verb, arguments), timeout, safe=False
        )
        return answer

    async def counters(self, *, timeout: float | None = ASK_PATIENCE) -> dict[str, dict[str, int]]:
        """Everything that is counted, every drop and repeat: by "client", "broker", "controller"."""
        broker = await self.broker(timeout=timeout)
        controller = await self.controller(timeout=timeout)
        here = dict(self._connection.core.counters)
        return {"client": here, "broker": broker.counters, "controller": controller.counters}

    async def broker(self, *, timeout: float | None = ASK_PATIENCE) -> messages.BrokerState:
        """What the broker knows of itself: start, peers, counters."""
        answer, _ = await self._connection.ask(messages.AskBroker, target=BROKER, timeout=timeout)
        state: messages.BrokerState = answer
        return state

    async def controller(self, *, timeout: float | None = ASK_PATIENCE) -> messages.ControllerState:
        """What the controller knows of itself: version, store, settings, counters."""
        state: messages.ControllerState = await self._ask(messages.AskController, timeout)
        return state

    def subscribe(self, topic: str) -> Subscription:
        """What is published on a topic, as it comes: ``async for event in bus.subscribe("runtimes")``.

        Topics: ``task.<id>``, ``logs.<id>``, ``job.<job>``, ``tasks``, ``queues``, ``runtimes``.
        """
        return Subscription(self._connection, topic)

    async def _queues(self, target: str | None, timeout: float | None) -> messages.QueuePage:
        page: messages.QueuePage = await self._ask(lambda number: messages.AskQueues(number, target or ""), timeout)
        return page

    async def _change(
        self,
        verb: Callable[..., messages.Message],
        tasks: Iterable[Any],
        job: str,
        timeout: float | None,
        *,
        safe: bool,
    ) -> messages.Changed:
        chosen = [task_id_of(task) for task in _listed(tasks)]
        if bool(chosen) == bool(job):
            raise ValueError("name tasks, or a job with job=…, and not both")
        changed: messages.Changed = await self._ask(lambda number: verb(number, chosen, job), timeout, safe=safe)
        return changed

    async def _ask(self, make: Callable[[int], messages.Message], timeout: float | None, *, safe: bool = True) -> Any:
        answer, _frames = await self._connection.ask(make, safe=safe, timeout=timeout)
        return answer


def _listed(tasks: Any) -> list[Any]:
    return [tasks] if isinstance(tasks, str | bytes) or hasattr(tasks, "task_id") else list(tasks)


class Listing:
    """Tasks that match: ``await`` for a list of all (or ``limit``), ``async for`` to take them page by page."""

    def __init__(
        self,
        connection: Connection,
        page: Callable[[int, TaskId], Callable[[int], messages.Message]],
        limit: int | None,
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._page = page
        self._limit = limit
        self._timeout = timeout

    def __await__(self) -> Generator[Any, None, list[TaskInfo]]:
        return self._all().__await__()

    async def __aiter__(self) -> AsyncIterator[TaskInfo]:
        left = self._limit
        before = TaskId(b"")
        while left is None or left > 0:
            make = self._page(PAGE if left is None else min(left, PAGE), before)
            page: messages.TaskPage
            page, _ = await self._connection.ask(make, timeout=self._timeout)
            for info in page.tasks:
                yield info
            before = page.next
            if not before:
                return
            left = None if left is None else left - len(page.tasks)

    async def _all(self) -> list[TaskInfo]:
        return [info async for info in self]
