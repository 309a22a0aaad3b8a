"""The verb ``study`` of the command ``headway``: look at studies, go on with them, cancel them, draw them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import DONE, CommandError
from headway.cli.options import CONNECT_SECONDS, Choice, bus_options, epilog, json_option
from headway.cli.output import Column, Table, note, print_json
from headway_trainer.errors import TrainerError
from headway_trainer.running.drive import JOB_FILE, STUDIES, cancel_mark, finished
from headway_trainer.studies.log import is_running, read_log
from headway_trainer.studies.study import DONE as TRIAL_DONE
from headway_trainer.studies.study import FAILED, PRUNED, Study, Trial

if TYPE_CHECKING:
    from headway import Bus

PATTERN = "*.jsonl"

place_argument = click.argument("place", metavar="PLACE", type=click.Path(path_type=Path, exists=True))
file_argument = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group(
    epilog=epilog("headway study list report", "headway study show study.jsonl", "headway study resume study.jsonl"),
    short_help="Look at studies, go on with them, cancel them, draw them.",
)
def study() -> None:
    """Studies: the trials of a search, in the files that record them.

    A study is a file that ends in .jsonl: what search(…, path=…) wrote, or one of those that `headway train -o FOLDER`
    keeps in FOLDER/studies.
    """


@study.command("list", epilog=epilog("headway study list report", "headway study list"))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@json_option
def list_(folder: Path, as_json: bool) -> int:
    """The studies in FOLDER (here, if none is given) or of a report: how they are, trials, and the best.

    "running": a program works on it now. "cancelled": by `headway study cancel`. "open": it can be gone on with.
    """
    rows = [_summary(path) for path in _paths(folder)]
    if as_json:
        print_json(rows)
        return DONE
    columns = [Column("study"), Column("state"), Column("trials", right=True), Column("pruned", right=True)]
    columns += [Column("failed", right=True), Column("best", right=True), Column("values")]
    cells = [
        [
            row["study"],
            row["state"],
            f"{row['told']}/{row['trials']}",
            str(row["pruned"]),
            str(row["failed"]),
            figure(row["loss"]),
            values_text(row["values"]),
        ]
        for row in rows
    ]
    Table(columns, cells).print()
    return DONE


@study.command("show", epilog=epilog("headway study show report/studies/00000-Theta.jsonl"))
@file_argument
@json_option
def show(file: Path, as_json: bool) -> int:
    """Every trial of the study in FILE."""
    loaded = read_study(file)
    if as_json:
        print_json(loaded.state())
        return DONE
    columns = (
        Column("trial", right=True),
        Column("status"),
        Column("loss", right=True),
        Column("values"),
        Column("why"),
    )
    best = loaded.best
    rows = [
        [str(one.number), "best" if one is best else one.status, figure(one.loss), values_text(one.values), one.reason]
        for one in loaded.trials
    ]
    Table(columns, rows).print()
    return DONE


@study.command("resume", epilog=epilog("headway study resume report", "headway study resume study.jsonl"))
@place_argument
@bus_options
@click.pass_context
def resume(ctx: click.Context, place: Path) -> int:
    """Go on with PLACE, the file of a study or the folder of a report.

    What was told stays, what was asked is asked again, and a trial that still runs on the bus is adopted. A search whose
    objective was sent by value can only be gone on with by its own program.
    """
    if place.is_dir():
        return _resume_training(ctx, place)
    from headway_trainer.running.searching import resume as go_on

    loaded = _on_bus(ctx, lambda bus: go_on(bus, place, _tell_trial))
    _print_best(loaded)
    return DONE


def _resume_training(ctx: click.Context, folder: Path) -> int:
    from headway_trainer.cli import outcome, print_results, run_job
    from headway_trainer.running.job import Job

    path = folder / JOB_FILE
    try:
        job = Job.from_plain(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError) as error:
        raise TrainerError(f"{path}: {error}") from None
    found = run_job(ctx, job, folder, quiet=False)
    print_results(found)
    return outcome(found)


@study.command("cancel", epilog=epilog("headway study cancel study.jsonl", "headway study cancel report"))
@place_argument
@bus_options
@click.pass_context
def cancel(ctx: click.Context, place: Path) -> int:
    """Cancel PLACE, the file of a study or the folder of a report: its trials on the bus, and the program that asks for more.

    The studies of a report are cancelled together, by its folder. What was found stays, and `headway study resume` goes on.
    """
    job = _job_name(place)
    if place.is_file() and read_study(place).done:
        click.echo(f"{place}: all its trials have ended; there is nothing to cancel")
        return DONE
    cancel_mark(place).touch()  # first: the program that runs it looks for this when its trials are cancelled
    count = _on_bus(ctx, lambda bus: _cancel_job(bus, job))
    click.echo(f"cancelled {place}: {count} of its tasks were on the bus")
    return DONE


def _job_name(place: Path) -> str:
    if not place.is_dir():
        from headway_trainer.running.searching import job_of

        read_study(place)  # raises for what is no study
        folder = place.absolute().parent.parent
        if place.absolute().parent.name == STUDIES and (folder / JOB_FILE).exists():
            raise TrainerError(f"{place}: it is one of the studies of {folder}; cancel that")
        return job_of(place)
    from headway_trainer.running.training import job_name

    if not (place / JOB_FILE).exists():
        raise TrainerError(f"{place}: it has no {JOB_FILE}, so it is no report; name the file of a study, or a report")
    return job_name(place)


async def _cancel_job(bus: Bus, job: str) -> int:
    from headway import Refused

    try:
        changed = await bus.cancel(job=job)
    except Refused:  # the bus knows no such job: nothing of it was ever submitted, or it was purged
        return 0
    return changed.count


@study.command(
    "plot", epilog=epilog("headway study plot study.jsonl -o study.png", "headway study plot report -o plots")
)
@place_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="A name in .html, .png, .svg or .pdf; for a folder of studies a .html with all of them, or a folder.",
)
def plot(place: Path, output: Path) -> int:
    """Draw PLACE, the file of a study or a folder of studies: losses by trial, the best so far, what trials reported."""
    from headway_trainer import plots

    paths = _paths(place) if place.is_dir() else [place]
    if place.is_dir() and output.suffix.lower() != ".html":
        for path in paths:
            plots.write(plots.figure_of_study(read_study(path), path.stem), path.stem, output / f"{path.stem}.png")
    elif place.is_dir():
        plots.write_all([(path.stem, plots.figure_of_study(read_study(path), path.stem)) for path in paths], output)
    else:
        plots.check_output(output)
        plots.write(plots.figure_of_study(read_study(place), place.stem), place.stem, output)
    click.echo(f"wrote {output}")
    return DONE


@study.command("serve", epilog=epilog("headway study serve", "headway study serve --bind 127.0.0.1:18861"))
@click.option(
    "--bind", metavar="HOST:PORT", default="127.0.0.1:18861", show_default=True, help="Where to listen; port 0: any."
)
@click.option(
    "--certificate", type=click.Path(path_type=Path), help="The service's certificate, to listen beyond this machine."
)
@click.option("--key", type=click.Path(path_type=Path), help="The key of the certificate.")
@click.option(
    "--clients", type=click.Path(path_type=Path), help="The authority that signs the certificates of clients."
)
@bus_options
@click.pass_context
def serve(ctx: click.Context, bind: str, certificate: Path | None, key: Path | None, clients: Path | None) -> int:
    """Offer commit_job_func, get_result_func, push, get_status, get_status_or_result and cancel over RPyC, until Ctrl-C.

    To this machine only, or to clients that show a certificate. Needs the extra rpyc.
    """
    from headway_trainer.jobs import Book
    from headway_trainer.rpyc_service import Certificates, make_server

    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{bind!r}: expected HOST:PORT", param_hint="--bind")
    given = [one for one in (certificate, key, clients) if one is not None]
    if given and len(given) < 3:
        raise click.UsageError("--certificate, --key and --clients go together")
    choice = ctx.find_root().ensure_object(Choice)
    certificates = Certificates(*given) if given else None
    server = make_server(Book(choice.bus), host.strip("[]"), int(port), certificates)
    click.echo(f"serving on {host}:{server.port}")
    try:
        server.start()
    finally:
        server.close()
    return DONE


def _on_bus(ctx: click.Context, work: Callable[[Bus], Awaitable[Any]]) -> Any:
    import headway

    choice = ctx.find_root().ensure_object(Choice)

    async def run() -> Any:
        place = {"config": choice.config, "key_file": choice.key_file, "timeout": CONNECT_SECONDS}
        async with headway.connect(choice.bus, **place) as bus:  # type: ignore[arg-type]
            return await work(bus)

    return asyncio.run(run())


def _paths(folder: Path) -> list[Path]:
    inside = folder / STUDIES
    paths = sorted((inside if inside.is_dir() else folder).glob(PATTERN))
    if not paths:
        raise TrainerError(f"{folder}: there is no study in it; expected files that end in .jsonl")
    return paths


def read_study(path: Path) -> Study:
    """The study as it is now. Nothing is written: a trainer may be at work there."""
    return Study.load(read_log(path, mend=False))


def _summary(path: Path) -> dict[str, Any]:
    loaded = read_study(path)
    best = loaded.best
    statuses = [trial.status for trial in loaded.trials]
    return {
        "study": path.stem,
        "series": loaded.series,
        "state": _state(path, loaded),
        "trials": loaded.limit,
        "told": finished(loaded),
        "done": statuses.count(TRIAL_DONE),
        "pruned": statuses.count(PRUNED),
        "failed": statuses.count(FAILED),
        "loss": best.loss if best else None,
        "values": best.values if best else None,
    }


def _state(path: Path, loaded: Study) -> str:
    if loaded.done:
        return "done"
    if is_running(path):
        return "running"
    folder = path.parent.parent if path.parent.name == STUDIES else path
    return "cancelled" if any(cancel_mark(each).exists() for each in (path, folder)) else "open"


def _tell_trial(loaded: Study, trial: Trial) -> None:
    note(f"{finished(loaded)}/{loaded.limit}: trial {trial.number} {trial.status} {figure(trial.loss)}")


def _print_best(loaded: Study) -> None:
    best = loaded.best
    if best is None:
        raise CommandError(f"every trial failed; the last: {loaded.trials[-1].reason}")
    click.echo(f"{len(loaded.trials)} trials; the best is {best.number}: loss {figure(best.loss)}")
    click.echo(values_text(best.values))


def figure(value: float | None) -> str:
    """A number as the tables show it."""
    return "-" if value is None else f"{value:.4g}"


def values_text(values: dict[str, Any] | None) -> str:
    """A trial's values in one line."""
    return "" if not values else " ".join(f"{name}={_value(one)}" for name, one in values.items())


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
