"""One machine: the connection, the helper on it, the runtime that it starts, and the files of the jobs there."""

from __future__ import annotations

import asyncio
import os
import shlex
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from headway.batch import config
from headway.batch.errors import BatchError
from headway.batch.remote import cargo, ssh
from headway.batch.remote.errors import MachineError, MachineRefused
from headway.batch.remote.frames import frame, read_frame
from headway.batch.remote.jobs import Jobs
from headway_bus.logs import get_logger

MARK_LABEL = "headway-batch"
START_LINE = '. "$HEADWAY_BATCH_ROOT/start.sh" # '
"""How the line of every job on a machine begins."""

PART_BYTES = 256 * 1024
ALIVE = 10.0
"""Seconds between words to the helper, which takes a minute of silence for our death."""

LOOK = 0.1
"""Seconds between questions whether its runtime has reached the bus."""

PATIENCE = 60.0
"""Seconds that the helper has for each answer while the machine is being made ready."""

LEAVE_PATIENCE = 25.0
"""Seconds that it has to end everything and to remove its folder."""

log = get_logger("headway.batch")


@dataclass(frozen=True)
class Means:
    """What all machines of a run share. ``bus``: the address of the bus, here. ``is_online``: whether a runtime of this name
    has reached it. ``mark``: what tells the run's machines from all else on a bus that is not its own."""

    jobs: Jobs
    bus: str
    is_online: Callable[[str], Awaitable[bool]]
    accept_new: bool = False
    mark: str = ""


class Session:
    """From a connection to its end. ``run()`` once; it returns when it was told to leave, and raises MachineError otherwise."""

    def __init__(self, name: str, record: config.Machine, means: Means) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self._record = record
        self._means = means
        self._process: Any = None
        self._root = ""
        self._errors = bytearray()
        self._sent: dict[str, asyncio.Task[None]] = {}
        self._given: set[str] = set()
        """Jobs that began through this connection: what others wrote went with the connection that they began through."""

        self._finished: dict[str, asyncio.Future[list[str]]] = {}
        self._work: set[asyncio.Task[Any]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving = False

    async def run(self) -> None:
        """Raises MachineError, MachineRefused; BatchError if the files of a job cannot be written here."""
        import asyncssh

        try:
            async with ssh.connected(self._record.connection, self._means.accept_new) as connection:
                try:
                    await self._serve(connection)
                except (asyncio.IncompleteReadError, asyncssh.Error, OSError) as error:
                    if not self._leaving:
                        raise MachineError(self._told(f"the connection has ended: {error}")) from None
                finally:
                    await self._end()
        finally:
            for waiting in self._finished.values():
                if not waiting.done():
                    waiting.set_exception(MachineError("the connection to it ended before all of its output had come"))

    async def _serve(self, connection: Any) -> None:
        self._process = await connection.create_process(
            bootstrap(self._record.python), encoding=None, env={}, stdin=-1, stdout=-1, stderr=-1
        )
        self._begin(self._listen_to_errors())
        hello = await self._greet()
        await self._ship(hello)
        await self._lead_to_bus(connection)
        await self._start()
        self._begin(self._stay_alive())
        self._begin(self._wait_until_online())
        reading = self._begin(self._read())
        await asyncio.wait([reading, self._broken], return_when="FIRST_COMPLETED")
        for each in (self._broken, reading):
            if each.done():
                each.result()

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _end(self) -> None:
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if self._broken.done():
            self._broken.exception()
        else:
            self._broken.cancel()

    # ------------------------------------------------------------------------------------------------ making it ready

    async def _greet(self) -> dict[str, Any]:
        source = package_files("headway.batch.remote").joinpath("helper.py").read_bytes()
        call = f"\nmain({list(cargo.NEEDED)!r}, {self._record.temporary_dir or ''!r})\n"
        program = source + call.encode()
        await self._write(f"{len(program):>{SIZE_CHARACTERS}}".encode() + program)
        try:
            hello, _body = await self._answer("hello")
        except asyncio.IncompleteReadError:
            await asyncio.sleep(0)  # what it wrote to standard error has come before the end of standard output
            raise MachineRefused(
                self._told(f'{self._record.python!r} cannot be run there; name another one: "python" of the machine')
            ) from None
        self._root = str(hello["root"])
        return hello

    async def _ship(self, hello: dict[str, Any]) -> None:
        for into, data in (
            ("lib", await asyncio.to_thread(cargo.own_code)),
            ("site", await asyncio.to_thread(cargo.missing_packages, hello)),
        ):
            if data:
                await self._put(f"{into}.tar", data)
                await self._send("unpack", path=f"{into}.tar", into=into)

    async def _lead_to_bus(self, connection: Any) -> None:
        import asyncssh

        there, here = f"{self._root}/bus", self._means.bus
        try:
            if here.startswith("ipc://"):
                await connection.forward_remote_path(there, here.removeprefix("ipc://"))
            else:
                host, _, port = here.removeprefix("tcp://").rpartition(":")
                await connection.forward_remote_path_to_port(there, host, int(port))
        except asyncssh.ChannelListenError as error:
            raise MachineRefused(
                f"its SSH server does not forward sockets (AllowStreamLocalForwarding yes in its sshd_config): {error}"
            ) from None

    async def _start(self) -> None:
        arguments = ["--bus", f"ipc://{self._root}/bus", "--name", self.name, "--state", f"{self._root}/state"]
        arguments += ["--config", f"{self._root}/config.toml", "--log-level", "warning"]
        if self._record.slots is not None:
            arguments += ["--slots", f"{self._record.slots:g}"]
        if self._means.mark:
            # Nothing of anybody else's runs there, and nothing of the batch elsewhere.
            arguments += ["--label", f"{MARK_LABEL}={self._means.mark}", "--only", f"command:{START_LINE}*"]
        await self._send("start", arguments=arguments, environment={"HEADWAY_RUNTIME_DRAIN_DEADLINE": "0"})
        await self._answer("started")

    async def _wait_until_online(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    if await self._means.is_online(self.name):
                        break
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise MachineError(
                f"its runtime did not reach the bus through the connection within {PATIENCE:g} s"
            ) from None
        self.ready.set()

    async def _answer(self, op: str) -> tuple[dict[str, Any], bytes]:
        try:
            async with asyncio.timeout(PATIENCE):
                header, body = await read_frame(self._process.stdout)
        except TimeoutError:
            raise MachineError(self._told(f"no answer within {PATIENCE:g} s")) from None
        if header["op"] != op:
            raise MachineError(self._told(f"expected {op!r}, got {header['op']!r}"))
        return header, body

    # ------------------------------------------------------------------------------------------------ what is said

    async def _write(self, data: bytes) -> None:
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def _send(self, op: str, body: bytes = b"", **fields: Any) -> None:
        await self._write(frame(op, body, **fields))

    async def _put(self, path: str, data: bytes) -> None:
        for offset in range(0, max(1, len(data)), PART_BYTES):
            await self._send("put", data[offset : offset + PART_BYTES], path=path)

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE)
            await self._send("alive")

    async def _listen_to_errors(self) -> None:
        while data := await self._process.stderr.read(PART_BYTES):
            self._errors += data
            del self._errors[:-4000]

    def _told(self, text: str) -> str:
        wrote = self._errors.decode("utf-8", "replace").strip()
        return f"{text}; it wrote:\n{wrote}" if wrote else text

    async def _read(self) -> None:
        while True:
            header, body = await read_frame(self._process.stdout)
            self._on_frame(header, body)

    def _on_frame(self, header: dict[str, Any], body: bytes) -> None:
        op, job, jobs = header["op"], header.get("job"), self._means.jobs
        if op == "ended":
            # One that never came up will not come up the next time.
            kind = MachineError if self.ready.is_set() else MachineRefused
            raise kind(f"its runtime has ended with status {header.get('status')}. It wrote:\n{header.get('text')}")
        if op == "want" and isinstance(job, str):
            self._begin(self._give(job))
        elif op == "finished":
            waiting = self._finished.get(str(job))
            if waiting is not None and not waiting.done():
                waiting.set_result([str(each) for each in header.get("skipped", ())])
        elif jobs.is_owner(job, self.name):
            if op == "data":
                jobs.take(str(job), header, body)
            elif op == "folder":
                jobs.take_folder(str(job), header.get("path"))

    # ------------------------------------------------------------------------------------------------ jobs

    async def _give(self, job: str) -> None:
        """Bring a job's files there, and let it begin."""
        jobs, error, assets = self._means.jobs, "", []
        try:
            script, params = jobs.begin(job, self.name, self._record, self._root)
            self._given.add(job)
            for path, number, name in jobs.assets_of(job):
                if number not in self._sent:
                    self._sent[number] = asyncio.create_task(self._bring(path, number))
                await asyncio.shield(self._sent[number])
                assets.append((number, name))
            await self._put(f"jobs/{job}/params.json", params)
            await self._put(f"jobs/{job}/run.sh", script)
        except MachineError as problem:
            error = str(problem)
        await self._send("ready", job=job, assets=assets, error=error)

    async def _bring(self, path: Path, number: str) -> None:
        """An asset, once for all jobs that have it."""
        try:
            async for part in tar_parts(path):
                await self._send("put", part, path=f"assets/{number}.tar")
        except (OSError, tarfile.TarError) as error:
            raise MachineError(f"the asset {path} cannot be read: {error}") from None
        await self._send("unpack", path=f"assets/{number}.tar", into=f"assets/{number}")

    async def collect(self, job: str) -> list[str]:
        """A job is over: wait until all that it wrote is here. Returns what could not be brought. Raises MachineError."""
        if job not in self._given or self._broken.done() or not self.ready.is_set():
            raise MachineError("the connection to it ended before all of its output had come")
        waiting: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._finished[job] = waiting
        try:
            await self._send("finish", job=job)
            return await waiting
        except (BatchError, MachineError):
            raise
        except Exception as error:  # whatever it is that a broken connection raises
            raise MachineError(f"the connection to it broke before all of its output had come: {error}") from None
        finally:
            self._finished.pop(job, None)

    async def leave(self) -> None:
        """End everything there, and wait until its folder is gone."""
        self._leaving = True
        if self._process is None:
            return
        with suppress(Exception):  # it is gone already, then
            await self._send("leave")
            async with asyncio.timeout(LEAVE_PATIENCE):
                await self._process.wait_closed()


SIZE_CHARACTERS = 12
_LOADER = (
    "import os\\n"
    "def take(n):\\n"
    ' data=b\\"\\"\\n'
    " while len(data)<n:\\n"
    "  part=os.read(0,n-len(data))\\n"
    "  part or os._exit(1)\\n"
    "  data+=part\\n"
    " return data\\n"
    f'exec(compile(take(int(take({SIZE_CHARACTERS}))),\\"headway-batch\\",\\"exec\\"))'
)


def bootstrap(python: str) -> str:
    """The line that the login shell there runs: a Python that reads its program. One line, so that any shell takes it."""
    words = python if python.startswith("~/") else shlex.quote(python)
    return f"exec {words} -c 'exec(\"{_LOADER}\")'"


async def tar_parts(path: Path) -> AsyncIterator[bytes]:
    """A file or a folder as a tar file, part by part, however large it is."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as out, tarfile.open(fileobj=out, mode="w|") as tar:
            tar.add(path, path.name)

    packing = asyncio.create_task(asyncio.to_thread(write))
    try:
        while part := await asyncio.to_thread(os.read, reading, PART_BYTES):
            yield part
    finally:
        os.close(reading)  # a writer that is not done gets an error and ends
        with suppress(BrokenPipeError):
            await packing
