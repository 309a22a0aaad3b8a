"""How this process asks the system for memory, and gives it back."""

from __future__ import annotations

import ctypes
from contextlib import suppress

KEPT_BYTES = 32 * 1024 * 1024
"""Freed memory that stays with the process. A value of a megabyte is made and dropped in every process that it passes; the C
library's own way is to give it back each time, and the system hands it out again page by page, each one wiped."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed(most: int = KEPT_BYTES) -> None:
    """Let up to ``most`` bytes that are freed at the end of the heap be used again. For programs only, never for a library: it
    is a setting of the whole process. Does nothing where the C library has no such setting."""
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        library.mallopt(_TRIM_THRESHOLD, most)
