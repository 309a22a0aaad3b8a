"""``headway run``: a batch of jobs from a file, on this machine or on a bus."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.batch_options import batches_option, explicit_bus, log_level, log_options
from headway.cli.failures import DONE, FAILED
from headway.cli.options import Choice, epilog
from headway.cli.output import note, print_json

if TYPE_CHECKING:
    from headway.batch.running import Result
    from headway.early_hub import EarlyHub


@click.command(
    epilog=epilog(
        "headway run --config ./batch.json",
        "headway run -c batch.toml --slots 4 --plain",
        "headway run -c batch.json --bus tcp://127.0.0.1:5570",
        "headway run -c batch.json --only tol_1 --force",
    )
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The batch: .json, .toml, .yml.",
)
@batches_option
@click.option(
    "--slots", type=click.FloatRange(0, min_open=True), help="Jobs at the same time.  [default: one for each core]"
)
@click.option("--only", multiple=True, metavar="NAME", help="Run this job and leave the others; repeatable.")
@click.option("--keep-failed", is_flag=True, help="Skip those that failed before, too.")
@click.option("--force", is_flag=True, help="Run those again that have succeeded.")
@click.option(
    "--accept-new-hosts", is_flag=True, help="Trust the keys of machines seen for the first time, and keep them."
)
@click.option("--plain", is_flag=True, help="Print lines instead of a live table.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, and nothing else.")
@log_options
@explicit_bus
@click.pass_context
def run(ctx: click.Context, /, config: Path, plain: bool, as_json: bool, **given: Any) -> int:
    """Run a batch of jobs from a file.

    Each job's output is in its own folder, {batches_data_dir}/{batch}/{job}. A job that has succeeded is skipped when the
    batch is run again, unless its command, parameters, assets or environment have changed; one that failed, was killed or
    interrupted runs again. Ctrl-C ends all jobs. Exit status 0 only if every job succeeded.
    """
    with _early_hub(ctx.find_root().ensure_object(Choice).bus) as early:
        return _run(ctx, config, plain, as_json, given, early)


@contextmanager
def _early_hub(bus: str | None) -> Iterator[EarlyHub | None]:
    """The process of the private bus, if one is wanted, begun before anything else: it imports while this process does."""
    if bus is not None:
        yield None
        return
    from headway.early_hub import EarlyHub

    early = EarlyHub(ahead=True)
    try:
        yield early
    finally:
        early.discard()


def _run(
    ctx: click.Context, config: Path, plain: bool, as_json: bool, given: dict[str, Any], early: EarlyHub | None
) -> int:
    gc.disable()
    from headway.batch.callbacks import ConsoleCallback
    from headway.batch.config import load_file
    from headway.batch.running import run_loaded
    from headway.cli.live import live_table
    from headway_bus import logs, loops

    loops.settle_imports()

    level = log_level(ctx)
    logs.configure(level)
    loaded = load_file(config)
    if level not in ("error", "critical"):
        for warning in loaded.warnings:
            note(warning)
    draws = sys.stdout.isatty() and not plain and not as_json
    options = _options(given, ctx.find_root().ensure_object(Choice).bus)
    quiet = draws or as_json or level in ("error", "critical", "warning")
    with _stopped_by_term(), live_table(draws) as refresh:
        result = run_loaded(loaded, options, [] if quiet else [ConsoleCallback()], refresh, early)
    print_json(_plain_result(result)) if as_json else _print_result(result)
    return DONE if result.succeeded else FAILED


def _options(given: dict[str, Any], bus: str | None) -> Any:
    from headway.batch.book import Selection
    from headway.batch.running import Options

    selection = Selection(frozenset(given["only"]), given["keep_failed"], given["force"])
    return Options(selection, bus, given["slots"], given["batches_data_dir"], given["accept_new_hosts"])


@contextmanager
def _stopped_by_term() -> Iterator[None]:
    """SIGTERM ends the batch as Ctrl-C does."""

    def interrupt(_number: int, _frame: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_result(result: Result) -> None:
    from headway.cli.words import duration

    counts = ", ".join(f"{count} {state}" for state, count in result.summary.items() if count and state != "total")
    skipped = f" ({result.n_skipped} skipped: done before)" if result.n_skipped else ""
    click.echo(f"{result.summary['total']} jobs: {counts}{skipped}, in {duration(result.elapsed)}")
    click.echo(f"output in {result.folder}")
    wrong = [f"{name} ({state})" for name, state in result.states.items() if state in ("failed", "killed")]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        note(f"did not succeed: {', '.join(wrong[:10])}{more}")


def _plain_result(result: Result) -> dict[str, Any]:
    return {
        "summary": result.summary,
        "n_allocated": result.n_allocated,
        "n_skipped": result.n_skipped,
        "succeeded": result.succeeded,
        "elapsed": result.elapsed,
        "states": {name: str(state) for name, state in result.states.items()},
        "folder": str(result.folder),
    }
