"""What a running task knows and says of itself. Outside a task the same calls do nothing harmful."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headway_bus.deployed import path_of
from headway_bus.task_context import current as context
from headway_bus.task_context import log, metric, progress, tell

__all__ = ["context", "deployed", "log", "metric", "params", "progress", "tell"]


def deployed(name: str) -> Path:
    """Where a file lies that was brought to this machine with ``headway deploy``. Raises ValueError for no such name."""
    return path_of(name)


def params() -> Mapping[str, Any]:
    """The parameters of the command, script or batch job that this process is; empty outside one."""
    return context().params
