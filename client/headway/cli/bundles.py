"""The verbs about bundles: ``bundle`` runs one, ``outputs`` fetches what it left, ``deploy`` brings that to other machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import CommandError
from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import NOTHING, Column, Table, print_json
from headway.cli.submit import as_usage, chosen, end_options, take_ending, task_options
from headway.cli.types import SECONDS, TakesArguments
from headway.cli.waiting import finish
from headway.cli.words import size as size_text

if TYPE_CHECKING:
    from headway import Client, ClientTask
    from headway.outputs import Output

COLUMNS = (Column("edge"), Column("status", fixed=True), Column("size", right=True), Column("path"))


@click.command(
    cls=TakesArguments,
    epilog=epilog(
        "headway bundle work/ --entry train.py --output 'model/*' --follow",
        "headway bundle https://example.org/work.git --commit 4f2a90c -- --epochs 3",
    ),
)
@click.argument("source")
@click.argument("arguments", nargs=-1, metavar="[ARG]...", type=click.UNPROCESSED)
@click.option("--entry", default="", help="The script that is run, if the bundle does not say.")
@click.option("--commit", default="", help="SOURCE is a git repository; this is the commit of it.")
@end_options
@task_options
@on_bus
def bundle(bus: Client, source: str, arguments: tuple[str, ...], entry: str, commit: str, **given: Any) -> int:
    """Run a script with all that it needs: a file, a folder, a zip or a git repository.

    Arguments of the script that begin with - go after --. Prints the task's id, or with --wait what it prints.
    """
    ending = take_ending(given)
    with as_usage():
        task = bus.options(**chosen(bus, given)).bundle(source, list(arguments), entry, commit)
    return finish(task, is_process=True, **ending)


@click.command(epilog=epilog("headway outputs 7c1f", "headway outputs 7c1f results/"))
@click.argument("task", metavar="ID")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@json_option
@on_bus
def outputs(bus: Client, task: str, folder: Path | None, as_json: bool) -> None:
    """List the files that a task left, or write them into a folder.

    A file is written as it comes and never held in memory. After a cut the same line goes on where it stopped.
    """
    owner = bus.task(task)
    found = outputs_of(owner)
    if folder is not None:
        owner.save(folder)
    if as_json:
        print_json([{"path": name, "size": each.size} for name, each in found.items()])
        return
    Table((Column("path"), Column("size", right=True)), [[n, size_text(o.size)] for n, o in found.items()]).print()


def outputs_of(task: ClientTask) -> dict[str, Output]:
    """The files that the task left. Raises CommandError if it left none."""
    found = task.outputs()
    if not found or "" in found:
        raise CommandError(f"task {task.id[:8]} left no files: they are kept if it is submitted with --output PATTERN")
    return found


@click.command(
    epilog=epilog(
        "headway deploy 7c1f model/weights.bin --to 'region=north'",
        "headway deploy 7c1f model/weights.bin --to 'region=north' --run predict.py",
    )
)
@click.argument("task", metavar="ID")
@click.argument("path")
@click.option("--to", "selector", required=True, metavar="SELECTOR", help="The runtimes that get it.")
@click.option("--as", "name", default="", metavar="NAME", help="What it is called there.  [default: as it is]")
@click.option(
    "--run",
    "script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A script that is then run on each of them.",
)
@click.option("--deadline", type=SECONDS, help="How long to wait for those that are away.")
@json_option
@on_bus
def deploy(
    bus: Client,
    task: str,
    path: str,
    selector: str,
    name: str,
    script: Path | None,
    deadline: float | None,
    as_json: bool,
) -> int:
    """Bring a file that a task left to every runtime that matches.

    There it lies in $HEADWAY_DEPLOYED, or in `deployed` in the state folder; headway.deployed("NAME") is its path.
    """
    found = outputs_of(bus.task(task))
    if path not in found:
        raise CommandError(f"task {task} left no {path!r}; it left {', '.join(found)}")
    with as_usage():
        union = bus.deploy(found[path], name or path, selector, deadline=deadline)
        then = None
        if script is not None:
            then = bus.options(edges=selector, after=union.task, deadline=deadline or 0.0).script(script)
    result = union.ended()
    rows = [
        {
            "edge": edge,
            "status": outcome.status,
            "size": outcome.value["size"] if outcome.ok else None,
            "path": outcome.value["path"] if outcome.ok else None,
        }
        for edge, outcome in result.items()
    ]
    if as_json:
        print_json({"id": union.id, "status": result.status, "edges": rows, "script": then.id if then else None})
    else:
        cells = [
            [
                edge,
                outcome.status,
                *((size_text(outcome.value["size"]), outcome.value["path"]) if outcome.ok else (NOTHING,) * 2),
            ]
            for edge, outcome in result.items()
        ]
        Table(COLUMNS, cells).print()
        if then is not None:
            click.echo(then.id)
    return 0 if result.error is None else 1
