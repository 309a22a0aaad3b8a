"""What the tests let a real runtime do."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import headway


def read_attached() -> tuple[dict[str, bytes], list[str]]:
    """What was attached to this call, and the paths, which say whether two calls had the same copy."""
    files = headway.context().files
    return {name: path.read_bytes() for name, path in files.items()}, [str(path) for path in files.values()]


def square(value: Any) -> Any:
    return value * value


async def asynchronous(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def fail_until(path: str, successes: int) -> int:
    """Fails until the file has so many lines; adds one each time."""
    with Path(path).open("a") as file:
        file.write("x\n")
    done = len(Path(path).read_text().splitlines())
    if done < successes:
        raise OSError(f"attempt {done}")
    return done


def wait_for(path: str) -> str:
    """Ends when the file is there."""
    while not Path(path).exists():
        time.sleep(0.01)
    return Path(path).read_text()


def talk() -> int:
    context = headway.context()
    print("printed")
    headway.log("logged", loss=0.5)
    headway.progress(1, 2)
    headway.metric("loss", 0.5, step=1)
    return context.attempt


def who() -> tuple[str, str, int]:
    context = headway.context()
    return context.id, context.job, os.getpid()


def die() -> None:
    os._exit(3)
