"""``headway runtime``, also ``python -m headway_runtime``: settings, logging, signals, run."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from headway_bus import config
from headway_bus.parts import run_part_of_linux
from headway_runtime.service import RuntimeService, serve
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
    run_part_of_linux(
        "runtime",
        "runtimes",
        lambda: config.load(given["file"], overrides_of(given)),
        lambda settings: serve(partial(RuntimeService, setup_of(settings, given["slow"]))),
    )


if __name__ == "__main__":
    command(prog_name="headway runtime")
