"""What this machine offers: cores, memory, GPUs, and what to call it."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from headway_bus.config import Runtime
from headway_bus.records import RuntimeInfo

GPU_QUERY_SECONDS = 10.0


def cores() -> float:
    """Cores that this process may use: what it may run on, and what its control group allows."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _group_quota()
    return min(count, quota) if quota else count


def _group_quota() -> float:
    with suppress(OSError, ValueError):
        allowed, every = _group_file("cpu.max").split()
        return max(0.01, int(allowed) / int(every))
    with suppress(OSError, ValueError):
        quota = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        return max(0.01, quota / period) if quota > 0 else 0.0
    return 0.0


def memory() -> int:
    """Bytes of memory that this process may use."""
    total: int = psutil.virtual_memory().total
    with suppress(OSError, ValueError):
        return min(total, int(_group_file("memory.max")))
    with suppress(OSError, ValueError):
        return min(total, int(Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").read_text()))
    return total


def _group_file(name: str) -> str:
    """A file of our control group (version 2)."""
    path = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
    return Path(f"/sys/fs/cgroup{path.rstrip('/')}/{name}").read_text()


def gpus() -> list[str]:
    """The indices of the GPUs that NVIDIA's tool lists; none where there is no such tool."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=GPU_QUERY_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip().isdecimal()]


def machine_name() -> str:
    """A name for the first runtime of this machine."""
    return re.sub(r"[^a-zA-Z0-9_.-]", "-", socket.gethostname().partition(".")[0]) or "runtime"


def describe(settings: Runtime, name: str, version: str) -> RuntimeInfo:
    """What the runtime offers: what the settings say, otherwise what there is."""
    own_models = [f"model:{model}" for model in settings.models]
    # A list that names models alone would say that nothing else is run here.
    kinds = ["call", "command", "script"] if own_models and not settings.serves else []
    slots = settings.slots or float(max(1, round(cores())))
    return RuntimeInfo(
        name=name,
        slots=slots,
        cpu=settings.cpu or cores(),
        memory=settings.memory or memory(),
        gpus=settings.gpus or gpus(),
        custom=dict(settings.custom),
        labels=dict(settings.labels),
        serves=[*settings.serves, *kinds, *(model for model in own_models if model not in settings.serves)],
        host=socket.gethostname(),
        pid=os.getpid(),
        python=platform.python_version(),
        version=version,
        speed=settings.speed,
        by_value=settings.by_value,
    )
