"""headway: give work to a message bus that says when each task will start, and loses none.

::

    async with headway.connect() as bus:
        task = await bus.submit("statistics:fmean", [1, 2, 4])
        print(await task)

``Client`` is the same without ``async``, ``Executor`` a ``concurrent.futures.Executor``, ``local`` a private bus for a
block of code. Inside a task there are ``context``, ``log``, ``progress`` and ``metric``. docs/library.md has the rest.

Everything is imported when it is first used: a program that only wants the in-task functions pays for no socket.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.batch.batch import Batch, run_batch
    from headway.batch.callbacks import Callback, ConsoleCallback, JsonLinesCallback
    from headway.bus import Bus, connect
    from headway.client import Client
    from headway.client_task import ClientTask
    from headway.executor import Executor
    from headway.in_task import context, deployed, log, metric, params, progress, tell
    from headway.private_bus import local
    from headway.task import Prediction, Task
    from headway.union import EdgeOutcome, Union, UnionResult
    from headway.waiting import as_completed, gather, wait
    from headway_bus.errors import (
        BundleError,
        BusError,
        CannotDecode,
        CannotEncode,
        ConfigError,
        HeadwayError,
        NoBus,
        PayloadError,
        ProtocolError,
        PullFailed,
        Refused,
        StoreError,
        TaskCancelled,
        TaskError,
        TaskExpired,
        TaskFailed,
        TaskLost,
        TooLarge,
    )
    from headway_bus.plugins import on_message
    from headway_bus.records import (
        ErrorInfo,
        Estimate,
        JobInfo,
        LogRecord,
        Outcome,
        QueueState,
        Requirements,
        RuntimeState,
        Status,
        TaskInfo,
    )

__version__ = "0.1.0"

_HOMES = {
    "headway_bus.errors": (
        "BundleError",
        "BusError",
        "CannotDecode",
        "CannotEncode",
        "ConfigError",
        "HeadwayError",
        "NoBus",
        "PayloadError",
        "ProtocolError",
        "PullFailed",
        "Refused",
        "StoreError",
        "TaskCancelled",
        "TaskError",
        "TaskExpired",
        "TaskFailed",
        "TaskLost",
        "TooLarge",
    ),
    "headway_bus.records": (
        "ErrorInfo",
        "Estimate",
        "JobInfo",
        "LogRecord",
        "Outcome",
        "QueueState",
        "Requirements",
        "RuntimeState",
        "Status",
        "TaskInfo",
    ),
    "headway.bus": ("Bus", "connect"),
    "headway.client": ("Client",),
    "headway.client_task": ("ClientTask",),
    "headway.in_task": ("context", "deployed", "log", "metric", "params", "progress", "tell"),
    "headway_bus.plugins": ("on_message",),
    "headway.batch.batch": ("Batch", "run_batch"),
    "headway.batch.callbacks": ("Callback", "ConsoleCallback", "JsonLinesCallback"),
    "headway.executor": ("Executor",),
    "headway.private_bus": ("local",),
    "headway.task": ("Prediction", "Task"),
    "headway.union": ("EdgeOutcome", "Union", "UnionResult"),
    "headway.waiting": ("as_completed", "gather", "wait"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "BundleError",
    "Bus",
    "BusError",
    "Callback",
    "CannotDecode",
    "CannotEncode",
    "Client",
    "ClientTask",
    "ConfigError",
    "ConsoleCallback",
    "EdgeOutcome",
    "ErrorInfo",
    "Estimate",
    "Executor",
    "HeadwayError",
    "JobInfo",
    "JsonLinesCallback",
    "LogRecord",
    "NoBus",
    "Outcome",
    "PayloadError",
    "Prediction",
    "ProtocolError",
    "PullFailed",
    "QueueState",
    "Refused",
    "Requirements",
    "RuntimeState",
    "Status",
    "StoreError",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskInfo",
    "TaskLost",
    "TooLarge",
    "Union",
    "UnionResult",
    "as_completed",
    "connect",
    "context",
    "deployed",
    "gather",
    "local",
    "log",
    "metric",
    "on_message",
    "params",
    "progress",
    "run_batch",
    "tell",
    "wait",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
