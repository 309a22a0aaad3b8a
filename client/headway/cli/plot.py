"""``headway plot``: a batch as a chart."""

from __future__ import annotations

from pathlib import Path

import click

from headway.cli.batch_options import batches_option, log_options, open_batch
from headway.cli.failures import DONE
from headway.cli.options import epilog


@click.command(epilog=epilog("headway plot sklearn_iris_example -o batch.html", "headway plot my_batch -o batch.png"))
@click.argument("batch", metavar="BATCH")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="A name in .html, .png, .svg or .pdf.",
)
@batches_option
@log_options
def plot(batch: str, output: Path, batches_data_dir: str | None) -> int:
    """Draw a batch: who ran what when, elapsed times, states."""
    from collections import Counter

    from headway.batch.chart import SUFFIXES, bars_of, draw

    if output.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"{output}: expected a name that ends in {', '.join(SUFFIXES)}", param_hint="--output")
    folder, config = open_batch(batches_data_dir, batch)
    names = [str(job["name"]) for job in config["jobs"]]
    draw(bars_of(folder, names), Counter(folder.states(names).values()), batch, output)
    click.echo(f"wrote {output}")
    return DONE
