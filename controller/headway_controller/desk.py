"""The controller's information desk: what is asked of tasks, logs, jobs and runtimes. Nothing here changes anything.

What lives is answered from memory, what has ended from the store. Store reads block, so they run in a thread, and the
answer follows when they are done.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, TypeVar

import msgspec

from headway_bus.codec import MAX_HEADER_BYTES
from headway_bus.errors import Refused
from headway_bus.ids import SHORT_CHARACTERS, TaskId, is_id_prefix, named_task_id, parse_task_id, text_of
from headway_bus.messages import (
    AskController,
    AskEstimate,
    AskExplain,
    AskJobs,
    AskLogs,
    AskQueues,
    AskResult,
    AskRuntimes,
    AskTask,
    AskTasks,
    ControllerState,
    EstimateFound,
    Explained,
    JobPage,
    LogPage,
    Message,
    QueuePage,
    ResultFound,
    RuntimePage,
    TaskFound,
    TaskPage,
)
from headway_bus.namespaces import Scope, may_see
from headway_bus.records import ENDS, Blob, Code, JobInfo, Status, TaskInfo
from headway_controller.checks import LARGEST, MAX_TEXT, find_fault
from headway_controller.core import Controller
from headway_controller.foresight import with_estimates
from headway_controller.placement.explanation import of_estimate
from headway_controller.state import Bytes, Ended, Gathering, Queued, Waiting, owner_of, status_of
from headway_controller.store import Store, StoredTask, TaskFilter
from headway_controller.store.protocol import UNFINISHED
from headway_controller.tenancy import confine
from headway_controller.values import pack_outcome
from headway_controller.views import info_of_stored, info_of_task, outcome_of_stored, state_of_runtime

MAX_PAGE = 10_000
SOME, MANY = 10, 1_000
"""Tasks that a short prefix may mean: to one who sees all of them, and to one for whom others' are left out."""

PAGE_BYTES = MAX_HEADER_BYTES // 2
"""A page that is larger is cut: no peer reads a header beyond the limit."""

_encode = msgspec.msgpack.Encoder().encode

Result = TypeVar("Result")
Answer = tuple[Message, list[Bytes]]


class Shell(Protocol):
    """What the desk needs of the service."""

    core: Controller
    store: Store

    async def read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run a blocking read of the store in a thread."""

    async def put_blob(self, blob: Blob, offset: int, data: bytes) -> int:
        """Append a part of a blob, in the order of the calls; how much is there now."""

    async def get_blob(self, blob: Blob, offset: int, length: int) -> bytes:
        """Read a part of a blob; answers come in the order of the calls."""

    def now(self) -> float:
        """The core's clock."""


class Desk:
    """Answers questions. ``answers`` maps a message's class to the method that answers it, to whom, who has these namespaces.

    What is in another namespace is answered as if it were not there.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.answers: dict[type[Message], Callable[[str, Scope, Any], Awaitable[Answer]]] = {
            AskTasks: self._tasks,
            AskTask: self._task,
            AskResult: self._result,
            AskLogs: self._logs,
            AskJobs: self._jobs,
            AskRuntimes: self._runtimes,
            AskController: self._controller,
            AskQueues: self._queues,
            AskEstimate: self._estimate,
            AskExplain: self._explain,
        }

    # ------------------------------------------------------------------------------------------- tasks

    async def _tasks(self, source: str, scope: Scope, ask: AskTasks) -> Answer:
        limit = max(1, min(ask.limit, MAX_PAGE))
        if len(ask.name) > MAX_TEXT:
            raise Refused(Code.INVALID, f"a pattern of {len(ask.name)} characters; a name has at most {MAX_TEXT}")
        wanted = set(ask.status)
        if wanted and not wanted & ENDS:
            found = self._live_page(ask, limit, scope)
        else:
            found = await self._stored_page(ask, limit, scope)
        shown = with_estimates(self._shell.core, found, self._shell.now())
        fitting = fitting_count(shown)
        more = len(found) == limit or fitting < len(found)
        return TaskPage(ask.request, shown[:fitting], shown[fitting - 1].task if more else TaskId(b"")), []

    def _live_page(self, ask: AskTasks, limit: int, scope: Scope) -> list[TaskInfo]:
        core = self._shell.core
        tasks: Iterable[TaskId] = core.state.tasks
        if ask.job:
            job = core.state.jobs.get(ask.job)
            tasks = job.tasks if job is not None else ()
        wanted = set(ask.status)
        chosen = sorted(
            (
                each
                for each in tasks
                if status_of(core.state.tasks[each]) in wanted and (not ask.before or each < ask.before)
            ),
            reverse=True,
        )
        infos: list[TaskInfo] = []
        for task_id in chosen:
            task = core.state.tasks[task_id]
            if not may_see(scope, task.options.namespace):
                continue
            info = info_of_task(task, core.life.wall_offset)
            if _matches(info, ask):
                infos.append(info)
                if len(infos) == limit:
                    break
        return infos

    async def _stored_page(self, ask: AskTasks, limit: int, scope: Scope) -> list[TaskInfo]:
        wanted = set(ask.status)
        ends = frozenset(wanted & ENDS)
        which = TaskFilter(ask.job, ask.queue, ask.name, "", ends, bool(wanted - ENDS) if wanted else False, scope)
        found: list[TaskInfo] = []
        before: TaskId | bytes = ask.before
        while len(found) < limit:
            page = await self._shell.read(self._shell.store.find_page, which, limit, before)
            for stored in page:
                info = self._present(stored)
                if _matches(info, ask):
                    found.append(info)
            if len(page) < limit:
                break
            before = page[-1].task
        return found[:limit]

    def _present(self, stored: StoredTask) -> TaskInfo:
        """Memory knows better than the store where an unfinished task is."""
        core = self._shell.core
        task = core.state.tasks.get(stored.task)
        if task is not None:
            return info_of_task(task, core.life.wall_offset)
        return info_of_stored(stored, core.descriptions.latest(stored))

    async def _task(self, source: str, scope: Scope, ask: AskTask) -> Answer:
        task_id = await self.find(ask.prefix, scope)
        core = self._shell.core
        task = core.state.tasks.get(task_id)
        if task is not None:
            info = info_of_task(task, core.life.wall_offset)
            return TaskFound(ask.request, with_estimates(core, [info], self._shell.now())[0]), []
        return TaskFound(ask.request, self._present(await self._stored(task_id))), []

    async def find(self, text: str, scope: Scope) -> TaskId:
        """The one task that a prefix of its id, or its caller's own key, means. Raises Refused."""
        text = text.strip()
        if len(text) > MAX_TEXT:
            raise Refused(Code.INVALID, f"{len(text)} characters; an id has 26 of them, and a key at most {MAX_TEXT}")
        store = self._shell.store
        try:
            exact = parse_task_id(text)
        except ValueError:
            exact = None
        named = [named_task_id(text, namespace) for namespace in scope or ("",)]
        for candidate in filter(None, (exact, *named)):
            if await self._is_there(candidate, scope):
                return candidate
        if not text:
            raise Refused(Code.INVALID, "an empty id; expected the beginning of a task's id, or its key")
        most = SOME if scope is None else MANY
        found = await self._shell.read(store.find_by_prefix, text, most) if is_id_prefix(text) else []
        found = (
            await self._visible(found, scope)
            or (
                await self._visible(
                    await self._shell.read(store.find_by_key, text, 1 if scope is None else MANY), scope
                )
            )[:1]
        )
        if not found:
            raise Refused(Code.NOT_FOUND, f"no task {text!r}: it was never accepted here, or was purged")
        if len(found) > 1:
            some = ", ".join(text_of(each)[: max(SHORT_CHARACTERS, len(text) + 2)] for each in found[:5])
            raise Refused(Code.AMBIGUOUS, f"{text!r} is the beginning of several ids: {some}; write more of it")
        return found[0]

    async def _is_there(self, task_id: TaskId, scope: Scope) -> bool:
        """Whether there is such a task, as far as it is the asker's business."""
        task = self._shell.core.state.tasks.get(task_id)
        if task is not None:
            return may_see(scope, task.options.namespace)
        return bool(await self._visible([task_id], scope, look=True))

    async def _visible(self, found: list[TaskId], scope: Scope, look: bool = False) -> list[TaskId]:
        """Those of these stored tasks that are the asker's business."""
        if not found or (scope is None and not look):
            return found
        whose = await self._shell.read(self._shell.store.find_namespaces, found)
        return [task_id for task_id in found if task_id in whose and may_see(scope, whose[task_id])]

    async def _check(self, task_id: TaskId, scope: Scope) -> None:
        """Raises Refused where the task is none of the asker's business."""
        if scope is not None and not await self._is_there(task_id, scope):
            raise Refused(Code.NOT_FOUND, f"no task {text_of(task_id)}: it was never accepted here, or was purged")

    async def _stored(self, task_id: TaskId) -> StoredTask:
        found = await self._shell.read(self._shell.store.find, [task_id])
        if not found:
            raise Refused(Code.NOT_FOUND, f"no task {text_of(task_id)}: it was never accepted here, or was purged")
        return found[0]

    async def _result(self, source: str, scope: Scope, ask: AskResult) -> Answer:
        await self._check(ask.task, scope)
        task = self._shell.core.state.tasks.get(ask.task)
        if task is not None and isinstance(task.state, Ended):
            outcome = task.state.outcome
        elif task is not None:
            raise Refused(Code.STATE, f"task {text_of(ask.task)} has not ended: it is {status_of(task)}")
        else:
            stored = outcome_of_stored(await self._stored(ask.task))
            if stored is None:
                raise Refused(Code.STATE, f"task {text_of(ask.task)} has not ended")
            outcome = stored
        frames: list[Bytes] = []
        return ResultFound(ask.request, pack_outcome(outcome, frames)), frames

    async def _logs(self, source: str, scope: Scope, ask: AskLogs) -> Answer:
        await self._check(ask.task, scope)
        # Whether it has ended is looked at first: what is in the store afterwards then includes its last words.
        ended = self._shell.core.life.status(ask.task) in (None, *ENDS) and ask.task not in self._shell.core.state.tasks
        if ended and self._shell.core.life.status(ask.task) is None:
            ended = (await self._stored(ask.task)).end is not None
        limit, after = max(1, min(ask.limit, MAX_PAGE)), min(max(0, ask.after), LARGEST)
        found = await self._shell.read(self._shell.store.logs, ask.task, ask.attempt, after, limit)
        records = found.records[: fitting_count(found.records)]
        complete = ended and len(found.records) < limit and len(records) == len(found.records)
        return LogPage(ask.request, records, after + len(records), complete, found.dropped), []

    # ------------------------------------------------------------------------------------------- jobs, runtimes, itself

    async def _jobs(self, source: str, scope: Scope, ask: AskJobs) -> Answer:
        state = self._shell.core.state
        jobs = []
        for stored in await self._shell.read(self._shell.store.job_counts, ask.job, scope):
            counts = {name: count for name, count in stored.counts.items() if name != UNFINISHED and count}
            live = state.jobs.get(stored.job)
            for task_id in live.tasks if live is not None else ():
                task = state.tasks[task_id]
                if not isinstance(task.state, Ended) and may_see(scope, task.options.namespace):
                    counts[status_of(task)] = counts.get(status_of(task), 0) + 1
            # What ended while the store was read is in neither of the two: it is about to be there.
            missing = sum(stored.counts.values()) - sum(counts.values())
            if missing > 0:
                counts[Status.RUNNING] = counts.get(Status.RUNNING, 0) + missing
            jobs.append(JobInfo(stored.job, counts, stored.first_submitted, stored.last_ended))
        return JobPage(ask.request, jobs), []

    async def _runtimes(self, source: str, scope: Scope, ask: AskRuntimes) -> Answer:
        core, now = self._shell.core, self._shell.now()
        offset = core.life.wall_offset
        queues = {queue.runtime: queue for queue in core.scheduler.queues("", now)}
        found = [
            state_of_runtime(runtime, core.state, core.scheduler, queues.get(name), now, offset)
            for name, runtime in sorted(core.state.runtimes.items())
        ]
        return RuntimePage(ask.request, found), []

    # ------------------------------------------------------------------------------------------- estimates

    async def _queues(self, source: str, scope: Scope, ask: AskQueues) -> Answer:
        scheduler = self._shell.core.scheduler
        scores = scheduler.scores()
        if scope is not None:  # targets have names
            scores = {target: score for target, score in scores.items() if target in ("", "*", ask.target)}
        return QueuePage(ask.request, scheduler.queues(ask.target, self._shell.now()), scores), []

    async def _estimate(self, source: str, scope: Scope, ask: AskEstimate) -> Answer:
        core = self._shell.core
        if fault := find_fault(ask.options):
            raise Refused(Code.INVALID, fault)
        options, fault = confine(ask.options, scope)
        if fault:
            raise Refused(Code.FORBIDDEN, fault)
        runtime, starts, ends = core.scheduler.waiting(core.life.intern(options), self._shell.now(), owner_of(source))
        return EstimateFound(ask.request, runtime, starts, ends), []

    async def _explain(self, source: str, scope: Scope, ask: AskExplain) -> Answer:
        core = self._shell.core
        story: dict[str, Any]
        await self._check(ask.task, scope)
        task = core.state.tasks.get(ask.task)
        if task is None:
            stored = await self._stored(ask.task)
            where = stored.end.runtime if stored.end is not None else ""
            return Explained(
                ask.request, {"state": stored.end.status if stored.end else "queued", "runtime": where}
            ), []
        if isinstance(task.state, Waiting):
            unmet = [text_of(parent) for parent in task.state.unmet]
            left = max(0.0, task.state.until - self._shell.now())
            story = {"state": "waiting", "why": task.state.why, "after": unmet, "seconds": left}
            return Explained(ask.request, story), []
        if isinstance(task.state, Gathering):
            return Explained(ask.request, {"state": "running", "union": core.unions.describe(task)}), []
        story = core.scheduler.explain(task.options, self._shell.now(), task.id, owner_of(task.client))
        if isinstance(task.state, Queued):
            # By its own place among those that wait: the scheduler's answer is that of one that comes now.
            info = with_estimates(core, [info_of_task(task, core.life.wall_offset)], self._shell.now())[0]
            if info.start_estimate is not None and info.end_estimate is not None:
                story |= {"starts": of_estimate(info.start_estimate), "ends": of_estimate(info.end_estimate)}
                story["runtime"] = info.start_runtime
            if core.is_paused:
                story["lacks"] = ["an operator has paused the giving out of work", *story.get("lacks", [])]
        return Explained(ask.request, story), []

    async def _controller(self, source: str, scope: Scope, ask: AskController) -> Answer:
        core, store = self._shell.core, self._shell.store
        if scope is not None:
            stored = await self._shell.read(store.counts, scope)
            state = {**core.describe(scope), "stored": stored, "version": _version()}
            return ControllerState(ask.request, state | {"now": self._shell.now() + core.life.wall_offset}, {}), []
        counters = dict(core.state.counters)
        counters |= {f"store.{name}": count for name, count in store.counters().items()}
        counters |= {f"scheduler.{name}": count for name, count in core.scheduler.counters.items()}
        stored = await self._shell.read(store.counts)
        state = {**core.describe(), "stored": stored, "store_backlog": store.backlog}
        state |= {"version": _version(), "now": self._shell.now() + core.life.wall_offset}
        return ControllerState(ask.request, state, counters), []


def fitting_count(records: Sequence[msgspec.Struct]) -> int:
    """How many of these, from the first on, go into one page; at least one."""
    size = 0
    for count, record in enumerate(records):
        size += len(_encode(record))
        if size > PAGE_BYTES and count:
            return count
    return len(records)


def _version() -> str:
    try:
        return version("headway")
    except PackageNotFoundError:
        return ""


def _matches(info: TaskInfo, ask: AskTasks) -> bool:
    return (
        (not ask.status or info.status in ask.status)
        and (not ask.job or info.options.job == ask.job)
        and (not ask.queue or info.options.queue == ask.queue)
        and (not ask.runtime or info.runtime == ask.runtime)
        and (not ask.name or fnmatch.fnmatchcase(info.options.name, ask.name))
    )
