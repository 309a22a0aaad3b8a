"""The command ``hyperctl``: the verbs about batches under the name that their manual gives them."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn, cast

import click

from headway.cli.batch_options import log_options
from headway.cli.options import Choice

SUMMARIES = {
    "run": "run jobs",
    "generate": "generate specific jobs json file",
    "batch": "batch operations",
    "job": "job operations",
}
PLACES = {name: (f"headway.cli.{name}", name) for name in SUMMARIES}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from importlib import import_module

        if cmd_name not in PLACES:
            return None
        module, attribute = PLACES[cmd_name]
        return cast(click.Command, getattr(import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("positional arguments"):
            formatter.write_dl([("{run,generate,batch,job}", ""), *SUMMARIES.items()])


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    subcommand_metavar="{run,generate,batch,job} ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@log_options
@click.pass_context
def hyperctl(ctx: click.Context) -> None:
    """hyperctl command is used to manage jobs"""
    ctx.ensure_object(Choice)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """The console script."""
    from headway.cli.app import run

    status = run(sys.argv[1:], hyperctl, "hyperctl")
    gc.freeze()  # as in headway.cli.main
    sys.exit(status)
