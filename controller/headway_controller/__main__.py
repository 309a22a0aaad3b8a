"""``headway controller``, also ``python -m headway_controller``: settings, logging, run."""

from __future__ import annotations

import click

from headway_bus import config, loops
from headway_bus.keys import find_key, prepare_with
from headway_bus.parts import run_part
from headway_controller.service import ControllerService


@click.command(
    "controller", short_help="Run the brain alone.", epilog="Example: headway controller --state /var/lib/headway"
)
@click.option("--bus", "url", metavar="URL", help="Where the broker is.")
@click.option("--key-file", metavar="FILE", help="The controller's key, for a bus that asks for one.")
@click.option("--state", metavar="DIR", help="Where tasks and results are kept.  [default: ~/.local/state/headway]")
@click.option("--durability", type=click.Choice(["full", "normal", "memory"]), help="What an acceptance survives.")
@click.option("--config", "file", metavar="FILE", help="A config.toml.")
@click.option("--log-level", help="debug, info, warning or error.")
def command(
    url: str | None,
    key_file: str | None,
    state: str | None,
    durability: str | None,
    file: str | None,
    log_level: str | None,
) -> None:
    """Run the controller alone: it keeps the tasks, decides which runtime gets them and when, and stores their ends.

    It may be killed at any moment. The next one reads the store, hears from the runtimes what they have, and goes on.
    """
    overrides = {
        "bus.url": url,
        "bus.key_file": key_file,
        "controller.state": state,
        "controller.durability": durability,
        "logs.level": log_level,
    }
    run_part("controller", lambda: config.load(file, overrides), _serve)


async def _serve(settings: config.Settings) -> str:
    """Returns why the broker refused; empty: told to stop."""
    prepare = prepare_with(find_key(settings.bus.key_file, settings.bus.url))
    service = ControllerService.from_settings(settings)
    loops.on_stop(service.stop)
    await service.open()
    service.connect(settings.bus.url, prepare)
    refused = await service.until_stopped()
    await service.close()
    return refused


if __name__ == "__main__":
    command(prog_name="headway controller")
