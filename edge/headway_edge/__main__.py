"""``headway edge``, also ``python -m headway_edge``: settings, logging, signals, run."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from headway_bus import config, logs, loops
from headway_bus.errors import BusError, ConfigError
from headway_edge.service import EdgeService
from headway_runtime.service import Setup
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
        settings = config.load(given["file"], overrides_of(given))
        logs.configure(settings.logs.level, {"text": False, "json": True}.get(settings.logs.format))
        why = loops.run(_serve(edge_setup(settings, given["spool"])))
    except ConfigError as error:
        click.echo(f"headway edge: {error}", err=True)
        sys.exit(2)
    except BusError as error:
        click.echo(f"headway edge: {error}", err=True)
        sys.exit(1)
    if why:
        click.echo(f"headway edge: {why}", err=True)
        sys.exit(1)


def edge_setup(settings: config.Settings, spool: str | None = None) -> Setup:
    """``spool``: the agent's folder; None: one by its name, where state is kept."""
    setup = setup_of(settings, base=config.state_folder() / "edges")
    work = Path(spool).expanduser() if spool else setup.work
    return replace(setup, work=work, role="edge", info=msgspec.structs.replace(setup.info, edge=True))


async def _serve(setup: Setup) -> str:
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
