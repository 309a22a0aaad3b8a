"""structlog, set up the same way everywhere: colour on a terminal, JSON lines otherwise.

Every logger of headway stands on a logger of the standard library, under ``headway``. So an application that embeds the
client decides what becomes of its lines, as with any library, and structlog's global settings, which may be the
application's own, are never touched. A service calls :func:`configure` once, at its start; that catches what other
libraries log as well, and Python's warnings.

An event is a short phrase of small letters ("connection lost"); what varies goes into the fields.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

ROOT = "headway"
LEVELS = ("debug", "info", "warning", "error", "critical")
LEVEL_VARIABLE = "HEADWAY_LOGS_LEVEL"

_BELOW_WARNING = ("asyncio", "concurrent", "urllib3", "matplotlib", "numba")
"""Libraries whose "debug" and "info" speak of their own insides."""

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


class Logger(structlog.BoundLoggerBase):
    """A bound logger that looks at the level before it does anything else: a line below it costs a tenth of a µs."""

    _logger: logging.Logger

    def bind(self, **fields: Any) -> Logger:
        """A logger that adds these fields to every line."""
        return self.__class__(self._logger, self._processors, {**self._context, **fields})

    def is_enabled_for(self, level: int) -> bool:
        """Whether a line of that level (``logging.DEBUG`` …) would be written: for lines that are costly to make."""
        return self._logger.isEnabledFor(level)

    def debug(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.WARNING):
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.ERROR):
            self._proxy_to_logger("error", event, **fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error, with the traceback of the exception being handled."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._proxy_to_logger("error", event, exc_info=sys.exc_info(), **fields)

    def critical(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.CRITICAL):
            self._proxy_to_logger("critical", event, **fields)


class _Handler(logging.StreamHandler[TextIO]):
    """Headway's own, so that a second :func:`configure` replaces it and nobody else's."""


def get_logger(name: str) -> Logger:
    """The logger of that name, below ``headway`` whatever the name: ``get_logger("broker")`` is ``headway.broker``."""
    full = name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}"
    return Logger(logging.getLogger(full), _OURS, {})


def configure(level: str | None = None, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Write this process's log lines to ``stream`` (standard error if not given). May be called again.

    ``level``: one of :data:`LEVELS`; if not given, ``$HEADWAY_LOGS_LEVEL``, else "info". ``json``: None means lines for
    people on a terminal and JSON otherwise. Raises ValueError for an unknown level.
    """
    chosen = (level or os.environ.get(LEVEL_VARIABLE) or "info").lower()
    if chosen not in LEVELS:
        raise ValueError(f"{chosen!r} is not a level of logging: expected one of {', '.join(LEVELS)}")
    stream = stream or sys.stderr
    handler = _Handler(stream)
    handler.setFormatter(_formatter(not stream.isatty() if json is None else json, stream.isatty()))
    root = logging.getLogger()
    for earlier in [earlier for earlier in root.handlers if isinstance(earlier, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(chosen.upper())
    for library in _BELOW_WARNING:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def _formatter(json: bool, colour: bool) -> logging.Formatter:
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
