"""Ending one job of a batch that another process, or another thread, runs."""

from __future__ import annotations

from glob import escape

from headway.batch.records import RunInfo


def kill_job(info: RunInfo, batch: str, job: str) -> bool:
    """End the job's task on the bus of this run, with all its processes. False if it does not run."""
    from headway import Client

    with Client(info.bus, key_file="" if info.private else None) as bus:
        found = bus.tasks(job=batch, name=escape(job), status=["running"])
        own = [each for each in found if f"/{info.run}." in each.options.key]
        return bool(own) and bus.cancel([each.task for each in own]).count > 0
