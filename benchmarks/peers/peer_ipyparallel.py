"""ipyparallel: a controller and two engines on this machine."""

from __future__ import annotations

from common import WORKERS, no_op, rate, reachable, require, round_trips, tell

NAME = "ipyparallel"
TASKS = 5_000


def main() -> None:
    require(NAME, "ipyparallel")
    reachable()
    import ipyparallel

    with ipyparallel.Cluster(n=WORKERS, log_level=50) as client:
        view = client.load_balanced_view()
        view.map_sync(no_op, range(10))
        mapped = rate(lambda count: view.map_sync(no_op, range(count), chunksize=100) and None, TASKS)
        single = rate(
            lambda count: [each.get() for each in [view.apply_async(no_op, n) for n in range(count)]] and None, 1_000
        )
        trips = round_trips(lambda number: view.apply_sync(no_op, number), 200)
    note = (
        "keeps nothing on disk by default. A chunk of 100 is one task to it; submitted one by one "
        f"{single:,.0f} tasks/s"
    )
    tell(NAME, "ipyparallel", mapped, trips, note)


if __name__ == "__main__":
    main()
