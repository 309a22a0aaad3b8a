"""What a runtime, or an edge agent, is told as it starts: options of the command line, settings, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import click

from headway_bus import config
from headway_bus.keys import find_key, prepare_with
from headway_runtime import files, resources
from headway_runtime.service import Setup
from headway_runtime.state import Bounds

MOST_RUNTIMES = 1000
"""Runtimes of one machine that are named after it and a number."""

Function = TypeVar("Function", bound=Callable[..., Any])

OFFERS = (
    click.option("--bus", "url", metavar="URL", help="Where the bus is."),
    click.option(
        "--key-file", metavar="FILE", help="The key to show to a bus that asks for one; it has the name, too."
    ),
    click.option("--name", help="Its name on the bus. Default: the machine's name."),
    click.option("--slots", type=float, help="Attempts that run at the same time. Default: one per core."),
    click.option("--memory", help="Bytes of memory offered. Default: all."),
    click.option("--gpu", "gpus", multiple=True, metavar="NAME", help="A GPU offered. Default: those that are found."),
    click.option(
        "--label", "labels", multiple=True, metavar="NAME=VALUE", help="A word by which tasks choose runtimes."
    ),
    click.option(
        "--path", "paths", multiple=True, metavar="FOLDER", help="A folder with the modules that tasks import."
    ),
    click.option(
        "--serve", "models", multiple=True, metavar="NAME=MODULE:FACTORY", help="A model, loaded once per child."
    ),
    click.option(
        "--only", "serves", multiple=True, metavar="WHAT", help="Run only this: a kind, call:PATTERN, model:NAME."
    ),
    click.option("--speed", type=float, help="How fast this machine is, relative to others."),
    click.option("--by-value/--no-by-value", default=None, help="Run code that clients send by value (cloudpickle)."),
    click.option("--config", "file", metavar="FILE", help="A config.toml."),
    click.option("--log-level", help="debug, info, warning or error."),
)
"""Where the bus is, and what this machine offers it."""


def offers(function: Function) -> Function:
    """Give a command the options of :data:`OFFERS`."""
    for option in reversed(OFFERS):
        function = option(function)
    return function


def _pairs(values: Sequence[str], what: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{value!r}: expected {what}")
        pairs[name] = content
    return pairs


def overrides_of(given: dict[str, Any]) -> dict[str, Any]:
    """What was typed, as :func:`headway_bus.config.load` takes it."""
    runtime = {
        "name": given["name"],
        "slots": given["slots"],
        "memory": given["memory"],
        "gpus": list(given["gpus"]) or None,
        "labels": _pairs(given["labels"], "NAME=VALUE") or None,
        "paths": list(given["paths"]) or None,
        "models": _pairs(given["models"], "NAME=MODULE:FACTORY") or None,
        "serves": list(given["serves"]) or None,
        "speed": given["speed"],
        "by_value": given["by_value"],
        "state": given.get("state"),
    }
    overrides = {f"runtime.{key}": value for key, value in runtime.items()}
    return {**overrides, "bus.url": given["url"], "bus.key_file": given["key_file"], "logs.level": given["log_level"]}


def setup_of(settings: config.Settings, slow: float = 1.0, base: Path | None = None) -> Setup:
    """``base``: the folder with the folders of runtimes; None: as the settings say."""
    own = settings.runtime
    if base is None:
        base = (Path(own.state).expanduser() if own.state else config.state_folder()) / "runtimes"
    key = find_key(settings.bus.key_file, settings.bus.url)
    name = own.name or (key.name if key is not None else _free_name(base))
    info = resources.describe(own, name, own_version())
    bounds = Bounds(output_bytes=own.output_limit, drain_seconds=own.drain_deadline)
    return Setup(
        url=settings.bus.url,
        info=info,
        work=base / re.sub(r"[^a-zA-Z0-9_.-]", "-", name),
        bus=settings.bus,
        models=dict(own.models),
        paths=[str(Path(path).expanduser().resolve()) for path in own.paths],
        bounds=bounds if needs_children(info.serves) else replace(bounds, ready_children=0),
        slow=slow,
        software=f"headway {own_version()}",
        keep_work=True,
        prepare=prepare_with(key),
    )


def needs_children(serves: Sequence[str]) -> bool:
    """Whether a runtime that runs only this runs anything in a child of Python's; nothing in it: it runs all."""
    return not serves or any(each.partition(":")[0] not in ("command", "script") for each in serves)


def _free_name(base: Path) -> str:
    """The machine's name; with a number if another runtime works here under that."""
    name = resources.machine_name()
    for number in range(2, MOST_RUNTIMES):
        if not files.is_in_use(base / name):
            break
        name = f"{resources.machine_name()}-{number}"
    return name


def own_version() -> str:
    """Of the installed distribution."""
    try:
        return version("headway")
    except PackageNotFoundError:
        return "unknown"
