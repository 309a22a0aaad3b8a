"""The task of the Celery script, as its worker imports it."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.worker_prefetch_multiplier = 64


@app.task
def no_op(value: int) -> int:
    """The task."""
    return value
