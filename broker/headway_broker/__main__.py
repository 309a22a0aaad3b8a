"""``headway broker``, also ``python -m headway_broker``: settings, logging, run."""

from __future__ import annotations

import asyncio
import sys

import click

from headway_broker.service import BrokerService
from headway_bus import config, logs, loops
from headway_bus.errors import BusError, ConfigError


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
    try:
        settings = config.load(file, {"broker.bind": bind, "broker.keys": keys, "logs.level": log_level})
        logs.configure(settings.logs.level, {"text": False, "json": True}.get(settings.logs.format))
        loops.run(_serve(settings))
    except ConfigError as error:
        click.echo(f"headway broker: {error}", err=True)
        sys.exit(2)
    except BusError as error:
        click.echo(f"headway broker: {error}", err=True)
        sys.exit(1)


async def _serve(settings: config.Settings) -> None:
    service = BrokerService.from_settings(settings)
    stop = asyncio.Event()
    loops.on_stop(stop.set)
    service.start()
    await stop.wait()
    await service.close()


if __name__ == "__main__":
    command(prog_name="headway broker")
