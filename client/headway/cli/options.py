"""Options that many verbs share, and the way from them to a bus."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from headway import Client

Function = TypeVar("Function", bound=Callable[..., Any])

CONNECT_SECONDS = 2.5
"""How long a verb looks for a bus before it says that there is none: with the start of Python under 3 s."""


@dataclass
class Choice:
    """What the command line says about the bus; None: not a word, so environment, file and default decide."""

    bus: str | None = None
    config: Path | None = None
    key_file: str | None = None


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    choice = ctx.find_root().ensure_object(Choice)
    if value is not None and parameter.name is not None:
        setattr(choice, parameter.name, value)


def bus_options(function: Function) -> Function:
    """``--bus``, ``--key-file`` and ``--config``; they may stand before the verb or after it, and the one after it counts."""
    config = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        expose_value=False,
        callback=_keep,
        help="The settings' file.  [default: $HEADWAY_CONFIG or ~/.config/headway/config.toml]",
    )
    bus = click.option(
        "--bus",
        metavar="URL",
        expose_value=False,
        callback=_keep,
        help="The bus's address.  [default: $HEADWAY_BUS, the settings, or tcp://127.0.0.1:5570]",
    )
    key = click.option(
        "--key-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        expose_value=False,
        callback=_keep,
        help="The key to show to a bus that asks for one.  [default: $HEADWAY_KEY_FILE, the settings, or none]",
    )
    return bus(key(config(function)))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@contextmanager
def open_bus(ctx: click.Context) -> Iterator[Client]:
    """A blocking client of the bus that the command line chose. Raises NoBus within three seconds."""
    from headway import Client

    choice = ctx.find_root().ensure_object(Choice)
    with Client(choice.bus, config=choice.config, key_file=choice.key_file, timeout=CONNECT_SECONDS) as bus:
        # A broker alone takes questions for ever: nobody behind it answers them.
        bus.wait_until_served(CONNECT_SECONDS)
        yield bus


def on_bus(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``function`` an open bus as its first argument."""

    @bus_options
    @click.pass_context
    @functools.wraps(function)
    def with_bus(ctx: click.Context, *args: Any, **kwargs: Any) -> Any:
        with open_bus(ctx) as bus:
            return function(bus, *args, **kwargs)

    return with_bus


def epilog(*lines: str) -> str:
    """Examples at the end of a verb's help, a line each."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
