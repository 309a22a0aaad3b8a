"""The verbs about runtimes and waiting times: ``runtimes`` and ``queues``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from headway.cli import views
from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import NOTHING, Table, print_json
from headway.cli.words import duration
from headway_bus.records import QueueState

if TYPE_CHECKING:
    from headway import Client


@click.command(epilog=epilog("headway runtimes", "headway runtimes --json"))
@json_option
@on_bus
def runtimes(bus: Client, as_json: bool) -> None:
    """List the runtimes and what they do."""
    found, now = bus.runtimes(), time.time()
    if as_json:
        print_json([views.runtime_data(state) for state in found])
    else:
        Table(views.RUNTIME_COLUMNS, [views.runtime_row(state, now) for state in found]).print()


@click.command(
    epilog=epilog("headway queues", "headway queues --target mypackage.work:train", "headway queues --scores")
)
@click.option("--target", help="Only the waiting times of this target.")
@click.option("--scores", is_flag=True, help="How well earlier estimates held, instead.")
@json_option
@on_bus
def queues(bus: Client, target: str | None, scores: bool, as_json: bool) -> None:
    """Show the expected waiting times.

    One line for each target on each runtime: how long a task submitted now would wait there, and what is ahead of it.
    """
    if scores:
        _print_scores(bus.scores(), as_json)
    else:
        _print_queues(bus.queues(target or ""), as_json)


def _print_queues(found: list[QueueState], as_json: bool) -> None:
    if as_json:
        print_json([views.queue_data(state) for state in found])
        return
    longest = max((state.waiting.expectation for state in found if state.waiting.known), default=0.0)
    Table(views.QUEUE_COLUMNS, [views.queue_row(state, longest) for state in found]).print()


def _print_scores(found: Mapping[str, Mapping[str, float]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    Table(views.SCORE_COLUMNS, [score_row(target, score) for target, score in sorted(found.items())]).print()


def score_row(target: str, score: Mapping[str, float]) -> list[str]:
    """Seconds as lengths of time, shares in percent, "-" for what was not scored."""

    def cell(name: str, as_share: bool = False) -> str:
        value = score.get(name)
        if value is None:
            return NOTHING
        return f"{value:.1%}" if as_share else duration(value)

    count = score.get("count")
    return [
        {"": "(all)", "*": "(those that waited)"}.get(target, target),
        NOTHING if count is None else f"{count:.0f}",
        cell("error"),
        cell("bias"),
        cell("p50", as_share=True),
        cell("p90", as_share=True),
    ]
