"""Ray on this machine, with two CPUs."""

from __future__ import annotations

from common import WORKERS, no_op, rate, require, round_trips, tell

NAME = "Ray"
TASKS = 5_000


def main() -> None:
    require(NAME, "ray")
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=50)
    try:
        task = ray.remote(no_op)
        mapped = rate(lambda count: ray.get([task.remote(n) for n in range(count)]) and None, TASKS)
        trips = round_trips(lambda number: ray.get(task.remote(number)))
    finally:
        ray.shutdown()
    note = (
        "keeps nothing on disk: tasks are lost with the driver. Workers are leased to the driver, which then "
        "speaks to them without a scheduler between"
    )
    tell(NAME, "ray", mapped, trips, note)


if __name__ == "__main__":
    main()
