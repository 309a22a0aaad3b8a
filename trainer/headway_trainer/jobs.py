"""Training jobs of this process by their ids: commit or push one, ask how it is, take its result, cancel it.

The calls of the older document, ``commit_job_func``, ``get_result_func``, ``push``, ``get_status``,
``get_status_or_result`` and ``cancel``, on one :class:`Book` of this process. A service has a book of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from headway_bus.errors import TaskCancelled
from headway_trainer.document import AsyncResult, Configs, Work, filled_in, prepared
from headway_trainer.errors import TrainerError
from headway_trainer.running.training import all_or_none, train_series

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED = "pending", "running", "succeeded", "failed", "cancelled"
STATUSES = (PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED)
PARTS = ("data", "job", "series", "model")


@dataclass
class _Entry:
    """One job. ``work`` runs on ``loop``, both in the job's own thread, once it has begun."""

    given: Configs
    future: Future[Configs] = field(default_factory=Future)
    is_cancelled: bool = False
    is_running: bool = False
    loop: asyncio.AbstractEventLoop | None = None
    work: asyncio.Task[Any] | None = None

    @property
    def status(self) -> str:
        if not self.future.done():
            return RUNNING if self.is_running else PENDING
        if self.is_cancelled and self.future.exception() is not None:
            return CANCELLED
        return SUCCEEDED if self.future.exception() is None else FAILED


class Book:
    """Jobs by id; ``1`` and ``"1"`` are the same id. ``url``: the bus on which they are trained, None: the default one."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def commit(
        self,
        data_config: Mapping[str, Any],
        job_config: Mapping[str, Any],
        series_config: Mapping[str, Any],
        model_config: Mapping[str, Any],
        url: str | None = None,
    ) -> AsyncResult:
        """Train the models of ``model_config``, each on its series, and return at once.

        What is wrong with the dicts or the file is raised here, before anything runs. A job id that is taken is refused
        while its job is under way.
        """
        number = job_config.get("job_id", job_config.get("id"))
        if isinstance(number, bool) or not isinstance(number, (int, str)) or number == "":
            raise TrainerError(f"job_config.job_id: {number!r}; expected a number or a text")
        entry = _Entry(copy.deepcopy(dict(model_config)))
        work = prepared(data_config, job_config, series_config, entry.given)
        with self._lock:
            before = self._entries.get(str(number))
            if before is not None and not before.future.done():
                raise TrainerError(f"job {number} is under way already; give another job_id")
            self._entries[str(number)] = entry
        arguments = (entry, work, url or self.url)
        threading.Thread(target=_run, args=arguments, name=f"train-{number}", daemon=True).start()
        return AsyncResult(entry.future)

    def push(self, job: Mapping[str, Any]) -> str:
        """Commit a job that is one dict, ``{"data": …, "job": …, "series": …, "model": …}`` with what ``commit`` takes.

        The keys may end in ``_config``. Returns the job's id as text.
        """
        parts = {name: job.get(name, job.get(f"{name}_config")) for name in PARTS}
        parts["series"] = parts["series"] or {}
        for name, part in parts.items():
            if not isinstance(part, Mapping):
                raise TrainerError(
                    f"push: {name} is {part!r}; expected a dict with {', '.join(PARTS)}, each of them a dict"
                )
        self.commit(parts["data"], parts["job"], parts["series"], parts["model"])
        return str(parts["job"].get("job_id", parts["job"].get("id")))

    def status(self, job_id: int | str) -> str:
        """One of pending, running, succeeded, failed, cancelled. Raises TrainerError for an unknown id."""
        return self._entry(job_id).status

    def result(self, job_id: int | str) -> Configs:
        """The job's ``model_config``: filled in when it is done, as it was committed before. Raises what went wrong."""
        entry = self._entry(job_id)
        return copy.deepcopy(entry.future.result() if entry.future.done() else entry.given)

    def status_or_result(self, job_id: int | str) -> str | Configs:
        """The status as text; of a job that has succeeded its result, which is a dict and so never taken for a status."""
        entry = self._entry(job_id)
        return copy.deepcopy(entry.future.result()) if entry.status == SUCCEEDED else entry.status

    def cancel(self, job_id: int | str) -> None:
        """Cancel a job and its tasks on the bus. One that has ended stays as it is."""
        entry = self._entry(job_id)
        with self._lock:
            entry.is_cancelled = entry.is_cancelled or not entry.future.done()
            loop, work = entry.loop, entry.work
        if loop is not None and work is not None and not entry.future.done():
            with contextlib.suppress(RuntimeError):  # its loop has just been closed: it has ended
                loop.call_soon_threadsafe(work.cancel)

    def _entry(self, job_id: int | str) -> _Entry:
        with self._lock:
            found = self._entries.get(str(job_id))
        if found is None:
            raise TrainerError(f"job {job_id!r} was not committed by this program")
        return found


def _run(entry: _Entry, work: Work, url: str | None) -> None:
    try:
        rows = asyncio.run(_trained(entry, work, url))
        found = {key: filled_in(entry.given[key], row) for (key, _, _), row in zip(work, rows, strict=True)}
    except asyncio.CancelledError:
        entry.future.set_exception(TaskCancelled("the job was cancelled"))
    except BaseException as error:
        entry.future.set_exception(error)
    else:
        entry.future.set_result(found)


async def _trained(entry: _Entry, work: Work, url: str | None) -> list[dict[str, Any]]:
    import headway

    entry.loop, entry.work = asyncio.get_running_loop(), asyncio.current_task()
    if entry.is_cancelled:  # before it had begun
        raise asyncio.CancelledError
    async with headway.connect(url) as bus:
        entry.is_running = True
        return await all_or_none([train_series(bus, job, series) for _, series, job in work])


_book = Book()


def commit_job_func(
    data_config: Mapping[str, Any],
    job_config: Mapping[str, Any],
    series_config: Mapping[str, Any],
    model_config: Mapping[str, Any],
    *,
    url: str | None = None,
) -> AsyncResult:
    """:meth:`Book.commit` on the bus at ``url``."""
    return _book.commit(data_config, job_config, series_config, model_config, url)


get_result_func = _book.result
push = _book.push
get_status = _book.status
get_status_or_result = _book.status_or_result
cancel = _book.cancel
