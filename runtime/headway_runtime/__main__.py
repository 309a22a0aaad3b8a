"""``headway runtime``, also ``python -m headway_runtime``: settings, logging, signals, run."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from headway_bus import config, logs, loops
from headway_bus.errors import BusError, ConfigError
from headway_bus.keys import find_key, prepare_with
from headway_runtime import files, resources
from headway_runtime.service import RuntimeService, Setup
from headway_runtime.state import Bounds

MOST_RUNTIMES = 1000
"""Runtimes of one machine that are named after it and a number."""


def _pairs(values: Sequence[str], what: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{value!r}: expected {what}")
        pairs[name] = content
    return pairs


@click.command(
    "runtime",
    short_help="Run tasks on this machine.",
    epilog="Example: headway runtime --bus tcp://127.0.0.1:5570 --slots 4 --label disk=fast",
)
@click.option("--bus", "url", metavar="URL", help="Where the bus is.")
@click.option("--key-file", metavar="FILE", help="The key to show to a bus that asks for one; it has the name, too.")
@click.option("--name", help="What the runtime is called. Default: the machine's name.")
@click.option("--slots", type=float, help="Attempts that run at the same time. Default: one per core.")
@click.option("--memory", help="Bytes of memory offered. Default: all.")
@click.option("--gpu", "gpus", multiple=True, metavar="NAME", help="A GPU offered. Default: those that are found.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A word by which tasks choose runtimes.")
@click.option("--path", "paths", multiple=True, metavar="FOLDER", help="A folder with the modules that tasks import.")
@click.option("--serve", "models", multiple=True, metavar="NAME=MODULE:FACTORY", help="A model, loaded once per child.")
@click.option(
    "--only", "serves", multiple=True, metavar="WHAT", help="Run only this: a kind, call:PATTERN, model:NAME."
)
@click.option("--speed", type=float, help="How fast this machine is, relative to others.")
@click.option("--by-value/--no-by-value", default=None, help="Run code that clients send by value (cloudpickle).")
@click.option("--state", metavar="FOLDER", help="Where the runtime keeps its files while it runs.")
@click.option("--slow", type=float, default=1.0, hidden=True, help="Take that many times as long: for benchmarks.")
@click.option("--config", "file", metavar="FILE", help="A config.toml.")
@click.option("--log-level", help="debug, info, warning or error.")
def command(**given: Any) -> None:
    """Run tasks on this machine until told to stop.

    Callables are imported in child processes that are used again: a module that was changed is read anew only by a runtime
    that is started anew. Modules are looked for in the --path folders, then in the current folder, then among the installed
    packages. The first TERM or Ctrl-C drains: what runs may end, the rest is given back. The second ends it at once.
    """
    if sys.platform != "linux":
        click.echo("headway runtime: runtimes work on Linux only; clients and hubs work here", err=True)
        sys.exit(1)
    try:
        settings = config.load(given["file"], _overrides(given))
        logs.configure(settings.logs.level, {"text": False, "json": True}.get(settings.logs.format))
        why = loops.run(_serve(_setup(settings, given["slow"])))
    except ConfigError as error:
        click.echo(f"headway runtime: {error}", err=True)
        sys.exit(2)
    except BusError as error:
        click.echo(f"headway runtime: {error}", err=True)
        sys.exit(1)
    if why:
        click.echo(f"headway runtime: {why}", err=True)
        sys.exit(1)


def _overrides(given: dict[str, Any]) -> dict[str, Any]:
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
        "state": given["state"],
    }
    overrides = {f"runtime.{key}": value for key, value in runtime.items()}
    return {**overrides, "bus.url": given["url"], "bus.key_file": given["key_file"], "logs.level": given["log_level"]}


def _setup(settings: config.Settings, slow: float) -> Setup:
    base = (Path(settings.runtime.state).expanduser() if settings.runtime.state else config.state_folder()) / "runtimes"
    key = find_key(settings.bus.key_file, settings.bus.url)
    name = settings.runtime.name or (key.name if key is not None else _free_name(base))
    info = resources.describe(settings.runtime, name, _version())
    own = settings.runtime
    return Setup(
        url=settings.bus.url,
        info=info,
        work=base / re.sub(r"[^a-zA-Z0-9_.-]", "-", name),
        bus=settings.bus,
        models=dict(own.models),
        paths=[str(Path(path).expanduser().resolve()) for path in own.paths],
        bounds=Bounds(output_bytes=own.output_limit, drain_seconds=own.drain_deadline),
        slow=slow,
        software=f"headway {_version()}",
        keep_work=True,
        prepare=prepare_with(key),
    )


async def _serve(setup: Setup) -> str:
    """Returns what went wrong; empty: it left in good order."""
    service = RuntimeService(setup)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.leave)
    why = await service.run()
    logs.get_logger("headway.runtime").info("ended", reason=why)
    return why if service.refused is not None else ""


def _free_name(base: Path) -> str:
    """The machine's name; with a number if another runtime works here under that."""
    name = resources.machine_name()
    for number in range(2, MOST_RUNTIMES):
        if not files.is_in_use(base / name):
            break
        name = f"{resources.machine_name()}-{number}"
    return name


def _version() -> str:
    try:
        return version("headway")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    command(prog_name="headway runtime")
