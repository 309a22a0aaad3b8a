"""The process of a private bus, started before it is known what the bus is to be.

It imports what a bus needs and waits for its order, while this process does the same on another core. So it imports
little itself: whoever starts one is just about to import the rest.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from headway_bus.forked import wait_for_end

LEADING_ELSEWHERE = frozenset({"HEADWAY_BUS", "HEADWAY_BUS_URL", "HEADWAY_BROKER_BIND", "HEADWAY_KEY_FILE"})
"""Variables that are about the bus that this program would use otherwise."""

AHEAD = "--ahead"
LAST_WORDS_BYTES = 4000


class EarlyHub:
    """The process. It ends by itself if this one ends, or closes it, before it has said what the bus is to be.

    ``path``, ``by_value``: as of ``headway.local``. ``ahead``: its runtime is forked from it and not started anew, which is
    sooner; then all that headway imports is in the processes that run functions as well.
    """

    def __init__(self, path: Iterable[str | Path] = (), by_value: bool = False, ahead: bool = False) -> None:
        self._is_ordered = False
        self.stream, theirs = socket.socketpair()
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        # -P: a file of the user's in the current folder must not stand in for a module of the bus's.
        command = [sys.executable, "-P", "-m", "headway.private_hub", str(os.getpid()), str(theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                [*command, AHEAD] if ahead else command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env=_environment(path, by_value),
                pass_fds=(theirs.fileno(),),
                # Ctrl-C in a terminal goes to the whole group; the bus is stopped in order, when the client is closed.
                start_new_session=True,
            )
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def order(self, order: Mapping[str, Any], inherited: Iterable[int] = ()) -> None:
        """Say what the bus is to be. ``inherited``: descriptors that it keeps open as long as it lives."""
        self._is_ordered = True
        descriptors = list(inherited)
        message = json.dumps(dict(order)).encode()
        data = len(message).to_bytes(4, "big") + message
        try:
            # The descriptors go with the first bytes.
            sent = socket.send_fds(self.stream, [data], descriptors) if descriptors else 0
            self.stream.sendall(data[sent:])
        except OSError:
            return  # it has ended, and whoever waits for its answer learns of that

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; whether it has."""
        deadline = time.monotonic() + timeout
        while self.is_alive and (left := deadline - time.monotonic()) > 0.0:
            wait_for_end(self.pid, left)  # Popen's own waiting looks in steps of up to 50 ms
        return not self.is_alive

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def written(self) -> str:
        """The end of what it has written: its log."""
        descriptor = self._output.fileno()
        # It writes where this descriptor stands: that must not move.
        words = os.pread(descriptor, LAST_WORDS_BYTES, max(0, os.fstat(descriptor).st_size - LAST_WORDS_BYTES))
        return words.decode("utf-8", "replace").strip() or "(nothing)"

    def discard(self) -> None:
        """It is not wanted. Nothing if it has got its order and was stopped."""
        if self.stream.fileno() >= 0:
            self._close()
            if (
                self._is_ordered
            ):  # its stop was interrupted: the runtime, which outlives a bus, must not outlive this one
                from headway.private_hub import kill_tree

                kill_tree(self.pid)
            else:
                self._process.kill()  # its runtime, forked and waiting, sees the end of its pipe
            self._process.wait()

    def close(self) -> None:
        """After its end."""
        if self.stream.fileno() >= 0:
            self._close()

    def _close(self) -> None:
        self.stream.close()
        self._output.close()


def _environment(path: Iterable[str | Path], by_value: bool) -> dict[str, str]:
    """This program's environment, less what would lead the private bus elsewhere, with its import path."""
    environment = {name: value for name, value in os.environ.items() if name not in LEADING_ELSEWHERE}
    environment |= {"HEADWAY_BROKER_REQUIRE_KEYS": "false", "HEADWAY_BUS_KEY_FILE": ""}
    library = Path(os.__file__).parent
    # Tasks find this path as well, and may be of another version of Python, which has a library of its own.
    own = {str(library), str(library / "lib-dynload")}
    here = [entry or str(Path.cwd()) for entry in sys.path if not entry or (entry not in own and Path(entry).exists())]
    environment["PYTHONPATH"] = os.pathsep.join([*(str(Path(each).resolve()) for each in path), *here])
    if by_value:
        environment["HEADWAY_RUNTIME_BY_VALUE"] = "true"
    return environment
