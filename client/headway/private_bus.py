"""``with headway.local(slots=2) as bus``: a bus of its own for a block of code, for notebooks and tests."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headway.client import Client
from headway.private_hub import kill_tree
from headway_bus.errors import BusError

START_PATIENCE = 30.0
"""Seconds until the bus serves and its runtime is registered."""

STOP_PATIENCE = 20.0
"""Seconds between TERM and KILL: the bus drains its runtime meanwhile."""

LEADING_ELSEWHERE = frozenset({"HEADWAY_BUS", "HEADWAY_BUS_URL", "HEADWAY_BROKER_BIND", "HEADWAY_KEY_FILE"})
"""Variables that are about the bus that this program would use otherwise."""


def local(
    slots: float | None = None,
    *,
    path: Iterable[str | Path] = (),
    timeout: float = START_PATIENCE,
    by_value: bool = False,
) -> Client:
    """Start a private bus with one runtime and return a client of it; closing the client stops the bus.

    ``slots``: tasks at the same time, None: one for each core. ``path``: folders that the tasks import from, besides
    those that this program imports from. ``timeout``: seconds until it serves. ``by_value``: functions may be sent with
    their code. Nothing of it is left after the end.
    """
    folder = tempfile.mkdtemp(prefix="headway-local-")
    hub: PrivateHub | None = None
    try:
        hub = PrivateHub(Path(folder), slots, path, by_value)
        client = Client(hub.wait_until_ready(timeout), timeout=timeout, by_value=by_value, key_file="")
    except BaseException:
        if hub is not None:
            hub.stop()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    client._engine.at_close(lambda: shutil.rmtree(folder, ignore_errors=True))
    client._engine.at_close(hub.stop)
    return client


class PrivateHub:
    """The process that is the bus.

    ``settings``: variables of its environment, ``HEADWAY_RUNTIME_…``. ``inherited``: descriptors that it keeps open as
    long as it lives, such as that of a lock. ``with_runtime``: False if runtimes are started elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        slots: float | None,
        path: Iterable[str | Path] = (),
        by_value: bool = False,
        settings: Mapping[str, str] | None = None,
        inherited: Iterable[int] = (),
        bind: str = "tcp://127.0.0.1:*",
        with_runtime: bool = True,
    ) -> None:
        self._ready, writing = os.pipe()
        self._output = (folder / "output.log").open("w+b")
        try:
            self._process = subprocess.Popen(
                _command(folder, slots, writing, bind, with_runtime),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env=_environment(path, by_value) | dict(settings or {}),
                pass_fds=(writing, *inherited),
                # Ctrl-C in a terminal goes to the whole group; the bus is stopped in order, when the client is closed.
                start_new_session=True,
            )
        except BaseException:
            os.close(self._ready)
            self._output.close()
            raise
        finally:
            os.close(writing)

    def wait_until_ready(self, timeout: float) -> str:
        """The address, as soon as the bus serves. Raises BusError with what it wrote if it does not."""
        deadline = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self._ready], [], [], max(0.0, left))
            part = os.read(self._ready, 4096) if readable else b""
            if not part:
                reason = f"did not serve within {timeout:g} s" if not readable else "ended at once"
                raise BusError(f"the private bus {reason}. It wrote:\n{self._written()}")
            line += part
        url: str = json.loads(line)["url"]
        return url

    def has_spoken(self) -> bool:
        """Whether it serves, or has ended."""
        return bool(select.select([self._ready], [], [], 0.0)[0])

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def written(self) -> str:
        """The end of what it has written: its log."""
        self._output.seek(0)
        return self._output.read()[-4000:].decode("utf-8", "replace").strip() or "(nothing)"

    def stop(self) -> None:
        """End it in order, and by force if that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                kill_tree(self._process.pid)
                self._process.wait()
        if not self._output.closed:
            self._output.close()
            os.close(self._ready)

    def _written(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        return self.written()


def _command(folder: Path, slots: float | None, ready: int, bind: str, with_runtime: bool) -> list[str]:
    options: list[Any] = ["up", "--bind", bind, "--state", folder / "state", "--ready-fd", ready]
    if not with_runtime:
        options += ["--no-runtime"]
    elif slots is not None:
        options += ["--slots", f"{slots:g}"]
    return [sys.executable, "-m", "headway.private_hub", str(os.getpid()), str(folder), *map(str, options)]


def _environment(path: Iterable[str | Path], by_value: bool) -> dict[str, str]:
    """This program's environment, less what would lead the private bus elsewhere, with its import path."""
    environment = {name: value for name, value in os.environ.items() if name not in LEADING_ELSEWHERE}
    environment |= {"HEADWAY_BROKER_REQUIRE_KEYS": "false", "HEADWAY_BUS_KEY_FILE": ""}
    here = [entry or str(Path.cwd()) for entry in sys.path if not entry or Path(entry).exists()]
    environment["PYTHONPATH"] = os.pathsep.join([*(str(Path(each).resolve()) for each in path), *here])
    if by_value:
        environment["HEADWAY_RUNTIME_BY_VALUE"] = "true"
    return environment
