"""The one tree of errors. Each says whom to blame and what to do next.

::

    HeadwayError
    ├── ConfigError            the settings: which file, which key, what was expected
    ├── BundleError            a bundle: which file, and what is wrong with it
    │   └── PullFailed         a repository could not be pulled (has .log)
    ├── BusError               the bus or the way to it
    │   ├── NoBus              nobody answers at that address
    │   ├── ProtocolError      a peer said something that no peer may say
    │   ├── Refused            the bus understood and said no (has .code)
    │   └── StoreError         the controller's store cannot do its work
    ├── PayloadError           a user's value
    │   ├── CannotEncode       it has no form on the wire
    │   ├── CannotDecode       the bytes are not what they claim to be
    │   └── TooLarge           it is beyond the limit; nothing was sent
    └── TaskError              a task did not succeed (has .task, .error)
        ├── TaskFailed         its last attempt raised, exited, or was refused
        ├── TaskCancelled      somebody cancelled it
        ├── TaskExpired        it ran out of time, before the start or while running
        └── TaskLost           its runtimes died under it too often
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway_bus.records import ErrorInfo


class HeadwayError(Exception):
    """Whatever headway raises on purpose."""


class ConfigError(HeadwayError):
    """A setting is unknown, of the wrong type, or out of range. The text names file, key, value and expectation."""


class BusError(HeadwayError):
    """The bus, or the way to it, cannot do what was asked."""


class NoBus(BusError):
    """Nobody answers at the address. ``headway up`` starts a bus."""


class ProtocolError(BusError):
    """A message that no correct peer sends. A repetition will not mend it."""


class Refused(BusError):
    """The bus understood and said no. ``code`` is one of :class:`headway_bus.records.Code`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StoreError(BusError):
    """The store cannot read or write: the disk is full, the file is locked or damaged."""


class BundleError(HeadwayError):
    """A bundle that cannot be sent: a path that leads out of it, a link, a manifest that lies, no entry."""


class PullFailed(BundleError):
    """A repository could not be pulled. ``log`` is what git said."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class PayloadError(HeadwayError):
    """A user's value cannot travel."""


class CannotEncode(PayloadError):
    """The value has no form on the wire. The text says where in it, and which types have one."""


class CannotDecode(PayloadError):
    """The bytes are not a value in the form they claim."""


class TooLarge(PayloadError):
    """Beyond the limit; nothing was sent. The text says how large, the limit, and which setting moves it."""


class TaskError(HeadwayError):
    """A task did not succeed. ``task`` is its id as text, ``error`` the details if there are any."""

    def __init__(self, message: str, task: str = "", error: ErrorInfo | None = None) -> None:
        super().__init__(message)
        self.task = task
        self.error = error


class TaskFailed(TaskError):
    """The last attempt raised, exited with a status other than 0, was killed, or could not be started."""


class TaskCancelled(TaskError):
    """Somebody cancelled the task."""


class TaskExpired(TaskError):
    """The task ran out of time, before it started or while it ran."""


class TaskLost(TaskError):
    """The runtimes that ran the task went away too often; it is not tried again."""
