"""The public face: its names, and what importing it costs in modules."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys

import headway

NAMES = [
    "Batch", "BundleError", "Bus", "BusError", "Callback", "CannotDecode", "CannotEncode", "Client", "ClientTask",
    "ConfigError", "ConsoleCallback", "EdgeOutcome", "ErrorInfo", "Estimate", "Executor", "HeadwayError", "JobInfo",
    "JsonLinesCallback", "LogRecord", "NoBus", "Outcome", "PayloadError", "Prediction", "ProtocolError", "PullFailed",
    "QueueState", "Refused", "Requirements", "RuntimeState", "Status", "StoreError", "Task", "TaskCancelled",
    "TaskError", "TaskExpired", "TaskFailed", "TaskInfo", "TaskLost", "TooLarge", "Union", "UnionResult",
    "as_completed", "connect", "context", "deployed", "gather", "local", "log", "metric", "on_message", "params",
    "progress", "run_batch", "tell", "wait",
]  # fmt: skip


def test_all_is_what_was_promised_and_every_name_is_there() -> None:
    assert headway.__all__ == NAMES
    assert set(NAMES) <= set(dir(headway))
    for name in NAMES:
        assert getattr(headway, name) is not None


def test_no_public_name_is_a_modules_too() -> None:
    """Importing the module would put it in the name's place: ``headway.context`` would be no function any more."""
    modules = {module.name for module in pkgutil.iter_modules(headway.__path__)}
    assert modules & set(NAMES) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(headway, "nothing_of_the_kind")


def test_importing_it_loads_neither_sockets_nor_a_loop() -> None:
    code = "import sys, headway; print(*[name for name in ('asyncio', 'zmq', 'msgspec', 'structlog') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_in_task_functions_load_no_sockets() -> None:
    code = "import sys, headway; headway.log('x'); print(*[n for n in ('asyncio', 'zmq', 'structlog') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_blocking_client_has_the_verbs_of_the_bus_with_the_same_parameters() -> None:
    verbs = [name for name, _ in inspect.getmembers(headway.Bus, inspect.isfunction) if not name.startswith("_")]
    assert len(verbs) > 20
    for verb in verbs:
        of_bus = set(inspect.signature(getattr(headway.Bus, verb)).parameters)
        of_client = set(inspect.signature(getattr(headway.Client, verb)).parameters)
        assert of_bus <= of_client, verb


def test_a_task_of_either_kind_has_the_same_verbs() -> None:
    for verb in ("id", "status", "outcome", "info", "logs", "cancel", "estimate", "explain", "result", "exception"):
        assert hasattr(headway.Task, verb)
        assert hasattr(headway.ClientTask, verb)
