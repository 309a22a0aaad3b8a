"""How much may be asked of the broker, by one peer: a bucket of messages and of bytes that fills again with time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple

BURST_SECONDS = 2.0
"""Seconds of the allowed rate that may come at once: what a client sends that has just been let go on."""

UNLIMITED = float("inf")


class Limits(NamedTuple):
    """Settings ``[broker]`` of the same names. A rate of 0 is no limit."""

    messages_per_second: int = 0
    bytes_per_second: int = 0
    max_topics: int = 10_000
    strangers_per_second: int = 1_000
    """Messages of peers that have not said hello that are answered; those beyond it are counted only."""

    max_half_open: int = 4_096
    """Connections on which nobody has said hello."""

    per_key: int = 1_000
    """Connections of one client's key at the same time."""


@dataclass(slots=True)
class Allowance:
    """What is left for one peer. It fills only when it is empty, so that the usual message costs two subtractions."""

    message_rate: float
    byte_rate: float
    messages: float
    bytes: float
    at: float
    told: float = 0.0
    """When the peer was last told that it has sent too much."""

    def take(self, size: int, now: float) -> str:
        """Charge a message of ``size`` bytes. Returns what there was too much of; empty: it may pass."""
        self.messages -= 1.0
        self.bytes -= size
        if self.messages >= 0.0 and self.bytes >= 0.0:
            return ""
        self._fill(now)
        if self.messages >= 0.0 and self.bytes >= 0.0:
            return ""
        exceeded = "messages" if self.messages < 0.0 else "bytes"
        self.messages += 1.0
        self.bytes += size
        return exceeded

    def _fill(self, now: float) -> None:
        elapsed = max(0.0, now - self.at)
        self.at = now
        self.messages = min(self.message_rate * BURST_SECONDS, self.messages + self.message_rate * elapsed)
        self.bytes = min(self.byte_rate * BURST_SECONDS, self.bytes + self.byte_rate * elapsed)


def allowance(messages_per_second: int, bytes_per_second: int, now: float, least_bytes: int = 0) -> Allowance:
    """A full bucket. ``least_bytes``: the largest message, which must fit into it whatever the rate is."""
    messages = float(messages_per_second) or UNLIMITED
    rate = max(float(bytes_per_second), least_bytes / BURST_SECONDS) if bytes_per_second else UNLIMITED
    return Allowance(messages, rate, messages * BURST_SECONDS, rate * BURST_SECONDS, now)


SPARE_DESCRIPTORS = 256


def allow_descriptors(connections: int) -> int:
    """Have the system allow as many open files as connections need, as far as it lets us. Returns how many it allows.

    Where they run out, ZeroMQ tries in a busy loop to take a connection that it cannot take.
    """
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
