"""What the runtime asks of its nursery, and what the nursery reports. Descriptors travel beside the messages."""

from __future__ import annotations

import msgspec


class _Errand(msgspec.Struct, array_like=True, tag=True, gc=False):
    number: int  # of the tree, chosen by the runtime


class ChildWanted(_Errand):
    """Fork a child. Descriptors: data, control, journal, and both ends of the pipes for its output."""

    descriptors: int = 7


class CommandWanted(_Errand):
    """Start a program in a session of its own. Descriptors: its standard output and error."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    mark: str  # NAME=VALUE in its environment that no other attempt has
    memory: int = 0  # bytes, for each of its processes
    descriptors: int = 2


class Signal(_Errand):
    """Send a signal to the whole tree, and again to whatever of it is found later."""

    signal: int


class Started(_Errand):
    pid: int


class Failed(_Errand):
    """It could not be started."""

    reason: str


class Exited(_Errand):
    """The first process of the tree has ended. ``status`` as of wait(2); ``left``: others of the tree have not."""

    status: int
    most_memory: int  # bytes resident at most
    left: bool


class Gone(_Errand):
    """Nothing of the tree is left. Always the last word about it."""


WISHES = ChildWanted | CommandWanted | Signal
REPORTS = Started | Failed | Exited | Gone
