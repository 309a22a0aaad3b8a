"""``headway demo``: a bus of its own, real work, a table, and nothing left behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import DONE, FAILED, CommandError
from headway.cli.options import epilog
from headway.cli.output import Column, Table, note, print_json
from headway.cli.words import duration, plain
from headway.cli.words import estimate as estimate_text
from headway_bus.records import Estimate

if TYPE_CHECKING:
    from headway.demo.run import Report, Result

COLUMNS = (
    Column("method"),
    Column("sMAPE", right=True),
    Column("published", right=True),
    Column("MASE", right=True),
    Column("published", right=True),
    Column("agrees"),
)
TERMINATED = 128 + signal.SIGTERM


@click.command(epilog=epilog("headway demo", "headway demo --slots 4 --json"))
@click.option("--slots", type=click.IntRange(1), help="Tasks at the same time.  [default: one for each core]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def demo(slots: int | None, as_json: bool) -> int:
    """Run real work on a bus of its own and compare with published figures.

    Starts broker, controller and one runtime on this machine, forecasts the 359 weekly series of the M4 competition by
    three methods, a task for each series and method, and stops everything again. Exit status 1 if a mean is more than
    0.003 away from what was published.
    """
    try:
        from headway.demo import data
        from headway.demo.run import run
    except ModuleNotFoundError as missing:
        raise CommandError(f"the demo needs {missing.name}: pip install 'headway[demo]'") from None
    import headway

    cases = data.load()
    with _stopped_by_term(), headway.local(slots=slots) as bus:
        count = int(sum(state.info.slots for state in bus.runtimes()))
        if not as_json:
            words = f"{len(cases)} weekly series of the M4 competition × 3 methods"
            click.echo(f"{words}, a task each, {count} at a time")
        with _progress() as report:
            result = run(bus, cases, count, report)
    print_json(result_data(result)) if as_json else _print_result(result)
    return DONE if result.agrees else FAILED


@contextmanager
def _stopped_by_term() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that the bus is stopped and its folder removed."""

    def leave(_number: int, _frame: Any) -> None:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar with the predicted time left on a terminal; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda done, total, left: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("tasks"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("tasks", total=None, left="")

        def report(done: int, total: int, left: Estimate | None) -> None:
            bar.update(shown, completed=done, total=total, left=left_text(left))

        yield report


def left_text(left: Estimate | None) -> str:
    """What the bus predicts for the rest, in words."""
    return "" if left is None else f"predicted time left: {estimate_text(left)}"


def _print_result(result: Result) -> None:
    rows = [
        [
            row.method,
            f"{row.smape:.3f}",
            f"{row.published_smape:.3f}",
            f"{row.mase:.3f}",
            f"{row.published_mase:.3f}",
            "yes" if row.agrees else "NO",
        ]
        for row in result.rows
    ]
    Table(COLUMNS, rows).print()
    rate = result.tasks / result.seconds
    click.echo(f"\n{result.tasks} tasks in {duration(result.seconds)}: {rate:.0f} tasks per second")
    for line in waits_lines(result):
        click.echo(line)
    if not result.agrees:
        note("the figures do not agree with the published ones")


def waits_lines(result: Result) -> list[str]:
    """Predicted against actual waiting times, in sentences."""
    waits = result.waits
    if not waits.predicted:
        return ["waiting times: none was predicted"]
    lines = [
        f"waiting times: predicted for {waits.predicted} tasks ({waits.unknown} came before anything was known)",
        f"  mean wait {duration(waits.mean_wait)}, mean absolute error of the prediction "
        f"{duration(waits.mean_absolute_error)}, bias {duration(waits.bias)}",
    ]
    if waits.scored:
        lines.append(
            f"  of {waits.scored} scored starts {waits.p50:.0%} came within p50 (should be 50%), "
            f"{waits.p90:.0%} within p90 (should be 90%)"
        )
    return lines


def result_data(result: Result) -> dict[str, Any]:
    """The outcome as plain data; the keys are a promise."""
    return {
        "series": result.series,
        "tasks": result.tasks,
        "slots": result.slots,
        "seconds": result.seconds,
        "tasks_per_second": result.tasks / result.seconds,
        "agrees": result.agrees,
        "methods": [{**plain(vars(row)), "agrees": row.agrees} for row in result.rows],
        "waits": plain(vars(result.waits)),
    }
