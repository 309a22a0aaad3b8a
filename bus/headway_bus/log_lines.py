"""How a log line is made and drawn, by structlog. Imported with the first line that is written: structlog brings rich along,
which costs every process that has nothing to say 40 ms."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import Processor

_EVERY_LINE: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_OURS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    *_EVERY_LINE,
    structlog.processors.StackInfoRenderer(),
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]


class _Line(structlog.BoundLoggerBase):
    """One line on its way to a logger of the standard library."""

    def write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self._proxy_to_logger(level, event, **fields)


def write(logger: logging.Logger, level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Give an event with its fields to this logger."""
    _Line(logger, _OURS, {}).write(level, event, fields)


def formatter(json: bool, colour: bool) -> logging.Formatter:
    """What draws lines: those of :func:`write`, and those that other libraries log."""
    # Plain tracebacks: rich's boxes would fill a screen with local variables, which may hold secrets.
    plain = structlog.dev.plain_traceback
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    rendering: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        else [structlog.dev.ConsoleRenderer(colors=colour, pad_event_to=30, exception_formatter=plain)]
    )
    return structlog.stdlib.ProcessorFormatter(
        processors=[remove_meta, *rendering],
        foreign_pre_chain=[*_EVERY_LINE, structlog.stdlib.ExtraAdder()],
    )
