"""``headway edge``, also ``python -m headway_edge``: settings, logging, signals, run."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import msgspec

from headway_bus import config, logs, loops
from headway_bus.errors import BusError, ConfigError
from headway_edge.counter import FACTORY, MODEL
from headway_edge.service import EdgeService, EdgeSetup
from headway_runtime.settings import offers, overrides_of, setup_of


@click.group(
    "edge",
    invoke_without_command=True,
    short_help="Run an edge agent.",
    epilog="Example: headway edge --name shop-17 --label region=north --spool /var/lib/headway",
)
@offers
@click.option("--spool", metavar="FOLDER", help="Where the agent keeps what must not be lost, and its files.")
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Run an edge agent on this machine until told to stop.

    An edge agent is a runtime for machines that nobody can dial and whose link breaks: it connects out, goes on while it
    is cut off, keeps results on its disk until they are delivered, and goes on where it was after a restart.
    """
    if context.invoked_subcommand is None:
        _run_agent(given)


def _run_agent(given: dict[str, Any]) -> None:
    if sys.platform != "linux":
        click.echo("headway edge: edge agents work on Linux only; clients and hubs work here", err=True)
        sys.exit(1)
    try:
        settings = config.load(given["file"], {**overrides_of(given), "edge.spool": given["spool"]})
        logs.configure(settings.logs.level, {"text": False, "json": True}.get(settings.logs.format))
        why = loops.run(_serve(edge_setup(settings)))
    except ConfigError as error:
        click.echo(f"headway edge: {error}", err=True)
        sys.exit(2)
    except BusError as error:
        click.echo(f"headway edge: {error}", err=True)
        sys.exit(1)
    if why:
        click.echo(f"headway edge: {why}", err=True)
        sys.exit(1)


def edge_setup(settings: config.Settings) -> EdgeSetup:
    """What the settings make of this machine."""
    edge = settings.edge
    models = {**settings.runtime.models, MODEL: FACTORY}
    settings = msgspec.structs.replace(settings, runtime=msgspec.structs.replace(settings.runtime, models=models))
    setup = setup_of(settings, base=config.state_folder() / "edges")
    own = {field.name: getattr(setup, field.name) for field in fields(setup)}
    own |= {
        "work": Path(edge.spool).expanduser() if edge.spool else setup.work,
        "role": "edge",
        "info": msgspec.structs.replace(setup.info, edge=True),
        "bus": msgspec.structs.replace(setup.bus, heartbeat=edge.heartbeat),
        "bounds": replace(setup.bounds, blob_bytes=edge.cache),
    }
    return EdgeSetup(**own, edge=edge)


async def _serve(setup: EdgeSetup) -> str:
    """Returns what went wrong; empty: it left in good order."""
    service = EdgeService(setup)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.leave)
    why = await service.run()
    logs.get_logger("headway.edge").info("ended", reason=why)
    return why if service.refused is not None else ""


if __name__ == "__main__":
    command(prog_name="headway edge")
