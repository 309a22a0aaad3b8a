"""A part of the bus as a program of its own: its settings, its log lines, its run, and its exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any

from headway_bus import logs, loops
from headway_bus.config import Settings
from headway_bus.errors import BusError, ConfigError

FAILED, MISUSED = 1, 2


def run_part(name: str, load: Callable[[], Settings], serve: Callable[[Settings], Coroutine[Any, Any, str]]) -> None:
    """Run ``headway name`` until it is told to stop.

    ``serve`` returns what went wrong, empty if it left in good order. Exits with 2 if the settings are wrong, with 1 if it
    cannot begin or was refused; what was wrong is a line on standard error.
    """
    try:
        settings = load()
        configure_logs(settings)
        why = loops.run(serve(settings))
    except ConfigError as error:
        _exit(name, str(error), MISUSED)
    except BusError as error:
        _exit(name, str(error), FAILED)
    else:
        if why:
            _exit(name, why, FAILED)


def run_part_of_linux(
    name: str, plural: str, load: Callable[[], Settings], serve: Callable[[Settings], Coroutine[Any, Any, str]]
) -> None:
    """As :func:`run_part`, for what starts and ends processes of its own."""
    if sys.platform != "linux":
        _exit(name, f"{plural} work on Linux only; clients and hubs work here", FAILED)
    run_part(name, load, serve)


def configure_logs(settings: Settings) -> None:
    """Write this process's log lines as the settings say."""
    logs.configure(settings.logs.level, {"text": False, "json": True}.get(settings.logs.format))


def _exit(name: str, why: str, status: int) -> None:
    print(f"headway {name}: {why}", file=sys.stderr)
    sys.exit(status)
