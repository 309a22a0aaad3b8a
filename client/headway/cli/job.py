"""``headway job``: one job of a batch, also while the batch runs in another terminal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.batch import jobs_of
from headway.cli.batch_options import batch_option, batches_option, job_of, job_option, log_options, open_batch
from headway.cli.failures import DONE, CommandError
from headway.cli.options import epilog, json_option
from headway.cli.output import Column, Table, print_json
from headway.cli.words import plain

if TYPE_CHECKING:
    from headway.batch.folder import BatchFolder

COLUMNS = (Column("name", fixed=True), Column("status", fixed=True))
POLL = 0.2
"""Seconds between looks at a file that grows: files of other processes give no notice that works everywhere."""


@click.group(
    epilog=epilog(
        "headway job list -b my_batch",
        "headway job kill -b my_batch -j tol_1",
        "headway job logs -b my_batch -j tol_1 -f",
    )
)
@log_options
def job() -> None:
    """List, describe and kill the jobs of a batch, and print their output."""


@job.command("list", epilog=epilog("headway job list -b my_batch"))
@batch_option
@batches_option
@json_option
@log_options
def list_jobs(batch: str, batches_data_dir: str | None, as_json: bool) -> int:
    """List the jobs of a batch."""
    folder, config = open_batch(batches_data_dir, batch)
    found = jobs_of(folder, config)
    if as_json:
        print_json(found)
    else:
        Table(COLUMNS, [[each["name"], each["status"]] for each in found]).print()
    return DONE


@job.command(epilog=epilog("headway job describe -b my_batch -j tol_1"))
@batch_option
@job_option
@batches_option
@log_options
def describe(batch: str, job: str, batches_data_dir: str | None) -> int:
    """Print everything about a job as JSON."""
    folder, config = open_batch(batches_data_dir, batch)
    print_json(description_of(folder, job_of(config, job)))
    return DONE


def description_of(folder: BatchFolder, job: dict[str, Any]) -> dict[str, Any]:
    """A job as it was configured, how it is, and how it ended."""
    name = str(job["name"])
    path = folder.job_path(name)
    state = folder.states([name])[name]
    record = folder.read_record(name)
    found = {"params": {}, "resource": {}, "assets": [], "working_dir": str(path), **job, "status": str(state)}
    found["data_dir"] = str(path)
    if record is not None and record.status == state:
        found |= {key: value for key, value in plain(record).items() if key not in ("name", "status")}
    return found


@job.command(epilog=epilog("headway job kill -b my_batch -j tol_1"))
@batch_option
@job_option
@batches_option
@log_options
def kill(batch: str, job: str, batches_data_dir: str | None) -> int:
    """Kill a running job, with all its processes. Returns when it is over."""
    from headway.batch.killing import kill_job

    folder, config = open_batch(batches_data_dir, batch)
    job_of(config, job)
    info = folder.read_run() if folder.is_locked() else None
    if info is None:
        raise CommandError(f"batch {batch} is not running")
    if not kill_job(info, batch, job):
        raise CommandError(f"job {job} is not in running status but is {folder.states([job])[job]}")
    print_json({"msg": f"{job} killed"})
    return DONE


@job.command(
    epilog=epilog(
        "headway job logs -b my_batch -j tol_1",
        "headway job logs -b my_batch -j tol_1 --stderr -f",
        "headway job logs -b my_batch",
    )
)
@batch_option
@click.option(
    "-j", "--job-name", "job", metavar="JOB", help="The job's name.  [default: all of them, one after another]"
)
@batches_option
@click.option("--stderr", is_flag=True, help="Standard error instead of standard output.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@log_options
def logs(batch: str, job: str | None, batches_data_dir: str | None, stderr: bool, follow: bool) -> int:
    """Print what a job has written, or all jobs, each below its name."""
    folder, config = open_batch(batches_data_dir, batch)
    stream = "stderr" if stderr else "stdout"
    if job is None:
        if follow:
            raise click.UsageError("--follow goes with one job: -j JOB")
        for name in (str(each.get("name")) for each in config["jobs"]):
            click.echo(f"==> {name} <==")
            _copy(folder.job_path(name) / stream, folder, name, follow=False)
        return DONE
    job_of(config, job)
    path = folder.job_path(job) / stream
    if not path.exists() and not follow:
        raise CommandError(f"job {job} has written nothing yet: it is {folder.states([job])[job]}")
    _copy(path, folder, job, follow)
    return DONE


def _copy(path: Path, folder: BatchFolder, job: str, follow: bool) -> None:
    position = 0
    while True:
        # Asked before the file is read: what is written between the two is read the next time.
        goes_on = follow and (folder.states([job])[job] == "running" or (folder.is_locked() and not path.exists()))
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                while data := file.read(1 << 16):
                    sys.stdout.buffer.write(data)
                    position += len(data)
            sys.stdout.flush()
        if not goes_on:
            return
        time.sleep(POLL)
