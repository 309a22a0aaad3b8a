"""What a program may hear of a run, and two that are shipped: lines for people, and lines of JSON.

The order is ``on_start``, for each job ``on_job_start`` and one of ``on_job_succeed``, ``on_job_failed``,
``on_job_break``, and ``on_finish``. What a callback raises is logged and never hurts the batch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

from headway.batch.config import Job, Loaded
from headway_bus.logs import get_logger

log = get_logger("headway.batch")


@dataclass(frozen=True)
class Execution:
    """Where a job runs. ``folder``: its own; ``task``: its task on the bus."""

    runtime: str
    folder: Path
    task: str
    status: str = ""
    reason: str = ""
    exit_code: int | None = None


class Callback:
    """Derive from it and override what is of interest. ``elapsed``: seconds."""

    def on_start(self, batch: Loaded) -> None:
        """The run begins."""

    def on_job_start(self, batch: Loaded, job: Job, executor: Execution) -> None:
        """A job runs."""

    def on_job_succeed(self, batch: Loaded, job: Job, executor: Execution, elapsed: float) -> None:
        """It ended with exit status 0."""

    def on_job_failed(self, batch: Loaded, job: Job, executor: Execution, elapsed: float) -> None:
        """It ended otherwise; ``executor.status`` tells failed, killed and interrupted apart."""

    def on_job_break(self, batch: Loaded, job: Job, exception: Exception) -> None:
        """It could not be started."""

    def on_finish(self, batch: Loaded, elapsed: float) -> None:
        """The run is over."""


class ConsoleCallback(Callback):
    """A line for each start and end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def _say(self, text: str) -> None:
        print(text, file=self._stream or sys.stdout, flush=True)

    def on_start(self, batch: Loaded) -> None:
        self._say(f"batch {batch.name}: {len(batch.jobs)} jobs")

    def on_job_start(self, batch: Loaded, job: Job, executor: Execution) -> None:
        self._say(f"{job.name}: started on {executor.runtime}")

    def on_job_succeed(self, batch: Loaded, job: Job, executor: Execution, elapsed: float) -> None:
        self._say(f"{job.name}: succeed after {elapsed:.3g} s")

    def on_job_failed(self, batch: Loaded, job: Job, executor: Execution, elapsed: float) -> None:
        self._say(f"{job.name}: {executor.status} after {elapsed:.3g} s: {executor.reason or 'no reason was given'}")

    def on_job_break(self, batch: Loaded, job: Job, exception: Exception) -> None:
        self._say(f"{job.name}: could not be started: {exception}")

    def on_finish(self, batch: Loaded, elapsed: float) -> None:
        self._say(f"batch {batch.name}: over after {elapsed:.3g} s")


class JsonLinesCallback(Callback):
    """An object a line: ``{"event": "on_job_succeed", "at": …, "batch": …, "job": …, "elapsed": …}``.

    ``output``: a stream, or the path of a file that they are added to; None: standard output. Raises OSError for a file that
    cannot be written.
    """

    def __init__(self, output: TextIO | str | PathLike[str] | None = None) -> None:
        self._path = Path(output) if isinstance(output, str | PathLike) else None
        self._stream = None if isinstance(output, str | PathLike) else output
        if self._path is not None:
            self._path.open("a").close()  # what is wrong with it is better known before the batch

    def _say(self, event: str, batch: Loaded, **fields: Any) -> None:
        data = {"event": event, "at": time.time(), "batch": batch.name, **fields}
        line = json.dumps(data, ensure_ascii=False, default=str)
        if self._path is None:
            print(line, file=self._stream or sys.stdout, flush=True)
        else:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    def on_start(self, batch: Loaded) -> None:
        self._say("on_start", batch, jobs=len(batch.jobs))

    def on_job_start(self, batch: Loaded, job: Job, executor: Execution) -> None:
        self._say("on_job_start", batch, job=job.name, **asdict(executor))

    def on_job_succeed(self, batch: Loaded, job: Job, executor: Execution, elapsed: float) -> None:
        self._say("on_job_succeed", batch, job=job.name, elapsed=elapsed, **asdict(executor))

    def on_job_failed(self, batch: Loaded, job: Job, executor: Execution, elapsed: float) -> None:
        self._say("on_job_failed", batch, job=job.name, elapsed=elapsed, **asdict(executor))

    def on_job_break(self, batch: Loaded, job: Job, exception: Exception) -> None:
        self._say("on_job_break", batch, job=job.name, exception=str(exception))

    def on_finish(self, batch: Loaded, elapsed: float) -> None:
        self._say("on_finish", batch, elapsed=elapsed)


class Callbacks:
    """All callbacks of a run as one. What one of them raises is logged, and the others are called all the same."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def tell(self, event: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, event)(*arguments)
            except Exception:
                log.exception("a callback of the batch raised", event_name=event, callback=type(callback).__name__)
