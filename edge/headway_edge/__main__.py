"""``headway edge``, also ``python -m headway_edge``: settings, logging, signals, run."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from headway_bus import config
from headway_bus.parts import run_part_of_linux
from headway_edge.counter import FACTORY, MODEL
from headway_edge.service import EdgeService, EdgeSetup
from headway_runtime.service import serve
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
        run_part_of_linux(
            "edge",
            "edge agents",
            lambda: config.load(given["file"], {**overrides_of(given), "edge.spool": given["spool"]}),
            lambda settings: serve(partial(EdgeService, edge_setup(settings))),
        )


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
    return EdgeSetup(**own, edge=edge, bus_heartbeat=settings.bus.heartbeat)


if __name__ == "__main__":
    command(prog_name="headway edge")
