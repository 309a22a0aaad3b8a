"""``sys.stdout`` and ``sys.stderr`` inside a child: lines become log records of the attempt, without a system call each."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

from headway_runtime.output import Lines

Emit = Callable[[str, str], None]


class Capture(io.TextIOBase):
    """A text stream whose lines are emitted. ``fileno()`` is the real descriptor, so that a subprocess can be given it."""

    def __init__(self, descriptor: int, stream: str, emit: Callable[..., None]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._stream = stream
        self._emit = emit
        self._lines = Lines()
        self._lock = threading.RLock()
        self.buffer = _CaptureBytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        with self._lock:
            for line in self._lines.feed_text(text):
                self._emit(self._stream, line)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        with self._lock:
            for line in self._lines.feed(data):
                self._emit(self._stream, line)

    def end_line(self) -> None:
        """The attempt is over: its last line is emitted even without a newline."""
        if self._lines.is_open:
            with self._lock:
                for line in self._lines.end():
                    self._emit(self._stream, line)

    def renew_lock(self) -> None:
        """After a fork: another thread may have held it, and that thread does not exist here."""
        self._lock = threading.RLock()

    def reconfigure(self, **_: Any) -> None:
        """Programs set the encoding or the buffering of the real stream; here there is nothing to set."""


class _CaptureBytes(io.BufferedIOBase):
    """The same stream for those who write bytes to ``sys.stdout.buffer``."""

    def __init__(self, text: Capture) -> None:
        super().__init__()
        self._text = text

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._text.write_bytes(content)
        return len(content)
