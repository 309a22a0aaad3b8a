"""``headway generate``: a batch file from a template."""

from __future__ import annotations

from pathlib import Path

import click

from headway.cli.batch_options import log_level, log_options
from headway.cli.failures import DONE, CommandError
from headway.cli.options import epilog
from headway.cli.output import note


@click.command(
    epilog=epilog(
        "headway generate --template ./job-template.yml --output ./batch.json", "headway generate -t grid.toml --force"
    )
)
@click.option(
    "-t",
    "--template",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The template: .yml, .toml, .json.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("batch.json"),
    metavar="FILE",
    help="The batch file that is written.  [default: batch.json]",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@log_options
@click.pass_context
def generate(ctx: click.Context, template: Path, output: Path, force: bool) -> int:
    """Generate a batch file from a template: every combination of its parameters.

    A parameter is a list of values, a range {start, stop, step} or {start, stop, num}, or {logspace: {start, stop, num}}.
    With `sample: N` in the template, N combinations are taken at random.
    """
    from headway.batch.folder import write_whole
    from headway.batch.template import batch_text
    from headway.batch.template import generate as made_from

    batch, warnings = made_from(template)
    if log_level(ctx) not in ("error", "critical"):
        for warning in warnings:
            note(warning)
    if output.suffix.lower() not in (".json", ".yml", ".yaml"):
        raise CommandError(f"{output}: JSON is written; expected a name that ends in .json")
    if output.exists() and not force:
        raise CommandError(f"{output} exists; name another with --output, or replace it with --force")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, batch_text(batch).encode())
    click.echo(f"wrote {len(batch['jobs'])} jobs to {output}")
    return DONE
