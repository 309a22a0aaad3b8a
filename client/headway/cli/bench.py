"""``headway bench``: how fast the bus is on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headway.cli.options import Choice, bus_options, epilog, json_option
from headway.cli.output import Column, Table, note, print_json

if TYPE_CHECKING:
    from headway.bench.figures import Figure

KINDS = ("throughput", "latency", "payload", "commands", "scale", "recover")
ON_ITS_OWN_ONLY = ("scale", "recover")

COLUMNS = (
    Column("measured"),
    Column("median", right=True),
    Column("least", right=True),
    Column("greatest", right=True),
    Column("unit"),
    Column("layout"),
    Column("durability"),
)


@click.command(epilog=epilog("headway bench", "headway bench latency --rounds 9", "headway bench scale --json"))
@click.argument("kinds", metavar="[WHAT]...", nargs=-1, type=click.Choice(KINDS))
@click.option("--rounds", type=click.IntRange(1), help="Rounds, of which the median counts.  [default: 5]")
@click.option("--tasks", type=click.IntRange(100), help="Tasks in a round of throughput.  [default: 50000]")
@click.option("--quick", is_flag=True, help="Less of everything: to see where about it lies.")
@json_option
@bus_options
@click.pass_context
def bench(
    ctx: click.Context, kinds: tuple[str, ...], rounds: int | None, tasks: int | None, quick: bool, as_json: bool
) -> None:
    """Measure how fast the bus is on this machine.

    WHAT: throughput, latency, payload, commands (these four if nothing is named, about a minute), scale (several minutes),
    recover. A bus of its own is started for it, unless --bus names one; scale and recover always have their own.
    """
    from dataclasses import replace

    from headway.bench import machine
    from headway.bench.report import QUICK, USUAL, Extent, measure

    url = ctx.find_root().ensure_object(Choice).bus
    extent = QUICK if quick else Extent()
    extent = replace(extent, rounds=rounds or extent.rounds, tasks=tasks or extent.tasks)
    measured_on = machine.describe()
    figures: list[Figure] = []
    for kind in kinds or USUAL:
        if not as_json:
            note(f"measuring {kind}")
        for found in measure(kind, extent, None if kind in ON_ITS_OWN_ONLY else url):
            figures += found
    if as_json:
        print_json({"machine": measured_on, "figures": [each.data() for each in figures]})
        return
    Table(COLUMNS, [_row(each) for each in figures]).print()
    click.echo(f"\n{machine.in_words(measured_on)}")


def _row(each: Figure) -> list[str]:
    from headway.bench.figures import number

    what = f"{each.what} ({each.note})" if each.note else each.what
    return [what, number(each.value), number(each.low), number(each.high), each.unit, each.layout, each.durability]
