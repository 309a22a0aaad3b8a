"""A runtime in a process that another one has forked: for a private bus, which is to be there soon.

The nursery is forked first, while there is one thread and little is imported. It waits for its settings, as one that was
started anew does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from headway_bus.forked import Forked


@dataclass(frozen=True)
class NurseryAhead:
    """A nursery that waits: its process, and our end of the stream to it."""

    process: Forked
    stream: socket.socket


_waiting: list[NurseryAhead] = []


def serve(told: Callable[[], list[str] | None]) -> None:
    """Import what a runtime needs, wait for its command line, and run it. ``told`` returns None if there will be none."""
    from headway_runtime import nursery, processes

    # Whoever has a bus of its own takes the end of that for the end of its work: nobody would come back for the results.
    processes.die_with_parent(os.getppid())
    ours, theirs = socket.socketpair()
    _waiting.append(NurseryAhead(Forked(lambda: nursery.serve_later(theirs), [ours.fileno()]), ours))
    theirs.close()
    from headway_runtime.__main__ import command

    arguments = told()
    if arguments is not None:
        command.main(arguments, prog_name="headway runtime")


def take() -> NurseryAhead | None:
    """The nursery that waits for this process's runtime; once."""
    return _waiting.pop() if _waiting else None
