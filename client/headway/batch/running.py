"""From a checked batch to its end: the lock, the bus, the run, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from headway.batch.answers import Answers
from headway.batch.blocking import run_to_end
from headway.batch.book import Book, Choice, Entry, Selection
from headway.batch.callbacks import Callback, Callbacks
from headway.batch.config import Loaded, LocalBackend, Resource, data_folder
from headway.batch.content import Contents
from headway.batch.errors import BatchBusy, BatchError, BatchFileError
from headway.batch.folder import BatchFolder
from headway.batch.killing import kill_job
from headway.batch.preparing import Preparer
from headway.batch.records import RunInfo, State
from headway.batch.remote import ssh
from headway.batch.remote.jobs import Jobs
from headway.batch.remote.machine import MARK_LABEL, Means
from headway.batch.remote.machines import Machines, machines_of
from headway.batch.runner import Runner, key_of
from headway.batch.server import Portal, serving
from headway.batch.taking_up import end_strays, still_owed
from headway.early_hub import EarlyHub
from headway.private_bus import START_PATIENCE, PrivateHub
from headway.private_hub import kill_tree
from headway_bus import config
from headway_bus.keys import is_local
from headway_bus.logs import get_logger
from headway_bus.records import RuntimeState

if TYPE_CHECKING:
    from headway import Bus

LEFTOVER_PATIENCE = 40.0
"""Seconds that a run waits for the private bus of one that was killed, which is ending its jobs."""

LOCK_PATIENCE = 1.0
"""Seconds that a lock is tried: somebody may just be looking whether it is held."""

MOST_SOCKET_PATH = 100
"""Bytes of a socket's path; the system takes 108."""

POLL = 0.05
PRIVATE = {
    "HEADWAY_CONTROLLER_DURABILITY": "memory",
    "HEADWAY_CONTROLLER_AHEAD": "0.03",
    "HEADWAY_RUNTIME_SERVES": "command",
    "HEADWAY_RUNTIME_DRAIN_DEADLINE": "0",
    "HEADWAY_LOGS_LEVEL": "warning",
}
"""Settings of a private bus: it does not outlive its run, and when it is stopped its jobs are."""

log = get_logger("headway.batch")


ALL = Selection()


@dataclass(frozen=True)
class Options:
    """How a batch is run. ``bus``: the address of one that is there, None: a private one. ``slots``: of a private one, or of
    each machine. ``accept_new_hosts``: trust the keys of machines that are seen for the first time."""

    selection: Selection = ALL
    bus: str | None = None
    slots: float | None = None
    data_dir: str | None = None
    accept_new_hosts: bool = False
    tick: float = 0.25


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    summary: dict[str, int]
    n_allocated: int
    n_skipped: int
    succeeded: bool
    elapsed: float
    states: dict[str, State]
    folder: Path


def run_loaded(
    loaded: Loaded,
    options: Options,
    callbacks: Iterable[Callback] = (),
    refresh: Callable[[Book], None] | None = None,
    early: EarlyHub | None = None,
) -> Result:
    """Run a batch and return when it is over. Raises BatchFileError before anything runs, BatchError, BusError.

    ``early``: the process of the private bus, if that was started before; it is the caller's to discard.
    """
    check_backend(loaded, options)
    base = data_folder(options.data_dir) if options.data_dir else loaded.batches_folder
    folder = BatchFolder.of(base, loaded.name)
    folder.make()
    with _locked(folder) as descriptor:
        book = plan(loaded, folder, options.selection, time.time())
        if not book.has_open:
            folder.write_config(loaded.config)
            return _nothing_to_do(loaded, book, callbacks, folder)
        return _run_locked(loaded, options, folder, book, Callbacks(callbacks), refresh, (descriptor, early))


def check_backend(loaded: Loaded, options: Options) -> None:
    """What can be known before anything is made. Raises BatchFileError."""
    if not isinstance(loaded.config.backend, LocalBackend):
        ssh.check_installed()
        if options.bus is not None and (config.load().bus.key_file or not is_local(options.bus)):
            raise BatchFileError(
                f"{loaded.source}: backend.type: 'remote': the bus at {options.bus} is one with keys, and each machine would "
                "need one of its own; leave out --bus, or leave out the backend and start a runtime with its key on each "
                "machine (headway runtime --bus … --key-file …)"
            )
    unknown = set(options.selection.only) - {str(job.name) for job in loaded.jobs}
    if unknown:
        raise BatchFileError(f"{loaded.source}: there is no job {sorted(unknown)[0]!r} in the batch")


def plan(loaded: Loaded, folder: BatchFolder, selection: Selection, now: float) -> Book:
    """What this run does with each job."""
    contents = Contents(loaded.folder, loaded.environments)
    states = folder.states(str(job.name) for job in loaded.jobs)
    entries = []
    for job in loaded.jobs:
        name = str(job.name)
        try:
            content = contents.of(job)
        except OSError as error:
            raise BatchError(f"{error.filename}: the asset of {name} cannot be read: {error.strerror}") from None
        # Whoever holds the lock knows that nobody else runs it, whatever the file says.
        before = State.INTERRUPTED if states[name] is State.RUNNING else states[name]
        record = folder.read_record(name)
        choice = selection.choose(name, before, record, content)
        runs = record.runs if record else 0
        state = State.INIT if choice is Choice.RUN else before
        entries.append(Entry(job, content, choice, state, before, runs, None if choice is Choice.RUN else record))
    return Book.of(loaded.name, entries, now)


@contextmanager
def _locked(folder: BatchFolder) -> Iterator[int]:
    descriptor = _take_lock(folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take_lock(folder: BatchFolder) -> int:
    """The batch's lock. Raises BatchBusy with who has it."""
    began, told = time.monotonic(), False
    while True:
        descriptor = folder.lock()
        if descriptor is not None:
            return descriptor
        info = folder.read_run()
        leftover = info is not None and info.host == socket.gethostname() and not psutil.pid_exists(info.pid)
        if leftover and not told:
            told = True
            log.warning(
                "the last run of this batch was killed; waiting until its jobs are ended", batch=folder.path.name
            )
        if time.monotonic() - began > (LEFTOVER_PATIENCE if leftover else LOCK_PATIENCE):
            raise BatchBusy(_busy_text(folder, info))
        time.sleep(POLL)


def _busy_text(folder: BatchFolder, info: RunInfo | None) -> str:
    if info is None:
        return f"{folder.path}: another process has just begun to run this batch; wait for it, or end it"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.since))
    return f"{folder.path}: process {info.pid} on {info.host} has been running this batch since {since}; wait for it, or end it"


def _elsewhere_text(batch: str, earlier: RunInfo) -> str:
    return (
        f"the last run of batch {batch} was killed, and its jobs may still be at work on the bus at {earlier.bus}: run it "
        f"with --bus {earlier.bus}, or end them (headway cancel --bus {earlier.bus} --job {batch}) and use --force"
    )


def _nothing_to_do(loaded: Loaded, book: Book, callbacks: Iterable[Callback], folder: BatchFolder) -> Result:
    teller = Callbacks(callbacks)
    teller.tell("on_start", loaded)
    teller.tell("on_finish", loaded, time.time() - book.began)
    owed = still_owed(folder.read_run(), book)
    if owed is None:
        folder.forget_run()
    result = result_of(book, folder)
    if stays(loaded):
        with _portal_of(loaded, folder) as portal:
            folder.write_run(run_info("", book, "", portal, private=True))
            linger(loaded, portal)
            folder.forget_run() if owed is None else folder.write_run(owed)
    return result


def run_info(run: str, book: Book, bus: str, portal: Portal, private: bool) -> RunInfo:
    """This process as the one that runs the batch."""
    return RunInfo(
        run=run,
        pid=os.getpid(),
        host=socket.gethostname(),
        since=book.began,
        bus=bus,
        private=private,
        portal=portal.url,
    )


def stays(loaded: Loaded) -> bool:
    """Whether the process is to stay when all jobs are over: only if the file says so itself."""
    return loaded.config.scheduler.exit_on_finish is False


def linger(loaded: Loaded, portal: Portal) -> None:
    """Stay until Ctrl-C where that is asked for."""
    if not stays(loaded):
        return
    with suppress(KeyboardInterrupt):
        log.info(
            "all jobs are over; staying until Ctrl-C (exit_on_finish is false)", batch=loaded.name, portal=portal.url
        )
        threading.Event().wait()


def result_of(book: Book, folder: BatchFolder) -> Result:
    return Result(
        summary=book.counts(),
        n_allocated=len(book.chosen(Choice.RUN)),
        n_skipped=len(book.chosen(Choice.SKIP)),
        succeeded=book.all_succeeded,
        elapsed=time.time() - book.began,
        states={name: entry.state for name, entry in book.entries.items()},
        folder=folder.path,
    )


def _run_locked(
    loaded: Loaded,
    options: Options,
    folder: BatchFolder,
    book: Book,
    callbacks: Callbacks,
    refresh: Callable[[Book], None] | None,
    means: tuple[int, EarlyHub | None],
) -> Result:
    earlier = folder.read_run()
    if earlier is not None and not earlier.private and earlier.bus != options.bus and not options.selection.force:
        raise BatchError(_elsewhere_text(loaded.name, earlier))
    with ExitStack() as stack:
        portal = stack.enter_context(_portal_of(loaded, folder))
        stack.callback(_forget_own, folder, book, still_owed(earlier, book))
        preparer = Preparer(loaded, folder, (portal.url, portal.token))
        ahead = partial(preparer.ahead, book.open)
        url, hub = stack.enter_context(_bus_of(loaded, options, means, ahead))
        # The tasks of a run that was killed are still on their bus, if that was not its own.
        resumed = earlier is not None and hub is None and not earlier.private and earlier.bus == url
        run = earlier.run if earlier is not None and resumed else uuid.uuid4().hex[:12]
        info = run_info(run, book, url, portal, private=hub is not None)
        work = _Work(loaded, options, folder, book, callbacks, refresh, portal, preparer, hub, info, resumed)
        run_to_end(work.run)
        result = result_of(book, folder)
        linger(loaded, portal)
        return result


def _forget_own(folder: BatchFolder, book: Book, owed: RunInfo | None) -> None:
    """Forget the run if it is this one. One that never reached its bus leaves what the killed one before it has written:
    that one's tasks are still there, for the next run to take up. ``owed``: that one, if this run has taken up only some."""
    info = folder.read_run()
    if info is not None and (info.pid, info.since) == (os.getpid(), book.began):
        if owed is not None and owed.bus == info.bus:
            folder.write_run(owed)
        else:
            folder.forget_run()


@dataclass(frozen=True)
class _Work:
    """A run whose bus is there. ``hub``: it, if it is the batch's own."""

    loaded: Loaded
    options: Options
    folder: BatchFolder
    book: Book
    callbacks: Callbacks
    refresh: Callable[[Book], None] | None
    portal: Portal
    preparer: Preparer
    hub: PrivateHub | None
    info: RunInfo
    resumed: bool

    async def run(self) -> None:
        """Connect, bring the machines there, see that every job has room somewhere, and run them all."""
        import headway

        # A private bus needs no key, whatever the settings say about another.
        key, patience = (None, None) if self.hub is None else ("", START_PATIENCE)
        loaded, url = self.loaded, self.info.bus
        jobs = Jobs.of(loaded, self.folder, self.book.entries, (self.portal.url, self.portal.token))
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(headway.connect(url, timeout=patience, key_file=key))
            means = Means(jobs, url, partial(_is_online, bus), self.options.accept_new_hosts, self.info.mark)
            machines, keeping = await stack.enter_async_context(
                machines_of(loaded.config.backend, self.options.slots, means)
            )
            if machines is None:
                await check_needs(loaded, self.book, bus, private=self.hub is not None)
            else:
                checking = _check_machines(loaded, self.book, bus, machines, self.info.mark)
                keeping.append(asyncio.create_task(checking))
            self.folder.write_config(loaded.config)
            self.folder.write_run(self.info)
            if self.resumed:
                await self._end_strays(bus)
            await self._runner(machines, keeping).run(bus)

    async def _end_strays(self, bus: Bus) -> None:
        batch, run, book = self.loaded.name, self.info.run, self.book
        await end_strays(bus, batch, run, book, {key_of(batch, entry, run) for entry in book.chosen(Choice.RUN)})

    def _runner(self, machines: Machines | None, watched: list[asyncio.Task[None]]) -> Runner:
        return Runner(
            self.loaded,
            self.folder,
            self.book,
            self.info,
            self.callbacks,
            self.preparer,
            resumed=self.resumed,
            refresh=self.refresh,
            tick=self.options.tick,
            check=self._check,
            machines=machines,
            watched=watched,
        )

    def _check(self) -> None:
        if self.hub is not None and not self.hub.is_alive:
            raise BatchError(f"the batch's private bus has ended by itself. It wrote:\n{self.hub.written()}")


@contextmanager
def _portal_of(loaded: Loaded, folder: BatchFolder) -> Iterator[Portal]:
    """Where the batch answers over HTTP, if its file has a ``server``; before anything runs, because a port may be taken."""
    if loaded.config.server is None:
        yield Portal("", "")
        return

    def kill(name: str) -> bool:
        info = folder.read_run()
        return info is not None and kill_job(info, loaded.name, name)

    with serving(loaded.config.server, loaded.source, Answers(loaded, folder, kill).answer) as portal:
        yield portal


@contextmanager
def _bus_of(
    loaded: Loaded,
    options: Options,
    means: tuple[int, EarlyHub | None],
    ahead: Callable[[Callable[[], bool]], None],
) -> Iterator[tuple[str, PrivateHub | None]]:
    """The address of the bus. A private one holds the lock as well, so that no other run begins while it ends jobs.

    ``means``: the lock's descriptor, and the bus's process if that was started before.
    ``ahead``: what can be done while it starts; it is given a function that says whether the bus is there.
    """
    if options.bus is not None:
        yield options.bus, None
        return
    descriptor, early = means
    backend = loaded.config.backend
    slots = options.slots or (backend.slots if isinstance(backend, LocalBackend) else None)
    temporary = tempfile.mkdtemp(prefix="headway-batch-")
    # A socket in a folder that nobody else can enter; a path that is too long for one gets a port on loopback.
    path = f"{temporary}/bus"
    bind = f"ipc://{path}" if len(os.fsencode(path)) <= MOST_SOCKET_PATH else "tcp://127.0.0.1:*"
    try:
        # Its temporary files lie in its own folder, so that they go with it however it ends.
        settings = PRIVATE | {"TMPDIR": temporary}
        hub = PrivateHub(
            Path(temporary),
            slots,
            settings=settings,
            inherited=[descriptor],
            bind=bind,
            with_runtime=isinstance(backend, LocalBackend),
            early=early or EarlyHub(ahead=True),
        )
        try:
            if isinstance(backend, LocalBackend):
                ahead(hub.has_spoken)
            yield hub.wait_until_ready(START_PATIENCE), hub
        finally:
            try:
                hub.stop()
            finally:  # also when that is interrupted
                _end_runtime(Path(temporary))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


async def _is_online(bus: Bus, name: str) -> bool:
    return any(state.info.name == name and state.state == "online" for state in await bus.runtimes())


async def _check_machines(loaded: Loaded, book: Book, bus: Bus, machines: Machines, mark: str) -> None:
    """When every machine has answered, or has not, say which job is too large for all of them."""
    await machines.until_all_are_settled()
    await check_needs(loaded, book, bus, private=False, mark=mark)


def _end_runtime(folder: Path) -> None:
    """End the runtime of a private hub that died before it could: a runtime outlives its hub, and its jobs with it."""
    for file in folder.rglob("runtime.json"):
        with suppress(OSError, ValueError, KeyError, psutil.Error):
            data = json.loads(file.read_text())
            # The number may be another process's by now: the time of its birth tells.
            if abs(psutil.Process(int(data["pid"])).create_time() - float(data["created"])) < 1.0:
                kill_tree(int(data["pid"]))


async def check_needs(loaded: Loaded, book: Book, bus: Bus, private: bool, mark: str = "") -> None:
    """Whether some runtime is large enough for every job. Raises BatchFileError on a private bus; on another one,
    where a larger runtime may come, it is only said. ``mark``: of the run's machines, if the jobs run there alone."""
    online = [state for state in await bus.runtimes() if state.state == "online"]
    if mark:
        online = [state for state in online if state.info.labels.get(MARK_LABEL) == mark]
    for at, job in enumerate(loaded.jobs):
        if not book.entries[str(job.name)].is_open or any(_offers(each, job.resource) for each in online):
            continue
        largest = "; ".join(_amounts(each.info.cpu, each.info.memory, len(each.info.gpus)) for each in online)
        asked = _amounts(job.resource.cpu, job.resource.memory, job.resource.gpu)
        text = f"{loaded.source}: jobs[{at}].resource: {job.name} asks for {asked}; there is {largest or 'no runtime'}"
        if private:
            raise BatchFileError(text)
        log.warning("no runtime is large enough for a job at the moment; it waits for one", reason=text)


def _amounts(cpu: float, ram: int, gpu: float) -> str:
    return f"cpu {cpu:g}, ram {ram}, gpu {gpu:g}"


def _offers(state: RuntimeState, needs: Resource) -> bool:
    info = state.info
    return info.cpu >= needs.cpu and info.memory >= needs.memory and len(info.gpus) >= needs.gpu
