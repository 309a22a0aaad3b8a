"""The root of the command line, and the one place where errors become exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from headway.cli.batch_options import is_log_level_typed, log_level, log_options
from headway.cli.failures import DONE, FAILED, INTERRUPTED, USAGE, status_of, told
from headway.cli.group import LazyGroup
from headway.cli.options import Choice, bus_options
from headway.cli.output import note
from headway.cli.table import VERBS
from headway_bus.errors import HeadwayError

LEVEL_VARIABLE = "HEADWAY_LOGS_LEVEL"
OF_BATCHES = frozenset({"run", "generate", "batch", "job"})
"""Verbs that take the level from the command line themselves: their jobs are not to inherit it."""

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, which every other line would pay for

    try:
        click.echo(f"headway {version('headway')}")
    except PackageNotFoundError:
        click.echo("headway, run from its source without being installed")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings=SETTINGS)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@bus_options
@log_options
@click.pass_context
def headway(ctx: click.Context) -> None:
    """A message bus that says when each task will start, and loses none.

    \b
    headway demo                                 see it work
    headway up                                   keep a bus running
    headway submit statistics:fmean '[1, 2, 4]' --wait
    """
    verb = VERBS.get(ctx.invoked_subcommand or "")
    if verb is None or not verb.place:
        _hand_down(ctx.ensure_object(Choice))
    if is_log_level_typed(ctx) and ctx.invoked_subcommand not in OF_BATCHES:
        os.environ[LEVEL_VARIABLE] = log_level(ctx)


def _hand_down(choice: Choice) -> None:
    """Let ``headway --bus URL runtime`` reach the commands of other packages, whose options are their own affair."""
    if choice.bus is not None:
        os.environ["HEADWAY_BUS"] = choice.bus
    if choice.config is not None:
        os.environ["HEADWAY_CONFIG"] = str(choice.config)
    if choice.key_file is not None:
        os.environ["HEADWAY_KEY_FILE"] = choice.key_file


def run(arguments: Sequence[str], command: click.Command | None = None, name: str = "headway") -> int:
    """What the command line says; returns the exit status, and never raises for what a person can cause.

    ``command``, ``name``: another root than ``headway``, which is looked up when it is needed.
    """
    try:
        outcome = (command or headway).main(args=list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, KeyboardInterrupt):
        note("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return USAGE
    except HeadwayError as error:
        if str(error):
            note(told(error))
        return status_of(error)
    except TimeoutError as error:
        note(str(error) or "it took too long")
        return FAILED
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:  # a disk that is full, a folder that may not be written: the person's to mend
        where = error.filename2 or error.filename
        note(f"{where}: {error.strerror}" if where and error.strerror else error.strerror or str(error))
        return FAILED
    return outcome if isinstance(outcome, int) else DONE


def _reader_left() -> int:
    """The reader of the pipe has left, as ``head`` does: leave quietly, and let nothing be flushed at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
