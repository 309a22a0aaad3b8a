"""Many rows in one step of SQLite.

``executemany`` lets go of the interpreter lock once per row. Beside a busy event loop each of these costs up to a whole
switch interval until the lock comes back: measured, a writer that does 280,000 rows/s alone falls to 500 rows/s. A
statement that carries hundreds of rows in a VALUES table lets go of it twice in all, and is faster alone as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

MAX_ROWS = 1024
"""Rows of one statement: half as many cost a third beside a busy loop. SQLite takes 32,766 values in one statement."""


class Bulk:
    """A statement around a table of values.

    ``sql`` has ``{values}`` where the table goes; its columns are called ``column1``, ``column2``, … The table may be
    filled up with rows of NULL, so that a few sizes of the statement, which stay prepared, serve every number of rows:
    the statement must pass over a row whose first column is NULL.
    """

    def __init__(self, sql: str, width: int) -> None:
        self._sql = sql
        self._row = "(" + ",".join("?" * width) + ")"
        self._filler = (None,) * width
        self._texts: dict[int, str] = {}

    def run(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run the statement over all rows; the number of rows it changed."""
        changed = 0
        for start in range(0, len(rows), MAX_ROWS):
            part = rows[start : start + MAX_ROWS]
            size = 1 << (len(part) - 1).bit_length()
            values = list(chain.from_iterable(part))
            values.extend(self._filler * (size - len(part)))
            changed += connection.execute(self._text(size), values).rowcount
        return changed

    def _text(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            text = self._texts[size] = self._sql.format(values="(VALUES " + ",".join([self._row] * size) + ")")
        return text
