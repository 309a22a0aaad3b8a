"""The key of the runtime that ``headway up`` starts: made when it is needed, and used again by the next ``headway up``."""

from __future__ import annotations

import itertools
import platform
import re
from pathlib import Path

from headway_bus.keyring import Keyring
from headway_bus.keys import load_key

KEY_FILE = "runtime.key"


def runtime_key(keyring: Keyring, folder: Path, wished: str = "") -> Path:
    """The key file, in the state folder. ``wished``: the runtime's name in the settings. Raises ConfigError."""
    path = folder / KEY_FILE
    peers = keyring.peers()
    if path.exists():
        key = load_key(path)
        present = key.broker == keyring.broker_key().public and any(each.public == key.public for each in peers)
        if present and wished in ("", key.name):
            return path
        path.unlink()
    taken = {each.name for each in peers}
    base = wished or re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()).strip("._-")[:50] or "runtime"
    numbered = (f"{base}-{number}" for number in itertools.count(2))
    name = next(each for each in itertools.chain([base], numbered) if each not in taken)
    keyring.new(name, "runtime", path, comment="made by headway up")
    return path
