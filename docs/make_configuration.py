"""Writes docs/configuration.md from config.toml (keys, defaults, what they mean) and headway_bus.config (what is allowed).

Run it from anywhere: ``python docs/make_configuration.py``. A test fails when the page is not what this would write.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from headway_bus import config

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "config.toml"
PAGE = ROOT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

Nothing needs to be set: every setting has a default that is right for one machine. `config.toml` at the root of the
repository holds them all, and this page is made from it by `docs/make_configuration.py`.

**What counts**, the strongest first:

1. what the caller gives: options on the command line, arguments of `headway.connect()`;
2. the environment: `HEADWAY_<TABLE>_<KEY>`, such as `HEADWAY_RUNTIME_SLOTS`, and `HEADWAY_BUS`, short for `HEADWAY_BUS_URL`
   (which counts more, if both are there), and `HEADWAY_KEY_FILE`, short for `HEADWAY_BUS_KEY_FILE` (which counts more);
3. the file: the one named by `--config`, else by `$HEADWAY_CONFIG`, else `$XDG_CONFIG_HOME/headway/config.toml`, which is
   `~/.config/headway/config.toml` where that variable is not set. Only one file is read. A `config.toml` in the working
   folder is not looked for, because many projects have one of their own;
4. the default.

In the environment a list is written `a,b,c` or as JSON, a table `name=value,name=value` or as JSON, and true as `true`,
`yes`, `on` or `1`. An empty variable is an empty value, not an absent one (but an empty `HEADWAY_BUS` is absent).

An unknown table or key, a value of the wrong type or out of its range, and a file that is named but not there end the
program with status 2 and a text that names the file (or variable), the key, the value, and what was expected.

Times are in seconds, sizes in bytes.
"""


def comments(text: str) -> dict[str, str]:
    """What config.toml says above each key (``table.key``) and beside each table (``table``)."""
    found: dict[str, str] = {}
    table, above = "", []
    for line in text.splitlines():
        if line.startswith("#"):
            above.append(line.removeprefix("#").strip())
            continue
        if line.startswith("["):
            head, _, beside = line.partition("#")
            table = head.strip().strip("[]")
            found[table] = beside.strip()
        elif "=" in line:
            found[f"{table}.{line.partition('=')[0].strip()}"] = " ".join(above)
        above = []
    return found


def page() -> str:
    """The whole page."""
    text = SOURCE.read_text(encoding="utf-8")
    said = comments(text)
    parts = [INTRODUCTION]
    for table, values in tomllib.loads(text).items():
        parts.append(f"\n## [{table}]\n\n{said[table]}.\n\n| Key | Default | Allowed | Meaning |\n|---|---|---|---|\n")
        parts += [
            f"| `{key}` | `{shown(value)}` | {config.expectation(config.TYPES[table][key])} | {said[f'{table}.{key}']} |\n"
            for key, value in values.items()
        ]
    return "".join(parts)


def shown(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:_}"
    return json.dumps(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
