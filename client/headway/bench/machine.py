"""What was measured on: a figure without its machine says nothing."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("headway", "pyzmq", "msgspec", "uvloop")


def describe() -> dict[str, Any]:
    """Processor, cores, load, system, Python, versions and the time."""
    import psutil

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "load_before": round(load, 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "at": time.strftime("%Y-%m-%d %H:%M %Z"),
    }


def in_words(found: dict[str, Any]) -> str:
    """The same in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    memory = found["memory_bytes"] / 2**30
    return (
        f"{found['processor']}, {found['cores']} cores, {memory:.0f} GiB, {found['system']}, Python {found['python']}, "
        f"{versions}; load {found['load_before']} before; {found['at']}"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
