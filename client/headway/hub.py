"""``headway up``: broker and controller in one process, the runtime as its child.

The services are found through entry points, because the client imports none of them. What they have in common here is
the in-memory link: the controller hands its messages to the broker without a socket in between.

A runtime outlives a hub that is killed: it goes on with its work and the next ``headway up`` on the same state folder
finds it again, takes its results, and starts no second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import psutil

from headway.ahead import RuntimeAhead
from headway.hub_keys import runtime_key
from headway_bus import logs, loops
from headway_bus.codec import for_controller
from headway_bus.config import KEY_VARIABLE, Settings, state_folder
from headway_bus.errors import BusError
from headway_bus.keyring import Keyring
from headway_bus.parts import configure_logs

RUNTIME_FILE = "runtime.json"
POLL = 0.1
"""Seconds between looks at a runtime that is not our own child, and whose end therefore nobody tells us."""

RESTART_FIRST, RESTART_LAST = 0.5, 30.0
"""Seconds before a runtime that ended by itself is started again: the first time, and at most."""

DRAIN_EXTRA = 10.0
"""Seconds beyond the runtime's own deadline after which it is killed."""

log = logs.get_logger("headway.hub")


def run(
    settings: Settings,
    *,
    slots: float | None = None,
    with_runtime: bool = True,
    ready_fd: int | None = None,
    ahead: RuntimeAhead | None = None,
) -> int:
    """Keep a bus running until TERM or INT. Returns the exit status. Raises BusError when it cannot begin.

    ``ready_fd`` gets one line of JSON, ``{"url": …, "pid": …}``, when the bus serves and its runtime is registered.
    ``ahead``: the runtime's process, if that waits already.
    """
    configure_logs(settings)
    return loops.run(_serve(settings, slots, with_runtime, ready_fd, ahead))


def import_services() -> None:
    """Import now what :func:`run` would."""
    _service("controller"), _service("broker")


def fork_runtime(closing: Iterable[int]) -> RuntimeAhead | None:
    """Fork a process that becomes the runtime of this hub; None where there is no runtime installed. Only from one thread.

    ``closing``: descriptors of this process that it must not keep.
    """
    found = _found_service("runtime")
    return RuntimeAhead(found.load(), closing) if found is not None else None


async def _serve(
    settings: Settings, slots: float | None, with_runtime: bool, ready_fd: int | None, ahead: RuntimeAhead | None
) -> int:
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loops.on_stop(on_signal)
    descriptors = open_files_allowed()
    controller = _service("controller").from_settings(settings)  # first: it holds the lock on the state
    broker = None
    runtime = None
    try:
        broker = _service("broker").from_settings(settings)
        broker.start()
        await controller.open()
        controller.attach(broker.attach("controller", "controller", controller.instance, for_controller(), controller))
        if with_runtime:
            key_file = _key_file(broker.keyring, settings)
            runtime = RuntimeProcess(_folder(settings), broker.url, slots, settings, key_file, descriptors, ahead)
            runtime.start()
        elif ahead is not None:
            ahead.discard()
        waiting = asyncio.create_task(_tell_ready(controller, broker.url, with_runtime, ready_fd))
        await stop.wait()
        waiting.cancel()
        log.info("stopping; again to hurry")
        if runtime is not None:
            await runtime.stop(hurry)
    finally:
        if runtime is not None:
            runtime.release()
        await controller.close()
        if broker is not None:
            await broker.close()
    return 0


def _folder(settings: Settings) -> Path:
    return Path(settings.controller.state).expanduser() if settings.controller.state else state_folder()


def _key_file(keyring: Keyring | None, settings: Settings) -> Path | None:
    return None if keyring is None else runtime_key(keyring, _folder(settings), settings.runtime.name)


def _service(name: str) -> Any:
    found = _found_service(name)
    if found is None:
        raise BusError(f"the {name} is not installed beside this client; expected a whole headway: pip install headway")
    return found.load()


@cache
def _services() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group="headway.services"))  # it looks at every distribution that is installed


def _found_service(name: str) -> EntryPoint | None:
    return next((each for each in _services() if each.name == name), None)


async def _tell_ready(controller: Any, url: str, with_runtime: bool, ready_fd: int | None) -> None:
    await controller.until_serving(with_runtime)
    log.info("the bus serves", url=url)
    if ready_fd is not None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            os.write(ready_fd, json.dumps({"url": url, "pid": os.getpid()}).encode() + b"\n")


def open_files_allowed() -> tuple[int, int] | None:
    """How many files this process may open: now, and at most. None where the system has no such limit."""
    if sys.platform != "linux":
        return None
    return psutil.Process().rlimit(psutil.RLIMIT_NOFILE)


async def _ended(pid: int, most: float) -> None:
    """Wait until a process has ended, ``most`` seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):  # another system than Linux, or it is gone already
        await asyncio.sleep(most)
        return
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, told.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), most)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


class RuntimeProcess:
    """The runtime beside the hub: started, found again, started anew when it dies, drained at the end."""

    def __init__(
        self,
        folder: Path,
        url: str,
        slots: float | None,
        settings: Settings,
        key_file: Path | None,
        descriptors: tuple[int, int] | None,
        ahead: RuntimeAhead | None = None,
    ) -> None:
        self._ahead = ahead
        self._key_file = key_file
        self._descriptors = descriptors
        self._file = folder / RUNTIME_FILE
        self._folder = folder
        self._url = url
        self._slots = slots
        self._deadline = settings.runtime.drain_deadline + DRAIN_EXTRA
        self._settings_file = settings.file
        self._child: subprocess.Popen[bytes] | RuntimeAhead | None = None
        self._process: psutil.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._delay = RESTART_FIRST

    def start(self) -> None:
        """Find the runtime of an earlier hub, or start one."""
        self._process = self._find_earlier()
        if self._process is not None:
            log.info("found the runtime that an earlier hub left", pid=self._process.pid)
        else:
            self._spawn()
        self._watch = asyncio.create_task(self._keep_alive())

    async def stop(self, hurry: asyncio.Event) -> None:
        """Let it drain; ``hurry`` makes it end at once. Returns when it is gone."""
        if self._watch is not None:
            self._watch.cancel()
        process = self._process
        if process is None or not self._is_running():
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        deadline = time.monotonic() + self._deadline
        hurried = False
        while self._is_running():
            if time.monotonic() > deadline:
                log.error("the runtime did not end in time and is killed", pid=process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                deadline = float("inf")
            if hurry.is_set() and not hurried:
                hurried = True
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()  # the second signal: at once
            await _ended(process.pid, POLL)

    def release(self) -> None:
        """Forget it if it is gone; otherwise leave word for the next hub."""
        if self._watch is not None:
            self._watch.cancel()
        if not self._is_running():
            self._file.unlink(missing_ok=True)

    async def _keep_alive(self) -> None:
        while True:
            began = time.monotonic()
            while self._is_running():  # noqa: ASYNC110 - no event tells of the end of another's child
                await asyncio.sleep(POLL)
            if time.monotonic() - began > RESTART_LAST:
                self._delay = RESTART_FIRST
            status = self._child.returncode if self._child is not None else None
            log.warning("the runtime ended by itself; it is started again", status=status, after=self._delay)
            await asyncio.sleep(self._delay)
            self._delay = min(RESTART_LAST, self._delay * 2)
            self._spawn()

    def _spawn(self) -> None:
        # Its own key or none, whatever the settings say of the key of those who run commands here.
        environment = {**os.environ, KEY_VARIABLE: "", "HEADWAY_BUS_KEY_FILE": str(self._key_file or "")}
        if self._ahead is not None:
            self._child, self._ahead = self._ahead, None
            self._child.begin(self._arguments(), environment)
        else:
            self._child = subprocess.Popen(
                # -P: a file of the user's in the current folder must not stand in for a module of the runtime's.
                [sys.executable, "-P", "-m", "headway_runtime", *self._arguments()],
                stdin=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C in a terminal goes to the whole group: the hub alone decides when the runtime drains.
                start_new_session=True,
            )
        self._process = psutil.Process(self._child.pid)
        if self._descriptors is not None:
            # The hub has raised its own limit, for its connections; tasks shall meet the usual one.
            with contextlib.suppress(psutil.Error, OSError):
                self._process.rlimit(psutil.RLIMIT_NOFILE, self._descriptors)
        data = {"pid": self._child.pid, "created": self._process.create_time(), "url": self._url}
        self._file.write_text(json.dumps(data))

    def _arguments(self) -> list[str]:
        arguments = ["--bus", self._url, "--state", str(self._folder)]
        if self._slots is not None:
            arguments += ["--slots", f"{self._slots:g}"]
        if self._settings_file is not None:
            arguments += ["--config", str(self._settings_file)]
        return arguments

    def _find_earlier(self) -> psutil.Process | None:
        try:
            data = json.loads(self._file.read_text())
            process = psutil.Process(int(data["pid"]))
            # The number may have gone to another process since: the time of its birth tells.
            if data["url"] == self._url and abs(process.create_time() - float(data["created"])) < 1.0:
                return process if process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            pass
        return None

    def _is_running(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and self._process.is_running()
