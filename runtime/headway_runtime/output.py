"""Bytes of output to lines, with limits. Pure.

Lines are cut at newlines; a carriage return alone does not end one, so a progress bar arrives as one line when it is
done. Text is UTF-8; what is not becomes U+FFFD, and a character that two reads tore apart is put together again.
"""

from __future__ import annotations

import codecs

STOPPED = "[stop]"
"""What stands in the log of an attempt, as a record of the system's, where it was told to end."""

LINE_BYTES = 64 * 1024
"""A line longer than this is handed over in pieces of that length."""


class Lines:
    """Cuts one stream into lines."""

    def __init__(self, line_bytes: int = LINE_BYTES) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line_length = line_bytes
        self._rest = ""
        self.is_open = False
        """Whether anything was fed since the last ``end``, which is for nothing otherwise."""

    def feed(self, data: bytes) -> list[str]:
        """The lines that this completes, without their newlines."""
        self.is_open = True
        return self.feed_text(self._decoder.decode(data))

    def feed_text(self, text: str) -> list[str]:
        """The same for text."""
        self.is_open = True
        if "\n" not in text and len(self._rest) + len(text) <= self._line_length:
            self._rest += text
            return []
        parts = (self._rest + text).split("\n")
        self._rest = parts.pop()
        lines: list[str] = []
        for part in parts:
            self._cut(part[:-1] if part.endswith("\r") else part, lines)
        while len(self._rest) > self._line_length:
            lines.append(self._rest[: self._line_length])
            self._rest = self._rest[self._line_length :]
        return lines

    def _cut(self, line: str, lines: list[str]) -> None:
        while len(line) > self._line_length:
            lines.append(line[: self._line_length])
            line = line[self._line_length :]
        lines.append(line)

    def end(self) -> list[str]:
        """The last line, if it had no newline. Afterwards the stream begins anew."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        self.is_open = False
        self._decoder.reset()
        return [rest] if rest else []


class Allowance:
    """How much output an attempt may still leave; what is beyond it is counted."""

    __slots__ = ("dropped", "left")

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.dropped = 0

    def takes(self, text: str) -> bool:
        """Whether this line is kept."""
        size = len(text) + 1
        if size > self.left:
            self.left = 0
            self.dropped += 1
            return False
        self.left -= size
        return True
