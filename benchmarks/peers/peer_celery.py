"""Celery with Redis as broker and result backend, two prefork workers, a prefetch of 64 each."""

from __future__ import annotations

import os
import sys

from common import WORKERS, rate, redis, require, resident, round_trips, tell, worker

NAME = "Celery + Redis"
TASKS = 2_000
QUEUED = 20_000


def main() -> None:
    require(NAME, "celery", "redis")
    with redis(NAME) as (url, pid):
        os.environ["BENCH_REDIS"] = url
        from celery import group
        from celery_tasks import no_op

        before = resident(pid)
        for number in range(QUEUED):
            no_op.apply_async((number,), queue="held")
        memory = (resident(pid) - before) / QUEUED / 1024
        command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-c", str(WORKERS), "-l", "ERROR"]
        with worker(command, {"BENCH_REDIS": url}):
            no_op.delay(1).get(timeout=30)
            mapped = rate(
                lambda count: group(no_op.s(n) for n in range(count)).apply_async().get(timeout=200) and None, TASKS
            )
            trips = round_trips(lambda number: no_op.delay(number).get(timeout=30))
    note = (
        "Redis holds the tasks in memory with a snapshot now and then: what came since is lost with it. "
        "Acknowledged before it runs, by default"
    )
    tell(NAME, "celery", mapped, trips, note, memory)


if __name__ == "__main__":
    main()
