"""``headway broker``, also ``python -m headway_broker``: settings, logging, run."""

from __future__ import annotations

import asyncio

import click

from headway_broker.service import BrokerService
from headway_bus import config, loops
from headway_bus.parts import run_part


@click.command("broker", short_help="Run the hub alone.", epilog="Example: headway broker --bind tcp://127.0.0.1:5570")
@click.option("--bind", metavar="URL", help="The address that everybody connects to.")
@click.option(
    "--keys", metavar="DIR", help="The folder of keys, beyond this machine.  [default: ~/.config/headway/keys]"
)
@click.option("--config", "file", metavar="FILE", help="A config.toml.")
@click.option("--log-level", help="debug, info, warning or error.")
def command(bind: str | None, keys: str | None, file: str | None, log_level: str | None) -> None:
    """Run the hub alone: it connects peers and forwards their messages, and knows no task.

    Controller, runtimes and clients may be started before it or after it, and find it again when it was restarted.
    """
    overrides = {"broker.bind": bind, "broker.keys": keys, "logs.level": log_level}
    run_part("broker", lambda: config.load(file, overrides), _serve)


async def _serve(settings: config.Settings) -> str:
    service = BrokerService.from_settings(settings)
    stop = asyncio.Event()
    loops.on_stop(stop.set)
    service.start()
    await stop.wait()
    await service.close()
    return ""


if __name__ == "__main__":
    command(prog_name="headway broker")
