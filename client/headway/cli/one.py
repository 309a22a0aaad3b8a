"""The verbs about one task: ``show``, ``logs``, ``explain``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from headway.cli import views
from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import NOTHING, Column, Table, print_json
from headway.cli.stories import story_lines
from headway.cli.streams import print_record
from headway.cli.words import moment
from headway_bus.records import Transition

if TYPE_CHECKING:
    from headway import Client

STREAMS = click.Choice(["stdout", "stderr", "log", "progress", "metric", "message", "system"])
STORY_COLUMNS = (
    Column("at", fixed=True),
    Column("status", fixed=True),
    Column("attempt", right=True),
    Column("runtime"),
    Column("reason"),
)


@click.command(epilog=epilog("headway show 7c1f", "headway show 7c1f --json"))
@click.argument("task", metavar="ID")
@json_option
@on_bus
def show(bus: Client, task: str, as_json: bool) -> None:
    """Show everything about one task, with its story."""
    info, now = bus.task(task).info(), time.time()
    if as_json:
        print_json(views.full_task_data(info, now))
        return
    lines = views.task_details(info, now)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name.ljust(width)}  {text}")
    if info.error is not None and info.error.traceback:
        click.echo("\n" + info.error.traceback.rstrip())
    if info.story:
        click.echo()
        Table(STORY_COLUMNS, [_story_row(step, now) for step in info.story]).print()


def _story_row(step: Transition, now: float) -> list[str]:
    attempt = str(step.attempt) if step.attempt else NOTHING
    return [moment(step.at, now), step.status, attempt, step.runtime or NOTHING, step.reason or NOTHING]


@click.command(
    epilog=epilog("headway logs 7c1f", "headway logs -f 7c1f --stream stdout", "headway logs 7c1f --json | jq .text")
)
@click.argument("task", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--stream", type=STREAMS, multiple=True, help="Only these; repeatable.")
@click.option("--attempt", type=click.IntRange(1), help="Only this attempt's.")
@click.option("-t", "--times", is_flag=True, help="Put each record's time before it.")
@json_option
@on_bus
def logs(
    bus: Client,
    task: str,
    follow: bool,
    stream: tuple[str, ...],
    attempt: int | None,
    times: bool,
    as_json: bool,
) -> None:
    """Print a task's output.

    What the task wrote to its standard error goes to this one's. With --json there is one object to a line.
    """
    found = bus.task(task)
    for record in found.logs(follow=follow, attempt=attempt or 0):
        if stream and record.stream not in stream:
            continue
        if as_json:
            click.echo(views.log_line(record))
        else:
            print_record(record, now=time.time() if times else 0.0)


@click.command(epilog=epilog("headway explain 7c1f"))
@click.argument("task", metavar="ID")
@json_option
@on_bus
def explain(bus: Client, task: str, as_json: bool) -> None:
    """Say why a task is where it is, and what it waits for."""
    found = bus.task(task)
    story = found.explain()
    if as_json:
        print_json(story)
        return
    for line in story_lines(story, time.time()):
        click.echo(line)
