"""Where the bus is, and what is set about the way to it: arguments, then environment, then config.toml, then defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headway.connection import Limits
from headway_bus import config as settings


@dataclass(frozen=True, slots=True)
class Place:
    """An address, and what a client that goes there needs to know. ``connect_timeout``: seconds."""

    url: str
    connect_timeout: float
    name: str
    by_value: bool
    limits: Limits


def find_place(
    url: str | None, config: str | Path | None, timeout: float | None = None, name: str = "", by_value: bool = False
) -> Place:
    """The bus that is meant. Raises ConfigError if an argument, a variable or config.toml is wrong."""
    found = settings.load(config, {"bus.url": url or None, "client.name": name or None})
    bus = found.bus
    return Place(
        bus.url,
        bus.connect_timeout if timeout is None else timeout,
        found.client.name,
        by_value or found.client.by_value,
        Limits(bus.inline, bus.frame, bus.blob_part, bus.payload_limit),
    )
