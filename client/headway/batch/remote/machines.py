"""All machines of a batch: each is kept up; one that cannot be reached is set aside and tried again later."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec

from headway.batch import config
from headway.batch.errors import BatchError
from headway.batch.remote.errors import MachineError, MachineRefused
from headway.batch.remote.machine import Means, Session
from headway_bus.logs import get_logger

FIRST_PAUSE, LAST_PAUSE = 2.0, 60.0
"""Seconds until a machine that was set aside is tried again: the first time, and at most."""

log = get_logger("headway.batch")


class Kept:
    """One machine, over all its connections."""

    def __init__(self, name: str, record: config.Machine, means: Means) -> None:
        self.name = name
        self.session: Session | None = None
        self.settled = asyncio.Event()
        """It is up, or has once failed to be."""

        self.problem = ""
        self.refused = False
        self._record = record
        self._means = means
        self._leaving = False
        self._was_up = False

    @property
    def is_up(self) -> bool:
        return self.session is not None and self.session.ready.is_set()

    async def keep(self) -> None:
        """Returns when it was left, or can never be had. Raises BatchError."""
        pause = FIRST_PAUSE
        while not self._leaving:
            session = self.session = Session(self.name, self._record, self._means)
            watching = asyncio.create_task(self._watch(session))
            try:
                await session.run()
            except MachineError as error:
                self._was_up = self._was_up or session.ready.is_set()
                # What has worked once may work again, whatever the machine says now: it may just be starting.
                self.problem, self.refused = str(error), isinstance(error, MachineRefused) and not self._was_up
            finally:
                watching.cancel()
                self.session = None
            pause = FIRST_PAUSE if session.ready.is_set() else pause
            if self._leaving:
                return
            self._tell(pause)
            self.settled.set()
            if self.refused:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _watch(self, session: Session) -> None:
        await session.ready.wait()
        self.settled.set()

    def _tell(self, pause: float) -> None:
        if self.refused:
            log.error("a machine cannot be used", machine=self.name, reason=self.problem)
        else:
            log.warning("a machine is set aside", machine=self.name, reason=self.problem, again_in_seconds=pause)

    async def leave(self) -> None:
        self._leaving = True
        if self.session is not None:
            await self.session.leave()


class Machines:
    """The machines of a run. ``run()`` keeps them up until it is cancelled; ``leave()`` ends everything on them."""

    def __init__(self, records: Iterable[config.Machine], means: Means) -> None:
        self._means = means
        names = {runtime_of(host, means.mark): record for host, record in names_of(records).items()}
        self._kept = {name: Kept(name, record, means) for name, record in names.items()}

    async def run(self) -> None:
        """Raises BatchError when no machine is left that could ever be had, or the files of a job cannot be written."""
        tasks = [asyncio.create_task(each.keep()) for each in self._kept.values()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if all(each.refused for each in self._kept.values()):
            raise BatchError(self._problems("no machine of the batch can be used"))

    async def until_some_are_up(self) -> None:
        """Return as soon as one is. Raises BatchError if the first attempt failed at all of them."""
        waiting = {asyncio.create_task(each.settled.wait()): each for each in self._kept.values()}
        try:
            open_ones = set(waiting)
            while open_ones:
                done, open_ones = await asyncio.wait(open_ones, return_when="FIRST_COMPLETED")
                if any(waiting[task].is_up for task in done):
                    return
            raise BatchError(self._problems("no machine of the batch can be reached"))
        finally:
            for task in waiting:
                task.cancel()

    async def until_all_are_settled(self) -> None:
        """Return when each is up or has failed to be."""
        await asyncio.gather(*(each.settled.wait() for each in self._kept.values()))

    def _problems(self, text: str) -> str:
        return "\n".join([f"{text}:", *(f"  {each.name}: {each.problem}" for each in self._kept.values())])

    async def collect(self, job: str) -> str:
        """Wait until all that a job wrote is here; what went wrong with it, in words. ``job``: its folder's name."""
        name = self._means.jobs.owners.get(job)
        if name is None:
            return ""
        session = self._kept[name].session
        if session is None:
            return f"machine {name} was lost before all of its output had come"
        try:
            skipped = await session.collect(job)
        except MachineError as error:
            return f"machine {name}: {error}"
        if skipped:
            log.warning("what is neither a file nor a folder stayed on the machine", job=job, paths=skipped)
        return ""

    async def leave(self) -> None:
        await asyncio.gather(*(each.leave() for each in self._kept.values()))


@asynccontextmanager
async def machines_of(
    backend: config.Backend, slots: float | None, means: Means
) -> AsyncIterator[tuple[Machines | None, list[asyncio.Task[None]]]]:
    """The machines of a remote backend, one of them up at least, and the task that keeps them so; None for this machine.

    ``slots``: of machines that say nothing themselves. Raises BatchError if none can be had.
    """
    if isinstance(backend, config.LocalBackend):
        yield None, []
        return
    records = [msgspec.structs.replace(each, slots=each.slots or slots) for each in backend.machines]
    machines = Machines(records, means)
    keeping = [asyncio.create_task(machines.run())]
    first = asyncio.create_task(machines.until_some_are_up())
    try:
        await asyncio.wait([first, *keeping], return_when="FIRST_COMPLETED")
        for each in (*keeping, first):
            if each.done():
                each.result()
        yield machines, keeping
    finally:
        await machines.leave()
        for each in (first, *keeping):
            each.cancel()
        await asyncio.gather(first, *keeping, return_exceptions=True)


def names_of(records: Iterable[config.Machine]) -> dict[str, config.Machine]:
    """The machines by the names of their runtimes: the hostname; with a number if another has it, too."""
    found: dict[str, config.Machine] = {}
    for record in records:
        base = name = re.sub(r"[^A-Za-z0-9_.-]", "-", record.connection.hostname)[:100]
        twin = 1
        while name in found:
            twin += 1
            name = f"{base}-{twin}"
        found[name] = record
    return found


def runtime_of(host: str, mark: str) -> str:
    """What a machine's runtime is called: as the machine; on a bus with others, where that may be taken, with the run's mark."""
    return f"{host}.{mark}" if mark else host


def host_of(runtime: str, mark: str) -> str:
    """The machine of a runtime of that name."""
    return runtime.removesuffix(f".{mark}") if mark else runtime
