"""Dask distributed: scheduler, two worker processes of one thread each, all on this machine."""

from __future__ import annotations

from common import WORKERS, no_op, rate, require, resident, round_trips, tell

NAME = "Dask distributed"
TASKS = 5_000
QUEUED = 20_000


def main() -> None:
    require(NAME, "dask", "distributed")
    import time

    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        mapped = rate(lambda count: client.gather(client.map(no_op, range(count), pure=False)) and None, TASKS)
        trips = round_trips(lambda number: client.submit(no_op, number, pure=False).result())
        pid = client.run_on_scheduler(lambda: __import__("os").getpid())
        blocker = client.map(lambda _: time.sleep(30), range(WORKERS), pure=False)
        before = resident(pid)
        waiting = client.map(no_op, range(QUEUED), pure=False)
        while len(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))) < QUEUED:
            time.sleep(0.2)
        memory = (resident(pid) - before) / QUEUED / 1024
        client.cancel(waiting)
        client.cancel(blocker)
    note = (
        "keeps nothing on disk: tasks are lost with the scheduler. Unfair to it: built for graphs and data "
        "that stay on workers; the scheduler shares this process here, and so does the memory figure"
    )
    tell(NAME, "distributed", mapped, trips, note, memory)


if __name__ == "__main__":
    main()
