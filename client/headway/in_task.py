"""What a running task knows and says of itself. Outside a task the same calls do nothing harmful."""

from __future__ import annotations

from headway_bus.task_context import current as context
from headway_bus.task_context import log, metric, progress

__all__ = ["context", "log", "metric", "progress"]
