"""``headway union``: how far a union is, edge by edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import NOTHING, Column, Table, print_json
from headway.cli.words import duration

if TYPE_CHECKING:
    from headway import Client

EDGES = (Column("edge"), Column("status", fixed=True), Column("task", fixed=True))
ROUNDS = (
    Column("round", right=True),
    Column("succeeded", right=True),
    Column("seconds", right=True),
    Column("merge", fixed=True),
    Column("missing"),
)


@click.command(epilog=epilog("headway union 7c1f", "headway union 7c1f --json"))
@click.argument("task", metavar="ID")
@json_option
@on_bus
def union(bus: Client, task: str, as_json: bool) -> None:
    """Show a union: its edges, its rounds, who is missing.

    Each edge's part is a task: `headway logs` and `headway cancel` take its id, and the union's own id means the whole.
    """
    found = bus.union_of(task)
    state, info = found.state(), found.task.info()
    if as_json:
        print_json({"id": found.id, "status": info.status.value, **state})
        return
    plan = info.options.union
    click.echo(f"{found.id}  {info.status.value}  round {state.get('round', 0)} of {plan.rounds if plan else 1}")
    if info.error is not None:
        click.echo(info.error.message)
    edges = state.get("edges", {})
    if edges:
        click.echo()
        Table(EDGES, [[edge, status, part[:8]] for edge, (part, status) in edges.items()]).print()
    if state.get("rounds"):
        click.echo()
        Table(ROUNDS, [_round_row(each) for each in state["rounds"]]).print()


def _round_row(each: dict[str, object]) -> list[str]:
    succeeded, missing = each["succeeded"], each["missing"]
    assert isinstance(succeeded, list) and isinstance(missing, list)
    merged, seconds = str(each["merged"])[:8], float(str(each["seconds"]))
    return [
        str(each["round"]),
        str(len(succeeded)),
        duration(seconds),
        merged or NOTHING,
        ", ".join(missing) or NOTHING,
    ]
