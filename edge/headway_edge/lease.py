"""How long the agent has been out of touch, and what it may begin then. Pure.

The controller counts a lease from the last word that it had from the agent; the agent counts it from the moment at which its
last *answered* heartbeat left, which is never later. So, whatever the delay of the link, the agent stops to begin work before
the controller gives it to others. Only lengths of time are compared, never two clocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

SHORT_HEARTBEATS = 2.0
"""Heartbeats for which an agent that is cut off begins tasks without an offline allowance: as long as the controller waits at
least before it takes a runtime for lost."""


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """What is kept on disk: when the last answered heartbeat left, by three clocks of the machine."""

    boot: str  # which boot of the machine
    since_boot: float  # seconds, counted through suspension
    wall: float  # Unix time; it may be wrong, and it may be set


@dataclass(slots=True)
class Lease:
    """``since``: when the last answered heartbeat left, by the core's clock; None: that is not known."""

    since: float | None = None

    def heard(self, sent: float) -> None:
        """The heartbeat that left at ``sent`` was answered."""
        if self.since is None or sent > self.since:
            self.since = sent

    def may_begin(self, offline: float, heartbeat: float, now: float) -> bool:
        """Whether, while cut off, an attempt with this allowance may be begun."""
        if self.since is None:
            return False
        return now - self.since < max(offline, SHORT_HEARTBEATS * heartbeat)


def since_restart(heard: Heard | None, here: Heard, now: float) -> float | None:
    """When the last answered heartbeat left, by the clock of a process that was started since; None: nobody can say.

    Within one boot the machine itself has counted. After a power cut only the wall clock is left: one that shows an earlier
    time than before has lost its battery or was set, and says nothing. Then what was not begun waits for the link.
    """
    if heard is None:
        return None
    if heard.boot and heard.boot == here.boot:
        return now - max(0.0, here.since_boot - heard.since_boot)
    if here.wall >= heard.wall:
        return now - (here.wall - heard.wall)
    return None
