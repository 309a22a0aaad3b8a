"""Where the bus is, and what is set about the way to it: arguments, then environment, then config.toml, then defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headway.connection import Limits
from headway_bus import config as settings
from headway_bus.keys import Prepare, find_key, prepare_with


@dataclass(frozen=True, slots=True)
class Place:
    """An address, and what a client that goes there needs to know. ``connect_timeout``: seconds."""

    url: str
    connect_timeout: float
    name: str
    by_value: bool
    limits: Limits
    prepare: Prepare | None = None
    """Gives a socket the key that is shown there; None: none is needed."""


def find_place(
    url: str | None,
    config: str | Path | None,
    timeout: float | None = None,
    name: str = "",
    by_value: bool = False,
    key_file: str | Path | None = None,
) -> Place:
    """The bus that is meant. Raises ConfigError if an argument, a variable or config.toml is wrong, or a key missing.

    ``key_file``: this client's key; empty: none, whatever the settings say.
    """
    overrides = {
        "bus.url": url or None,
        "client.name": name or None,
        "bus.key_file": None if key_file is None else str(key_file),
    }
    found = settings.load(config, overrides)
    bus = found.bus
    return Place(
        bus.url,
        bus.connect_timeout if timeout is None else timeout,
        found.client.name,
        by_value or found.client.by_value,
        Limits(bus.inline, bus.frame, bus.blob_part, bus.payload_limit, bus.file_limit),
        prepare_with(find_key(bus.key_file, bus.url)),
    )
