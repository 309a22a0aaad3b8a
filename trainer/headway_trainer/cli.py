"""The verb ``train`` of the command ``headway``. ``study`` is in ``study_cli``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import DONE, FAILED
from headway.cli.options import CONNECT_SECONDS, Choice, bus_options, epilog, json_option
from headway.cli.output import Column, Table, note, print_json
from headway_bus.config import Settings, load
from headway_trainer.running.job import Job
from headway_trainer.study_cli import figure, study

if TYPE_CHECKING:
    from headway_trainer.running.training import Listener, Progress

PLOTS = 12
"""Pictures in a report if nothing is said: some four seconds of drawing."""

LISTS = ("group", "features", "models")

__all__ = ["study", "train"]


@click.command(
    epilog=epilog(
        "headway train sales.csv --group region,sku --time date --target y --horizon 13 -o report",
        "headway train sales.csv --time date --target y --model Theta,LinearFit --trials 50 --metric mase",
        "headway train job.toml",
    ),
    short_help="Search models for every series of a file, and forecast.",
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--group", metavar="COLUMNS", help="Columns that tell the series apart, with commas between them.")
@click.option("--time", metavar="COLUMN", help="The column of the dates.")
@click.option("--target", metavar="COLUMN", help="The column to forecast.")
@click.option("--features", metavar="COLUMNS", help="Columns that a model may use.")
@click.option("--date-format", metavar="FORMAT", help="As of strptime, such as %d.%m.%Y.  [default: ISO 8601]")
@click.option("--frequency", metavar="STEP", help="D, 15min, h, W, M, Q or Y.  [default: found]")
@click.option("--model", "models", metavar="NAMES", help="Names with commas between them, or auto.  [default: auto]")
@click.option("--horizon", type=click.IntRange(1), help="Steps to forecast.  [default: 13]")
@click.option("--trials", type=click.IntRange(0), help="Trials for each series and model.  [default: 100]")
@click.option("--metric", metavar="NAME", help="What decides.  [default: mase]")
@click.option("--season", metavar="STEPS", help="Steps in a season; 1: none.  [default: auto, by the dates' step]")
@click.option("--folds", type=click.IntRange(1), help="Looks back that validate a model.  [default: 3]")
@click.option("--engine", metavar="NAME", help="hyperopt, optuna, random or grid.  [default: hyperopt]")
@click.option("--seed", type=click.IntRange(0), help="For the same trials again.  [default: 0]")
@click.option("--mode", type=click.Choice(["async", "batch"]), help="batch: the same trials however many workers.")
@click.option("--parallel", type=click.IntRange(1), help="Trials of a study at the same time.  [default: 8]")
@click.option("--export", is_flag=True, default=None, help="Keep the fitted models in the report, as JSON and npz.")
@click.option(
    "--plots", type=click.IntRange(0), help="Series of which the report has a picture.  [default: 12 with -o]"
)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="The folder of the report.")
@json_option
@bus_options
@click.pass_context
def train(
    ctx: click.Context, /, file: Path, output: Path | None, plots: int | None, as_json: bool, **given: Any
) -> int:
    """Train models for every series of FILE, a csv, csv.gz or parquet, or as a job.toml says.

    Each series gets the model and the parameters with the best validated metric, fitted again on all points, and its
    forecast. With -o the results go to results.json and forecasts.csv there and, where matplotlib is installed, to
    report.html with pictures of some series; the same command again goes on with what is there. A series that cannot be
    used has a status and a reason in the results and stops no other.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    if (settings.get("export") or plots) and output is None:
        raise click.UsageError("--export and --plots need a folder; give one with -o")
    found = run_job(ctx, _job(file, settings), output, quiet=as_json, plots=plots)
    if as_json:
        print_json(found)
    else:
        print_results(found)
        if output is not None:
            written = [output / name for name in ("results.json", "forecasts.csv", "report.html")]
            click.echo(f"\n{', '.join(str(path) for path in written if path.exists())}")
    return outcome(found)


def outcome(found: dict[str, Any]) -> int:
    """The exit code of a training: whether any series has a forecast."""
    return DONE if any(row["forecast"] for row in found["series"]) else FAILED


def _job(file: Path, settings: dict[str, Any]) -> Job:
    if file.suffix == ".toml":
        if settings:
            raise click.UsageError(f"--{next(iter(settings))}: it stands in {file}; a job file takes no options but -o")
        return Job.from_file(file)
    if settings.get("season", "").isdecimal():
        settings["season"] = int(settings["season"])
    for name in LISTS:
        if name in settings:
            settings[name] = [one.strip() for one in settings[name].split(",")]
    return Job.from_plain({"path": str(file), **settings}, "headway train")


def run_job(ctx: click.Context, job: Job, folder: Path | None, quiet: bool, plots: int | None = None) -> dict[str, Any]:
    """Train on the bus that the command line chose, with bars on a terminal. ``plots``: None: a few, if it can be done.

    Where no bus was chosen and none answers at the default address, a private one is started for this training.
    """
    import headway
    from headway_trainer.running.training import train as run

    choice = ctx.find_root().ensure_object(Choice)
    drawn = PLOTS if plots is None and folder is not None and find_spec("matplotlib") else plots or 0

    reached = False

    async def work(url: str | None, key_file: str | Path | None) -> dict[str, Any]:
        nonlocal reached
        async with headway.connect(url, config=choice.config, key_file=key_file, timeout=CONNECT_SECONDS) as bus:
            reached = True
            with _progress(quiet) as (progress, listener):
                return await run(bus, job, folder=folder, progress=progress, listener=listener, plots=drawn)

    try:
        return asyncio.run(work(choice.bus, choice.key_file))
    except headway.NoBus:
        settings = load(choice.config, {"bus.url": choice.bus})
        if reached or settings.bus.url != Settings().bus.url:
            raise
    note("no bus runs here; a private one is started for this training (`headway up` keeps one)")
    with headway.local(path=[Path.cwd()]) as private:
        return asyncio.run(work(private.url, ""))


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Progress, Listener]]:
    """Bars for the series and the trials, with the time left, on a terminal; nothing where nobody looks."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None, lambda row, ended, series: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last = TextColumn("{task.fields[last]}", markup=False)
    with Bar(*columns, last, console=Console(stderr=True), transient=True) as bar:
        series, trials = bar.add_task("series", total=None, last=""), bar.add_task("trials", total=None, last="")

        def on_series(row: dict[str, Any], ended: int, count: int) -> None:
            bar.update(series, completed=ended, total=count, last=f"{row['label']}: {row['model'] or row['status']}")

        yield lambda done, total: bar.update(trials, completed=done, total=total), on_series


def print_results(found: dict[str, Any]) -> None:
    """The table of the models, and a remark for each series that could not be used."""
    names = [name for name in found["table"][0] if name not in ("model", "series", "best")]
    columns = [Column("model"), Column("series", right=True), Column("best", right=True)]
    rows = [
        [line["model"], str(line["series"]), str(line["best"]), *(figure(line[name]) for name in names)]
        for line in found["table"]
    ]
    Table([*columns, *(Column(name, right=True) for name in names)], rows).print()
    for warning in found["warnings"]:
        note(warning)
    for row in found["series"]:
        if row["status"] in ("refused", "failed"):
            note(f"{row['label']}: {row['status']}: {row['reasons'][-1]}")
