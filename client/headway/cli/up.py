"""``headway up``: the whole bus on this machine, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import click

from headway.cli.options import Choice, bus_options, epilog


@click.command(
    epilog=epilog(
        "headway up",
        "headway up --slots 8 --state /var/lib/headway",
        "headway up --bind tcp://127.0.0.1:6000 --no-runtime",
    )
)
@click.option("--bind", metavar="URL", help="The address that the broker binds.  [default: tcp://127.0.0.1:5570]")
@click.option(
    "--slots", type=click.FloatRange(0, min_open=True), help="Slots of the runtime.  [default: one for each core]"
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the state is kept.  [default: ~/.local/state/headway]",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder of keys, for an address beyond this machine.  [default: ~/.config/headway/keys]",
)
@click.option("--no-runtime", is_flag=True, help="Broker and controller only; runtimes are started elsewhere.")
@click.option(
    "--ready-fd", type=click.IntRange(0), metavar="N", help="When ready, write a line of JSON with its url here."
)
@bus_options
@click.pass_context
def up(
    ctx: click.Context,
    bind: str | None,
    slots: float | None,
    state: Path | None,
    keys: Path | None,
    no_runtime: bool,
    ready_fd: int | None,
) -> int:
    """Keep a bus running on this machine.

    Broker and controller in one process, the runtime as its child. Ctrl-C, or SIGTERM, lets the runtime finish what it
    runs and stops all three; what is queued stays in the state folder for the next time.
    """
    from headway import hub
    from headway_bus.config import load

    if no_runtime and slots is not None:
        raise click.UsageError("--slots are the runtime's, and there is none with --no-runtime")
    choice = ctx.find_root().ensure_object(Choice)
    settings = load(
        choice.config,
        {
            "bus.url": choice.bus,
            "broker.bind": bind,
            "broker.keys": None if keys is None else str(keys.absolute()),
            "controller.state": None if state is None else str(state.absolute()),
        },
    )
    return hub.run(settings, slots=slots, with_runtime=not no_runtime, ready_fd=ready_fd)
