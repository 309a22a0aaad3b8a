"""A batch on a bus: each job that is to run becomes a command task, and its end a record in the batch's folder.

The runner holds nothing that the folder or the bus does not hold as well. A task's key is made of the batch, the job, its
content and the run; so a run that was killed is continued by the next one, which finds its tasks on the bus again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from headway.batch.book import Book, Choice, Entry
from headway.batch.callbacks import Callbacks, Execution
from headway.batch.config import Loaded
from headway.batch.ends import is_break, record_of
from headway.batch.errors import BatchError
from headway.batch.folder import BatchFolder, last_line_of
from headway.batch.names import file_name
from headway.batch.preparing import Preparer
from headway.batch.records import ENDS, RunInfo, State
from headway.batch.remote.machine import MARK_LABEL, START_LINE
from headway.batch.remote.machines import host_of
from headway_bus.errors import BusError, HeadwayError
from headway_bus.logs import get_logger
from headway_bus.records import Estimate, Status

if TYPE_CHECKING:
    from headway import Bus, Task
    from headway.batch.remote.machines import Machines

CHUNK = 40
"""Jobs that are prepared and submitted together: they share a message, and the first run while the next are prepared."""

LOOK = 1.0
"""Seconds between questions about the time left."""

LAST_TASKS = 32
"""Tasks that are looked at for the time left: the last that were submitted, which are the last to end."""

STOP_PATIENCE = 30.0
"""Seconds that an interrupted run waits until its jobs are over."""

MOST_LOSSES = 2
"""Times that a job runs again because its machine went away before its output had come."""

KEY_CHARACTERS = 400
UNFINISHED = (Status.WAITING, Status.QUEUED, Status.ASSIGNED, Status.RUNNING)

log = get_logger("headway.batch")


class Runner:
    """One run of one batch. ``refresh(book)`` is called about once in ``tick`` seconds, for whoever draws."""

    def __init__(
        self,
        loaded: Loaded,
        folder: BatchFolder,
        book: Book,
        info: RunInfo,
        callbacks: Callbacks,
        preparer: Preparer,
        *,
        resumed: bool = False,
        refresh: Callable[[Book], None] | None = None,
        tick: float = 0.25,
        check: Callable[[], None] | None = None,
        machines: Machines | None = None,
        watched: Iterable[asyncio.Task[None]] = (),
    ) -> None:
        self.book = book
        self._loaded = loaded
        self._folder = folder
        self._info = info
        self._callbacks = callbacks
        self._resumed = resumed
        self._refresh = refresh
        self._tick = tick
        self._check = check
        self._preparer = preparer
        self._machines = machines
        self._watched = tuple(watched)
        self._losses: Counter[str] = Counter()
        self._tasks: dict[str, Task] = {}
        self._news = asyncio.Event()
        self._ended: list[tuple[Entry, Task]] = []
        self._stopping = False

    async def run(self, bus: Bus) -> None:
        """Run what is to run and return when all of it has ended. Cancelled, it ends the jobs first."""
        self._callbacks.tell("on_start", self._loaded)
        try:
            async with contextlib.AsyncExitStack() as stack:
                events = None
                if self._callbacks or self._refresh:  # nobody else wants to know when a job begins
                    events = await stack.enter_async_context(bus.subscribe(f"job.{self._loaded.name}"))
                helpers = [asyncio.create_task(each) for each in self._helpers(bus, events)]
                try:
                    await self._work(bus, helpers)
                finally:
                    for helper in helpers:
                        helper.cancel()
                    await asyncio.gather(*helpers, return_exceptions=True)
        except BaseException:
            await self._stop(bus)
            raise
        finally:
            if self._refresh is not None:
                self._refresh(self.book)
            self._callbacks.tell("on_finish", self._loaded, time.time() - self.book.began)

    def _helpers(self, bus: Bus, events: Any) -> list[Any]:
        found: list[Any] = [self._watch_time(bus)]
        if events is not None:
            found.append(self._listen(events))
        return [*found, self._draw()] if self._refresh else found

    async def _work(self, bus: Bus, helpers: list[asyncio.Task[None]]) -> None:
        submitting = asyncio.create_task(self._submit_all(bus))
        try:
            while self.book.has_open:
                await self._until_news([submitting, *helpers, *self._watched])
                await self._take_ends(bus)
            await submitting
        finally:
            submitting.cancel()
            await asyncio.gather(submitting, return_exceptions=True)

    async def _until_news(self, others: list[asyncio.Task[None]]) -> None:
        """Wait for an end. What went wrong beside it is raised here, since nothing else would ever tell."""
        waiting = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait([waiting, *(each for each in others if not each.done())], return_when="FIRST_COMPLETED")
        finally:
            waiting.cancel()
        for each in others:
            if each.done() and not each.cancelled() and (error := each.exception()) is not None:
                raise error
        self._news.clear()

    # ------------------------------------------------------------------------------------------------ submitting

    async def _submit_all(self, bus: Bus) -> None:
        waiting = iter(self.book.chosen(Choice.RUN))
        while chunk := list(islice(waiting, CHUNK)):
            for entry in chunk:
                if self._machines is None:
                    self._preparer.prepare(entry, self._resumed)
                elif entry.before is not State.INIT:
                    # Its folder is made when it begins somewhere; until then it must not look as the last run left it.
                    self._folder.clear_state(entry.name)
            await self._submit(bus, *chunk)

    async def _submit(self, bus: Bus, *entries: Entry) -> None:
        """Submit jobs and remember their tasks. A run that is interrupted meanwhile waits for the bus's answer: a task that
        was accepted has to be ended, and it may have begun already."""
        placing = asyncio.gather(*(self._place(bus, entry) for entry in entries))
        try:
            await asyncio.shield(placing)
        except asyncio.CancelledError:
            if self._bus_lives():
                with contextlib.suppress(HeadwayError, TimeoutError):
                    await self._within(placing)
            placing.cancel()
            raise

    async def _place(self, bus: Bus, entry: Entry) -> None:
        resource, job = entry.job.resource, entry.job
        chosen = bus.options(
            name=entry.name,
            job=self._loaded.name,
            key=key_of(self._loaded.name, entry, self._info.run),
            slots=min(1.0, resource.cpu) if resource.cpu else 1.0,
            cpu=resource.cpu,
            memory=resource.memory,
            gpu=resource.gpu,
            timeout_run=job.timeout,
            max_attempts=job.max_attempts,
        )
        # The same line for all jobs of a batch, so that the estimator sees them as of one kind.
        ending = f"# {file_name(self._loaded.name)}"
        if self._machines is None:
            task = await chosen.command(f". ./run.sh {ending}", cwd=self._folder.job_path(entry.name))
        else:
            # Where it will run is not known yet: the job asks for its files when it begins.
            names = {"HEADWAY_BATCH_JOB": file_name(entry.name)}
            marked = chosen.options(labels={MARK_LABEL: self._info.mark}) if self._info.mark else chosen
            task = await marked.command(f"{START_LINE}{file_name(self._loaded.name)}", env=names)
        self._tasks[task.id] = task
        if self.book.on_submitted(entry, task.id) is not None:
            self._tell_start(entry)
        task.watch(lambda ended: self._on_end(entry, ended))

    def _on_end(self, entry: Entry, task: Task) -> None:
        self._ended.append((entry, task))
        self._news.set()

    # ------------------------------------------------------------------------------------------------ what happens

    async def _listen(self, events: Any) -> None:
        async for event in events:
            for change in event.data.get("changes", ()):
                if change.get("status") == Status.RUNNING:
                    entry = self.book.on_started(change["task"], change["at"], change["runtime"])
                    if entry is not None:
                        self._tell_start(entry)

    async def _take_ends(self, bus: Bus) -> None:
        """Keep the ends that there are. Each leaves the list when it is kept: an interruption meanwhile loses none."""
        ended = list(self._ended)
        troubles = await self._collect(entry for entry, _task in ended)
        for (entry, task), trouble in zip(ended, troubles, strict=True):
            if entry.state not in ENDS:
                await self._take_one(bus, entry, task, trouble)
            self._ended.pop(0)

    async def _take_one(self, bus: Bus, entry: Entry, task: Task, trouble: str) -> None:
        is_wanted = not self._stopping and not (task.outcome and task.outcome.status == Status.CANCELLED)
        if trouble and is_wanted and self._losses[entry.name] < MOST_LOSSES:
            self._losses[entry.name] += 1
            log.warning("a job's output was lost with its machine; it runs again", job=entry.name, reason=trouble)
            entry.runs += 1
            await self._submit(bus, entry)
        else:
            await self._take_end(entry, task, trouble)

    async def _collect(self, entries: Iterable[Entry]) -> list[str]:
        """Wait for what jobs have written elsewhere; what went wrong with each, in words."""
        if self._machines is None:
            return ["" for _ in entries]
        return await asyncio.gather(*(self._machines.collect(file_name(entry.name)) for entry in entries))

    async def _take_end(self, entry: Entry, task: Task, trouble: str) -> None:
        outcome = task.outcome
        assert outcome is not None
        info = await task.info() if self._resumed else None
        words = "" if outcome.error is None else last_line_of(self._folder.job_path(entry.name) / "stderr")
        record = record_of(entry, outcome, time.time(), self._stopping, info, words)
        if self._machines is not None:
            host = host_of(outcome.runtime, self._info.mark)
            record = msgspec.structs.replace(record, host=host, ext={"backend_type": "remote", "hostname": host})
        if trouble and record.status is State.SUCCEED:
            record = msgspec.structs.replace(record, status=State.FAILED, reason="output lost", message=trouble)
        if outcome.ran > 0 and not entry.told_started:
            entry.told_started, entry.runtime = True, outcome.runtime
            self._tell_start(entry)
        if self._stopping and not entry.told_started and record.status is State.INTERRUPTED:
            entry.state = State.INTERRUPTED  # it never ran: there is nothing to keep
            return
        self._folder.write_record(record)
        self.book.on_ended(entry, record)
        if self._refresh is not None:
            entry.last_line = last_line_of(self._folder.job_path(entry.name) / "stdout")
        self._tell_end(entry, is_break(outcome))

    def _tell_start(self, entry: Entry) -> None:
        if not self._callbacks:
            return
        self._callbacks.tell("on_job_start", self._loaded, entry.job, self._execution(entry))

    def _tell_end(self, entry: Entry, broke: bool) -> None:
        record = entry.record
        assert record is not None
        if not self._callbacks:
            return
        if broke:
            error = BatchError(f"{entry.name}: {record.message}")
            self._callbacks.tell("on_job_break", self._loaded, entry.job, error)
            return
        event = "on_job_succeed" if record.status is State.SUCCEED else "on_job_failed"
        self._callbacks.tell(event, self._loaded, entry.job, self._execution(entry), record.elapsed or 0.0)

    def _execution(self, entry: Entry) -> Execution:
        record = entry.record if entry.state in ENDS else None
        return Execution(
            entry.runtime,
            self._folder.job_path(entry.name),
            entry.task,
            str(entry.state),
            (record.message or record.reason) if record else "",
            record.exit_code if record else None,
        )

    async def _watch_time(self, bus: Bus) -> None:
        """Look after the bus, and ask it when the last job will have ended."""
        while True:
            await asyncio.sleep(LOOK)
            if self._check is not None:
                self._check()
            if self._refresh is not None:
                with contextlib.suppress(BusError, TimeoutError):
                    self.book.left = await time_left(bus, self._loaded.name)

    async def _draw(self) -> None:
        assert self._refresh is not None
        while True:
            for entry in self.book.entries.values():
                if entry.state is State.RUNNING:
                    entry.last_line = last_line_of(self._folder.job_path(entry.name) / "stdout")
            self._refresh(self.book)
            await asyncio.sleep(self._tick)

    # ------------------------------------------------------------------------------------------------ stopping

    async def _stop(self, bus: Bus) -> None:
        """End what runs, and wait until it is over. A second interruption does not wait."""
        self._stopping = True
        unfinished = [task for task in self._tasks.values() if not task.done]
        if unfinished and self._bus_lives():
            with contextlib.suppress(HeadwayError, TimeoutError):
                await self._within(bus.cancel(unfinished, timeout=STOP_PATIENCE))
                await self._within(asyncio.gather(*(task.wait(STOP_PATIENCE) for task in unfinished)))
        with contextlib.suppress(BatchError):  # the disk is full, say, which is what stopped it
            await self._take_ends(bus)

    def _bus_lives(self) -> bool:
        """Whether there is any use in asking it for something."""
        try:
            if self._check is not None:
                self._check()
        except BatchError:
            return False
        return True

    @staticmethod
    async def _within(work: Awaitable[Any]) -> Any:
        async with asyncio.timeout(STOP_PATIENCE):
            return await work


def key_of(batch: str, entry: Entry, run: str) -> str:
    """The name of the job's task on the bus: the same for the same content in the same run, however often it is submitted."""
    return f"{batch[:KEY_CHARACTERS]}/{entry.name[:KEY_CHARACTERS]}/{entry.content}/{run}.{entry.runs}"


async def time_left(bus: Bus, batch: str) -> Estimate | None:
    """Seconds until the last of a batch's tasks ends, as the bus predicts it; None if there is none."""
    infos = await bus.tasks(job=batch, status=UNFINISHED, limit=LAST_TASKS)
    found: Iterable[Estimate] = [info.end_estimate for info in infos if info.end_estimate is not None]
    known = [each for each in found if each.known]
    return max(known, key=lambda each: each.expectation) if known else None
