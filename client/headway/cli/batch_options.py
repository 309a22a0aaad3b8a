"""Options that the verbs about batches share, and the way from them to a batch's folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headway.cli.failures import CommandError
from headway.cli.options import Choice

if TYPE_CHECKING:
    from headway.batch.folder import BatchFolder

Function = TypeVar("Function", bound=Callable[..., Any])

LEVELS = ("CRITICAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG")
KEPT = "headway.batch.log_level"


def _keep(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value:
        ctx.find_root().meta[KEPT] = value.upper()


def log_options(function: Function) -> Function:
    """``--log-level`` and its aliases; they may stand before the verb or after it."""
    for alias, level in (("-debug", "DEBUG"), ("-info", "INFO"), ("-warn", "WARN"), ("-error", "ERROR")):
        function = click.option(
            alias, flag_value=level, expose_value=False, callback=_keep, help=f'Alias of "--log-level={level}".'
        )(function)
    return click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        expose_value=False,
        callback=_keep,
        metavar="LOG_LEVEL",
        help="Logging level.  [default: INFO]",
    )(function)


def is_log_level_typed(ctx: click.Context) -> bool:
    return KEPT in ctx.find_root().meta


def log_level(ctx: click.Context) -> str:
    """The level that was typed, as headway's logs call it: "error", "warning", "info" or "debug"."""
    typed = str(ctx.find_root().meta.get(KEPT, "INFO")).lower()
    return "warning" if typed == "warn" else typed


def explicit_bus(function: Function) -> Function:
    """``--bus`` of a verb that does without one. ``$HEADWAY_BUS`` does not count here: a batch has its own bus unless told."""
    return click.option(
        "--bus",
        metavar="URL",
        expose_value=False,
        callback=_keep_bus,
        help="Run on the bus at this address.  [default: a private one for the batch]",
    )(function)


def _keep_bus(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.find_root().ensure_object(Choice).bus = value


batches_option = click.option(
    "--batches-data-dir",
    metavar="DIR",
    help="The folder of all batches.  [default: $HYPERCTL_BATCHES_DATA_DIR or ~/hyperctl-batches-data-dir]",
)
batch_option = click.option("-b", "--batch-name", "batch", required=True, metavar="BATCH", help="The batch's name.")
job_option = click.option("-j", "--job-name", "job", required=True, metavar="JOB", help="The job's name.")


def open_batch(batches: str | None, name: str) -> tuple[BatchFolder, dict[str, Any]]:
    """The folder of a batch that was run once, and its configuration. Raises CommandError."""
    from headway.batch.config import data_folder
    from headway.batch.folder import BatchFolder

    folder = BatchFolder.of(data_folder(batches), name)
    config = folder.read_config()
    if config is None:
        raise CommandError(f"there is no batch {name!r} in {folder.path.parent}; see headway batch list")
    return folder, config


def job_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The job of this name. Raises CommandError."""
    for job in config["jobs"]:
        if job.get("name") == name:
            return dict(job)
    raise CommandError(f"job {name} does not exist in batch {config.get('name')}; see headway job list")
