"""``with headway.local(slots=2) as bus``: a bus of its own for a block of code, for notebooks and tests."""

from __future__ import annotations

import json
import select
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from headway.client import Client
from headway.early_hub import EarlyHub
from headway.private_hub import kill_tree
from headway_bus.errors import BusError

START_PATIENCE = 30.0
"""Seconds until the bus serves and its runtime is registered."""

STOP_PATIENCE = 20.0
"""Seconds between TERM and KILL: the bus drains its runtime meanwhile."""


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
    long as it lives, such as that of a lock. ``with_runtime``: False if runtimes are started elsewhere. ``early``: its
    process, if that was started before; None: it is started now.
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
        early: EarlyHub | None = None,
    ) -> None:
        self._process = early or EarlyHub(path, by_value)
        order = {
            "folder": str(folder),
            "bind": bind,
            "slots": slots,
            "with_runtime": with_runtime,
            "environment": dict(settings or {}),
        }
        self._process.order(order, inherited)

    def wait_until_ready(self, timeout: float) -> str:
        """The address, as soon as the bus serves. Raises BusError with what it wrote if it does not."""
        deadline = time.monotonic() + timeout
        stream = self._process.stream
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            readable = _is_readable(stream, max(0.0, left))
            part = _received(stream) if readable else b""
            if not part:
                reason = f"did not serve within {timeout:g} s" if not readable else "ended at once"
                raise BusError(f"the private bus {reason}. It wrote:\n{self._written()}")
            line += part
        url: str = json.loads(line)["url"]
        return url

    def has_spoken(self) -> bool:
        """Whether it serves, or has ended."""
        return _is_readable(self._process.stream, 0.0)

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive

    def written(self) -> str:
        """The end of what it has written: its log."""
        return self._process.written()

    def stop(self) -> None:
        """End it in order, and by force if that takes too long."""
        if self._process.is_alive:
            self._process.terminate()
            if not self._process.wait(STOP_PATIENCE):
                kill_tree(self._process.pid)
                self._process.wait(STOP_PATIENCE)
        self._process.close()

    def _written(self) -> str:
        self._process.wait(0.5)
        return self.written()


def _is_readable(stream: socket.socket, timeout: float) -> bool:
    poll = select.poll()  # select itself fails in a program that has a thousand files open
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _received(stream: socket.socket) -> bytes:
    try:
        return stream.recv(4096)
    except ConnectionError:
        return b""
