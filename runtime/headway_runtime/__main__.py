"""``headway runtime``, also ``python -m headway_runtime``: settings, logging, signals, run."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import click

from headway_bus import config, logs, loops
from headway_bus.errors import BusError, ConfigError
from headway_runtime.service import RuntimeService, Setup
from headway_runtime.settings import offers, overrides_of, setup_of


@click.command(
    "runtime",
    short_help="Run tasks on this machine.",
    epilog="Example: headway runtime --bus tcp://127.0.0.1:5570 --slots 4 --label disk=fast",
)
@offers
@click.option("--state", metavar="FOLDER", help="Where the runtime keeps its files while it runs.")
@click.option("--slow", type=float, default=1.0, hidden=True, help="Take that many times as long: for benchmarks.")
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
        settings = config.load(given["file"], overrides_of(given))
        logs.configure(settings.logs.level, {"text": False, "json": True}.get(settings.logs.format))
        why = loops.run(_serve(setup_of(settings, given["slow"])))
    except ConfigError as error:
        click.echo(f"headway runtime: {error}", err=True)
        sys.exit(2)
    except BusError as error:
        click.echo(f"headway runtime: {error}", err=True)
        sys.exit(1)
    if why:
        click.echo(f"headway runtime: {why}", err=True)
        sys.exit(1)


async def _serve(setup: Setup) -> str:
    """Returns what went wrong; empty: it left in good order."""
    service = RuntimeService(setup)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.leave)
    why = await service.run()
    logs.get_logger("headway.runtime").info("ended", reason=why)
    return why if service.refused is not None else ""


if __name__ == "__main__":
    command(prog_name="headway runtime")
