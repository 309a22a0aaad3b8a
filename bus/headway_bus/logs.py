"""structlog, set up the same way everywhere: colour on a terminal, JSON lines otherwise.

Every logger of headway stands on a logger of the standard library, under ``headway``. So an application that embeds the
client decides what becomes of its lines, as with any library, and structlog's global settings, which may be the
application's own, are never touched. A service calls :func:`configure` once, at its start; that catches what other
libraries log as well, and Python's warnings.

structlog itself is imported with the first line that is written (``log_lines``).

An event is a short phrase of small letters ("connection lost"); what varies goes into the fields.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

ROOT = "headway"
LEVELS = ("debug", "info", "warning", "error", "critical")
LEVEL_VARIABLE = "HEADWAY_LOGS_LEVEL"

_BELOW_WARNING = ("asyncio", "concurrent", "urllib3", "matplotlib", "numba")
"""Libraries whose "debug" and "info" speak of their own insides."""


class Logger:
    """A logger that looks at the level before it does anything else: a line below it costs a tenth of a µs."""

    def __init__(self, logger: logging.Logger, context: Mapping[str, Any]) -> None:
        self._logger = logger
        self._context = context

    def bind(self, **fields: Any) -> Logger:
        """A logger that adds these fields to every line."""
        return Logger(self._logger, {**self._context, **fields})

    def is_enabled_for(self, level: int) -> bool:
        """Whether a line of that level (``logging.DEBUG`` …) would be written: for lines that are costly to make."""
        return self._logger.isEnabledFor(level)

    def debug(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.WARNING):
            self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.ERROR):
            self._write("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error, with the traceback of the exception being handled."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._write("error", event, {**fields, "exc_info": sys.exc_info()})

    def critical(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.CRITICAL):
            self._write("critical", event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        fields = {**self._context, **fields}
        try:
            from headway_bus import log_lines
        except (ImportError, OSError):  # no descriptor is left, say, which is what was to be told
            exc_info = fields.pop("exc_info", None)
            self._logger.log(getattr(logging, level.upper()), "%s %s", event, fields, exc_info=exc_info)
            return
        log_lines.write(self._logger, level, event, fields)


class _Handler(logging.StreamHandler[TextIO]):
    """Headway's own, so that a second :func:`configure` replaces it and nobody else's."""

    def __init__(self, stream: TextIO, json: bool, colour: bool) -> None:
        super().__init__(stream)
        self._drawn = json, colour

    def format(self, record: logging.LogRecord) -> str:
        if self.formatter is None:
            try:
                from headway_bus import log_lines
            except (ImportError, OSError):
                return super().format(record)
            self.setFormatter(log_lines.formatter(*self._drawn))
        return super().format(record)


def get_logger(name: str) -> Logger:
    """The logger of that name, below ``headway`` whatever the name: ``get_logger("broker")`` is ``headway.broker``."""
    full = name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}"
    return Logger(logging.getLogger(full), {})


def configure(level: str | None = None, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Write this process's log lines to ``stream`` (standard error if not given). May be called again.

    ``level``: one of :data:`LEVELS`; if not given, ``$HEADWAY_LOGS_LEVEL``, else "info". ``json``: None means lines for
    people on a terminal and JSON otherwise. Raises ValueError for an unknown level.
    """
    chosen = (level or os.environ.get(LEVEL_VARIABLE) or "info").lower()
    if chosen not in LEVELS:
        raise ValueError(f"{chosen!r} is not a level of logging: expected one of {', '.join(LEVELS)}")
    stream = stream or sys.stderr
    handler = _Handler(stream, not stream.isatty() if json is None else json, stream.isatty())
    root = logging.getLogger()
    for earlier in [earlier for earlier in root.handlers if isinstance(earlier, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(chosen.upper())
    for library in _BELOW_WARNING:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
