"""What has to be on a machine before a job can run there, as tar files: headway's own code, packages that are missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import platform
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

from headway.batch.remote.errors import MachineRefused

OWN = ("headway", "headway_bus", "headway_runtime")
"""Packages that go there in any case, so that both sides are of one version; the first for ``headway.hyperctl``."""

NEEDED = {
    "zmq": "pyzmq",
    "msgpack": "msgpack",
    "msgspec": "msgspec",
    "structlog": "structlog",
    "click": "click",
    "psutil": "psutil",
}
"""What a runtime imports beside the standard library, and what to install for it."""

OLDEST_PYTHON = (3, 11)


def own_code() -> bytes:
    """headway's own packages as a tar file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as tar:
        for name in OWN:
            spec = importlib.util.find_spec(name)
            if spec is None or not spec.submodule_search_locations:
                raise MachineRefused(
                    f"{name} is not installed beside this client; expected a whole headway: pip install headway"
                )
            tar.add(next(iter(spec.submodule_search_locations)), name, filter=_source_only)
    return data.getvalue()


def _source_only(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith("__pycache__") else entry


def missing_packages(hello: dict[str, Any]) -> bytes:
    """The packages that ``hello`` misses, from this machine; empty if none. Raises MachineRefused where they would not fit."""
    version = tuple(hello["python"])
    if version[:2] < OLDEST_PYTHON:
        found = ".".join(map(str, version))
        raise MachineRefused(
            f'its Python is {found}, expected 3.11 or newer; name another one: "python" of the machine'
        )
    missing = [NEEDED[name] for name in hello["missing"]]
    if not missing:
        return b""
    if not fits_here(hello):
        raise MachineRefused(
            f"its Python lacks {', '.join(missing)}, and is too different from this one to be lent them: run there\n"
            f'    python3 -m pip install {" ".join(missing)}\nor name a Python that has them: "python" of the machine'
        )
    return packed(missing)


def fits_here(hello: dict[str, Any]) -> bool:
    """Whether compiled packages of this Python work in that one: the same version of it on the same kind of system."""
    here = [platform.system(), platform.machine(), *platform.libc_ver()]
    same_abi = hello["abi"] == str(sysconfig.get_config_var("SOABI"))
    return same_abi and list(hello["python"][:2]) == list(sys.version_info[:2]) and hello["system"] == here


def packed(distributions: list[str]) -> bytes:
    """Installed packages as a tar file, by what their records say belongs to them."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as tar:
        for name in distributions:
            for file in importlib.metadata.files(name) or ():
                path = Path(str(file.locate()))
                if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                    tar.add(path, str(file), recursive=False)
    return data.getvalue()
