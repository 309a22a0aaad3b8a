"""What can go wrong with a machine: what may pass, and what a person has to mend."""

from __future__ import annotations

from headway_bus.errors import HeadwayError


class MachineError(HeadwayError):
    """The machine is not to be had at the moment; it is tried again later."""


class MachineRefused(MachineError):
    """Trying again would not help: a wrong password, an unknown host key, no Python."""
