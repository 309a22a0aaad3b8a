"""``headway batch``: the batches in the folder of all batches."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.batch_options import batch_option, batches_option, log_options, open_batch
from headway.cli.failures import DONE
from headway.cli.options import epilog, json_option
from headway.cli.output import NOTHING, Column, Table, print_json
from headway.cli.words import duration, moment

if TYPE_CHECKING:
    from headway.batch.folder import BatchFolder

WORDS = ("total", "failed", "init", "succeed", "running")
COLUMNS = (
    Column("name", fixed=True),
    Column("status", fixed=True),
    *(Column(word, right=True) for word in WORDS),
    Column("portal"),
)
JOB_COLUMNS = (
    Column("name", fixed=True),
    Column("status", fixed=True),
    Column("exit", right=True),
    Column("host"),
    Column("started"),
    Column("elapsed", right=True),
    Column("reason"),
)


@click.group(epilog=epilog("headway batch list", "headway batch show -b sklearn_iris_example"))
@log_options
def batch() -> None:
    """Show the batches that were run, from their folders."""


@batch.command("list", epilog=epilog("headway batch list", "headway batch list --batches-data-dir ./batches --json"))
@batches_option
@json_option
@log_options
def list_batches(batches_data_dir: str | None, as_json: bool) -> int:
    """List the batches and how far they are."""
    from headway.batch.config import data_folder

    found = [summary for path in _folders(data_folder(batches_data_dir)) if (summary := summary_of(path)) is not None]
    if as_json:
        print_json(found)
    else:
        rows = [[str(each.get(column.title) or NOTHING) for column in COLUMNS] for each in found]
        for row, each in zip(rows, found, strict=True):
            row[2 : 2 + len(WORDS)] = [str(each[word]) for word in WORDS]
        Table(COLUMNS, rows).print()
    return DONE


@batch.command(epilog=epilog("headway batch show -b sklearn_iris_example"))
@batch_option
@batches_option
@json_option
@log_options
def show(batch: str, batches_data_dir: str | None, as_json: bool) -> int:
    """Show a batch: its jobs, how each ended, and when."""
    folder, config = open_batch(batches_data_dir, batch)
    summary = summary_of(folder.path)
    jobs = jobs_of(folder, config)
    if as_json:
        print_json({**(summary or {}), "folder": str(folder.path), "jobs": jobs})
        return DONE
    now = time.time()
    Table(JOB_COLUMNS, [_job_row(job, now) for job in jobs]).print()
    click.echo(f"\n{folder.path}: {(summary or {}).get('status', '')}")
    return DONE


def _folders(batches: Path) -> list[Path]:
    return sorted(path for path in batches.iterdir() if path.is_dir()) if batches.is_dir() else []


def summary_of(path: Path) -> dict[str, Any] | None:
    """A batch's name, status and counts; None for a folder that is no batch."""
    from collections import Counter

    from headway.batch.book import summary_of as counted
    from headway.batch.folder import BatchFolder

    folder = BatchFolder(path)
    config = folder.read_config()
    if config is None:
        return None
    states = folder.states(str(job.get("name")) for job in config["jobs"])
    running = folder.is_locked()
    over = all(state in ("succeed", "failed", "killed") for state in states.values())
    info = folder.read_run() if running else None
    return {
        "name": config.get("name"),
        "status": "RUNNING" if running else "FINISHED" if over else "NOT_FINISHED",
        **counted(Counter(states.values()), len(states)),
        "portal": info.portal if info else "",
    }


def jobs_of(folder: BatchFolder, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Every job with its state and, where it has ended, how."""
    names = [str(job.get("name")) for job in config["jobs"]]
    found = []
    for name, state in folder.states(names).items():
        record = folder.read_record(name)
        ended = record if record is not None and record.status == state else None
        found.append(
            {
                "name": name,
                "status": str(state),
                "exit_code": ended.exit_code if ended else None,
                "host": ended.host if ended else "",
                "start_datetime": ended.start_datetime if ended else None,
                "elapsed": ended.elapsed if ended else None,
                "reason": (ended.message or ended.reason) if ended else "",
            }
        )
    return found


def _job_row(job: dict[str, Any], now: float) -> list[str]:
    return [
        job["name"],
        job["status"],
        NOTHING if job["exit_code"] is None else str(job["exit_code"]),
        job["host"] or NOTHING,
        moment(job["start_datetime"] or 0.0, now),
        NOTHING if job["elapsed"] is None else duration(job["elapsed"]),
        job["reason"] or NOTHING,
    ]
