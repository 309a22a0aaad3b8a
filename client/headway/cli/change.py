"""The verbs that change something: ``cancel``, ``retry``, ``purge``, ``describe``, ``drain``, ``switch``, ``backup``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headway.cli.failures import DONE, FAILED
from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import note, print_json
from headway.cli.views import moment_data
from headway.options import description_of
from headway_bus.errors import Refused

if TYPE_CHECKING:
    from headway import Client
    from headway_bus.messages import Changed


def _need_one(tasks: tuple[str, ...], job: str) -> None:
    if bool(tasks) == bool(job):
        raise click.UsageError("name tasks by their ids, or all the tasks of a job with --job")


def _tell(changed: Changed, verb: str, as_json: bool) -> int:
    """Print what was done; 1 if something of it was refused, or if there was nothing to do."""
    if as_json:
        refused = [{"id": task, "reason": reason} for task, reason in changed.refused]
        print_json({"count": changed.count, "refused": refused})
    else:
        click.echo(f"{verb} {changed.count} task{'' if changed.count == 1 else 's'}")
        for task, reason in changed.refused:
            note(f"{task[:8]}: {reason}")
    return FAILED if changed.refused or not changed.count else DONE


@click.command(epilog=epilog("headway cancel 7c1f", "headway cancel --job night"))
@click.argument("tasks", metavar="[ID]...", nargs=-1)
@click.option("--job", default="", help="All the unfinished tasks of this job.")
@json_option
@on_bus
def cancel(bus: Client, tasks: tuple[str, ...], job: str, as_json: bool) -> int:
    """Cancel tasks, or all the unfinished tasks of a job.

    Returns when they are over: a running one gets TERM, and after its grace KILL, with all its processes.
    """
    _need_one(tasks, job)
    return _tell(bus.cancel([bus.task(each) for each in tasks], job=job), "cancelled", as_json)


@click.command(epilog=epilog("headway retry 7c1f", "headway retry --job night"))
@click.argument("tasks", metavar="[ID]...", nargs=-1)
@click.option("--job", default="", help="All the tasks of this job that ended without success.")
@json_option
@on_bus
def retry(bus: Client, tasks: tuple[str, ...], job: str, as_json: bool) -> int:
    """Run ended tasks again.

    The count of attempts starts afresh; what had succeeded is run again only when its id is named.
    """
    _need_one(tasks, job)
    return _tell(bus.retry([bus.task(each) for each in tasks], job=job), "queued again", as_json)


@click.command(epilog=epilog("headway purge 7c1f", "headway purge --job night"))
@click.argument("tasks", metavar="[ID]...", nargs=-1)
@click.option("--job", default="", help="All the ended tasks of this job.")
@json_option
@on_bus
def purge(bus: Client, tasks: tuple[str, ...], job: str, as_json: bool) -> int:
    """Forget ended tasks and their results.

    This cannot be undone.
    """
    _need_one(tasks, job)
    return _tell(bus.purge([bus.task(each) for each in tasks], job=job), "forgot", as_json)


@click.command(epilog=epilog("headway describe 7c1f 'the one for the paper'", "headway describe 7c1f ''"))
@click.argument("task", metavar="ID")
@click.argument("text", metavar="TEXT")
@json_option
@on_bus
def describe(bus: Client, task: str, text: str, as_json: bool) -> int:
    """Give a task another description.

    Nothing else of it changes: one that runs goes on, one that has ended stays as it is. The ID of a union's part means
    that part. `headway show` has the description, and in its story each change with its time.
    """
    try:
        text = description_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="TEXT") from None
    found = bus.task(task)
    found.describe(text)
    if as_json:
        info = found.info()
        print_json({"id": found.id, "description": text, **moment_data("modified", info.modified)})
    else:
        click.echo(f"described {found.id[:8]}")
    return DONE


@click.command(epilog=epilog("headway drain node-1", "headway drain node-1 --resume"))
@click.argument("runtime")
@click.option("--resume", is_flag=True, help="Take it back: give it work again.")
@json_option
@on_bus
def drain(bus: Client, runtime: str, resume: bool, as_json: bool) -> int:
    """Let a runtime finish what it runs and give it nothing new."""
    changed = bus.drain(runtime, resume=resume)
    if as_json:
        print_json({"runtime": runtime, "state": "online" if resume else "draining", "count": changed.count})
    else:
        click.echo(f"{runtime} {'takes work again' if resume else 'is draining'}")
    return DONE


@click.command(
    epilog=epilog("headway switch strategy round_robin", "headway switch predictor lookup_table --table times.json")
)
@click.argument("what", type=click.Choice(["strategy", "predictor"]))
@click.argument("name")
@click.option("--table", type=click.Path(path_type=Path), help="The lookup table's file, on the controller's machine.")
@json_option
@on_bus
def switch(bus: Client, what: str, name: str, table: Path | None, as_json: bool) -> int:
    """Place or estimate tasks in another way.

    What waits already is placed anew. It lasts until the controller is started again: then it is as its settings say.
    A NAME that is not known is answered with those that are.
    """
    if table is not None and what == "strategy":
        raise click.UsageError("--table belongs to the predictor lookup_table")
    try:
        bus.control(what, name=name, table=str(table.absolute()) if table is not None else "")
    except Refused as refused:
        if refused.code != "invalid":
            raise
        raise click.BadParameter(str(refused), param_hint="NAME") from None
    if as_json:
        print_json({what: name})
    else:
        click.echo(f"the {what} is {name}")
    return DONE


@click.command(epilog=epilog("headway backup /var/backups/headway.sqlite"))
@click.argument("file", type=click.Path(path_type=Path))
@on_bus
def backup(bus: Client, file: Path) -> int:
    """Copy the controller's store to a file while it runs.

    The file is written by the controller, on its machine. One that exists is not overwritten.
    """
    bus.control("backup", path=str(file.absolute()))
    click.echo(f"wrote {file.absolute()}")
    return DONE
