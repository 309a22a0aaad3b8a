"""What the tasks of the edge tests do."""

from __future__ import annotations

import os
import random
import time

from fault_tasks import append

import headway


def sized(path: str, number: int, size: int) -> tuple[int, bytes]:
    """Leave a line, say something, work a little, and return so many bytes that cannot be compressed."""
    append(path, f"{number} {headway.context().attempt} {os.environ['FAULT_RUNTIME']}")
    print(f"task {number} makes {size} bytes")
    time.sleep(0.02)
    return number, random.Random(number).randbytes(size)
