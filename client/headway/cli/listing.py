"""The verbs that list: ``ps`` and ``jobs``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from headway.cli import views
from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import Table, note, print_json
from headway_bus.records import Status

if TYPE_CHECKING:
    from headway import Client

STATUSES = click.Choice([status.value for status in Status])


@click.command(
    epilog=epilog(
        "headway ps --status running",
        "headway ps --job night --status failed --json",
        "headway ps --name 'train-*' --limit 1000",
    )
)
@click.option("--job", default="", help="Only tasks of this job.")
@click.option("--status", "-s", type=STATUSES, multiple=True, help="Only tasks in this status; repeatable.")
@click.option("--queue", default="", help="Only tasks of this queue.")
@click.option("--name", default="", help="Only tasks whose name fits this pattern.")
@click.option("--runtime", default="", help="Only tasks that are or were on this runtime.")
@click.option("--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@json_option
@on_bus
def ps(
    bus: Client,
    job: str,
    status: tuple[str, ...],
    queue: str,
    name: str,
    runtime: str,
    limit: int,
    as_json: bool,
) -> None:
    """List tasks, newest first.

    Start and end are moments; with ~ before them they are predicted, and "unknown" until enough has been seen.
    """
    wanted = [Status(each) for each in status]
    found = bus.tasks(job=job, status=wanted, queue=queue, name=name, runtime=runtime, limit=limit + 1)
    shown, now = found[:limit], time.time()
    if as_json:
        print_json([views.task_data(info, now) for info in shown])
    else:
        Table(views.TASK_COLUMNS, [views.task_row(info, now) for info in shown]).print()
    if len(found) > limit:
        note(f"there are more than these {limit}: --limit shows more, --job, --status and --name choose")


@click.command(epilog=epilog("headway jobs", "headway jobs night --json"))
@click.argument("job", default="")
@json_option
@on_bus
def jobs(bus: Client, job: str, as_json: bool) -> None:
    """List jobs and how far they are."""
    found, now = bus.jobs(job), time.time()
    if as_json:
        print_json([views.job_data(info) for info in found])
    else:
        Table(views.JOB_COLUMNS, [views.job_row(info, now) for info in found]).print()
