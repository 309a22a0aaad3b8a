"""Dramatiq with Redis as broker and result backend, two processes of one thread each."""

from __future__ import annotations

import os
import sys

from common import WORKERS, rate, redis, require, round_trips, tell, worker

NAME = "Dramatiq + Redis"
TASKS = 2_000


def main() -> None:
    require(NAME, "dramatiq", "redis")
    with redis(NAME) as (url, _):
        os.environ["BENCH_REDIS"] = url
        from dramatiq import group
        from dramatiq_tasks import no_op

        command = [sys.executable, "-m", "dramatiq", "dramatiq_tasks", "-p", str(WORKERS), "-t", "1"]
        with worker(command, {"BENCH_REDIS": url}):
            no_op.send(1).get_result(block=True, timeout=30_000)
            mapped = rate(
                lambda count: (
                    list(group(no_op.message(n) for n in range(count)).run().get_results(block=True, timeout=200_000))
                    and None
                ),
                TASKS,
            )
            trips = round_trips(lambda number: no_op.send(number).get_result(block=True, timeout=30_000))
    note = (
        "Redis holds the tasks in memory with a snapshot now and then. Unfair to it: its results are polled "
        "with a growing pause, made for background work that nobody waits for"
    )
    tell(NAME, "dramatiq", mapped, trips, note)


if __name__ == "__main__":
    main()
