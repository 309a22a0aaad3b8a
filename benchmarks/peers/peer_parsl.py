"""Parsl: the high-throughput executor with two workers on this machine."""

from __future__ import annotations

import os
import tempfile

from common import WORKERS, no_op, rate, reachable, require, round_trips, tell

NAME = "Parsl"
TASKS = 3_000


def main() -> None:
    require(NAME, "parsl")
    reachable()
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    with tempfile.TemporaryDirectory() as folder:
        provider = LocalProvider(
            init_blocks=1, max_blocks=1, worker_init=f"export PYTHONPATH={os.environ['PYTHONPATH']}"
        )
        executor = HighThroughputExecutor(
            label="two",
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            max_workers_per_node=WORKERS,
            provider=provider,
        )
        config = Config(executors=[executor], run_dir=folder, strategy="none", usage_tracking=0)
        with parsl.load(config):
            app = parsl.python_app(no_op)
            mapped = rate(lambda count: [each.result() for each in [app(n) for n in range(count)]] and None, TASKS)
            trips = round_trips(lambda number: app(number).result())
    note = (
        "keeps nothing on disk by default, and has no map: submitted one by one. Unfair to it: built for "
        "long tasks on thousands of nodes"
    )
    tell(NAME, "parsl", mapped, trips, note)


if __name__ == "__main__":
    main()
