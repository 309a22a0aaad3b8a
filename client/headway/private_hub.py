"""The process that ``headway.local`` starts: a hub that does not outlive the program it belongs to.

``python -m headway.private_hub PARENT STREAM``: what the bus is to be comes through the stream, a socket, and what it has become
goes back there. A thread watches the parent process. (The kernel's own notice, PR_SET_PDEATHSIG, comes at the end of the
parent's *thread*, and a pipe stays open in whatever the parent forked.)
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from typing import Any

import psutil

from headway.ahead import RuntimeAhead
from headway.early_hub import AHEAD
from headway_bus.descriptors import receive

POLL = 0.5
"""Seconds between looks at the parent."""

PATIENCE = 20.0
"""Seconds between TERM and KILL."""

MOST_DESCRIPTORS = 16
LENGTH_BYTES = 4


def main() -> None:
    """Import what a bus needs, wait for the order, and be that bus."""
    gc.disable()  # until all is imported
    parent, stream = int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    stream.set_inheritable(False)
    from headway import hub

    runtime = hub.fork_runtime([stream.fileno()]) if AHEAD in sys.argv else None
    hub.import_services()
    order = _received(stream)
    status = 0
    if order is not None:
        status = _serve(order, parent, stream, runtime)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # nothing is left to be done; to take the interpreter down in order takes 30 ms


def _serve(order: dict[str, Any], parent: int, stream: socket.socket, runtime: RuntimeAhead | None) -> int:
    from headway import hub
    from headway_bus.config import load
    from headway_bus.errors import HeadwayError

    folder = order["folder"]
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # until it serves: what is below cleans up
        threading.Thread(target=_watch, args=(parent, folder), name="headway-parent", daemon=True).start()
        _take_settings(order["environment"])
        settings = load(None, {"broker.bind": order["bind"], "controller.state": f"{folder}/state"})
        with_runtime = bool(order["with_runtime"])
        return hub.run(
            settings, slots=order["slots"], with_runtime=with_runtime, ready_fd=stream.fileno(), ahead=runtime
        )
    except HeadwayError as error:
        print(f"headway: {error}", file=sys.stderr)
        return 1
    except SystemExit:
        return 1
    finally:
        if os.getppid() != parent:  # else the parent wants to read what is there, and deletes it itself
            shutil.rmtree(folder, ignore_errors=True)


def _take_settings(given: dict[str, str]) -> None:
    """Set variables for this bus. Tasks find what was there before: one may start a bus of its own."""
    from headway_bus.config import PREFIX, TASKS_VARIABLE

    before = {name: os.environ.get(name) for name in given if name.startswith(PREFIX)}
    os.environ.update(given)
    os.environ[TASKS_VARIABLE] = json.dumps(before)


def _received(stream: socket.socket) -> dict[str, Any] | None:
    """The order; None if there will be none. The descriptors that come with it stay open as long as this process lives."""
    data, _descriptors = receive(stream, 65536, MOST_DESCRIPTORS)
    while len(data) < LENGTH_BYTES or len(data) < LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big"):
        more = stream.recv(65536)
        if not more:
            return None
        data += more
    order: dict[str, Any] = json.loads(data[LENGTH_BYTES:])
    return order


def kill_tree(pid: int) -> None:
    """End a hub, its runtime, and all that runs there, at once. The runtime is in a session of its own."""
    try:
        hub = psutil.Process(pid)
        tree = [hub, *hub.children(recursive=True)]
        tree.sort(key=lambda each: each.pid == os.getpid())  # whoever ends himself first ends nobody else
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _watch(parent: int, folder: str) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    shutil.rmtree(folder, ignore_errors=True)
    kill_tree(os.getpid())


if __name__ == "__main__":
    main()
