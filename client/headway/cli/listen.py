"""``headway edge listen``: what tasks and plugins tell with ``headway.tell``, as it comes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import DONE
from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import note
from headway.cli.views import moment_data
from headway.cli.words import moment, plain
from headway_bus.ids import text_of
from headway_bus.records import LogRecord

if TYPE_CHECKING:
    from headway import Client


@click.command(epilog=epilog("headway edge listen", "headway edge listen shop-17 --count 1 --json"))
@click.argument("names", metavar="[EDGE]...", nargs=-1)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Leave after so many.")
@json_option
@on_bus
def listen(bus: Client, names: tuple[str, ...], count: int | None, as_json: bool) -> int:
    """Print what edges tell, as it comes, until Ctrl-C.

    A task or a plugin tells with headway.tell(VALUE). What came before is not printed: it stands in the log of the task that
    told it, `headway logs ID --stream message`. With --json there is one object to a line.
    """
    left, events = count, bus.subscribe("messages")
    bus.broker()  # its answer comes behind the subscription: what is told from now on is heard
    note(f"listening to {', '.join(names) or 'every edge'}; Ctrl-C ends it")
    for event in events:
        edge = str(event.data.get("runtime", ""))
        if names and edge not in names:
            continue
        for record in event.records:
            click.echo(json.dumps(message_data(edge, record), ensure_ascii=False) if as_json else line_of(edge, record))
        left = None if left is None else left - 1
        if left == 0:
            break
    return DONE


def line_of(edge: str, record: LogRecord) -> str:
    """A message as a person sees it: when, who, what."""
    value = json.dumps(plain(record.fields.get("value")), ensure_ascii=False)
    return f"{moment(record.at, time.time())}  {edge}  {value}"


def message_data(edge: str, record: LogRecord) -> dict[str, Any]:
    return {
        "edge": edge,
        "id": text_of(record.task),
        **moment_data("at", record.at),
        "value": plain(record.fields.get("value")),
    }
