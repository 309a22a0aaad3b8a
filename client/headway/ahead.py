"""The runtime of a private bus, forked from the bus's process before it is known what it is to be.

It imports what a runtime needs while the bus imports the rest, and then waits to be told its command line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from headway_bus.forked import Forked

Serve = Callable[[Callable[[], list[str] | None]], None]


class RuntimeAhead(Forked):
    """The process. ``serve``: what it does; it is given a function that waits for the command line and returns it, or None
    if there will be none. ``closing``: descriptors of this process that it must not keep."""

    def __init__(self, serve: Serve, closing: Iterable[int]) -> None:
        reading, self._writing = os.pipe()
        super().__init__(lambda: serve(lambda: _told(reading)), [self._writing, *closing])
        os.close(reading)

    def begin(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Say what it is to be. ``environment``: all of its variables."""
        data = json.dumps([list(arguments), dict(environment)]).encode()
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._writing, data) :]
        self.discard()

    def discard(self) -> None:
        """There is nothing more to be said: a process that was told nothing ends."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


def _told(reading: int) -> list[str] | None:
    """The command line, as soon as it is there; the environment is set by then."""
    with open(reading, "rb") as file:
        data = file.read()
    if not data:
        return None
    arguments, environment = json.loads(data)
    os.environ.clear()
    os.environ.update(environment)
    return [str(each) for each in arguments]
