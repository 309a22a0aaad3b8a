"""The process that ``headway.local`` starts: a hub that does not outlive the program it belongs to.

``python -m headway.private_hub PARENT FOLDER up …``: a thread watches the parent process. (The kernel's own notice,
PR_SET_PDEATHSIG, comes at the end of the parent's *thread*, and a pipe stays open in whatever the parent forked.)
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time

import psutil

POLL = 0.5
"""Seconds between looks at the parent."""

PATIENCE = 20.0
"""Seconds between TERM and KILL."""


def main() -> None:
    """Run the rest of the command line as ``headway`` would."""
    parent, folder = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_watch, args=(parent, folder), name="headway-parent", daemon=True).start()
    from headway.cli import main as command_line

    sys.argv[:] = ["headway", *sys.argv[3:]]
    try:
        command_line()
    finally:
        if os.getppid() != parent:  # else the parent wants to read what is there, and deletes it itself
            shutil.rmtree(folder, ignore_errors=True)


def kill_tree(pid: int) -> None:
    """End a hub, its runtime, and all that runs there, at once. The runtime is in a session of its own."""
    try:
        hub = psutil.Process(pid)
        tree = [hub, *hub.children(recursive=True)]
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
