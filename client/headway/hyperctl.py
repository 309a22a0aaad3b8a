"""What a job of a batch asks about itself, under the names that hyperctl's own module had.

::

    from headway import hyperctl

    params = hyperctl.get_job_params()

The parameters lie in a file in the job's folder, so no server has to be there. Outside a job, :func:`inject` stands in for
one, to try a script at the keyboard.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headway_bus.errors import HeadwayError

PARAMS_VARIABLE = "HEADWAY_PARAMS_FILE"
NAME_VARIABLE = "HYPERCTL_JOB_NAME"
DATA_DIR_VARIABLE = "HYPERCTL_JOB_DATA_DIR"

PORTAL_VARIABLE = "HYPERCTL_SERVER_PORTAL"
TOKEN_VARIABLE = "HYPERCTL_SERVER_TOKEN"
SECONDS = 60.0

__all__ = [
    "get_job",
    "get_job_data_dir",
    "get_job_name",
    "get_job_params",
    "inject",
    "kill_job",
    "list_jobs",
    "reset_dev_params",
]

_injected: dict[str, Any] | None = None
_injected_data_dir: str | None = None


def get_job_params() -> dict[str, Any]:
    """The job's parameters. Raises HeadwayError outside a job if none were injected."""
    if _injected is not None:
        return dict(_injected)
    file = os.environ.get(PARAMS_VARIABLE)
    if not file:
        raise HeadwayError(
            f"this is not a job of a batch (${PARAMS_VARIABLE} is not set): run it with `headway run`, or call "
            "hyperctl.inject({…}) first to try it by hand"
        )
    try:
        params = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadwayError(f"cannot read the job's parameters from {file} (${PARAMS_VARIABLE}): {error}") from error
    if not isinstance(params, dict):
        raise HeadwayError(f"the job's parameters in {file} (${PARAMS_VARIABLE}) are not a JSON object")
    return params


def get_job_name() -> str:
    """The job's name; empty outside a job."""
    return os.environ.get(NAME_VARIABLE, "")


def get_job_data_dir() -> str:
    """The job's own folder, with ``run.sh``, ``stdout``, ``stderr`` and ``resources/``. Raises HeadwayError outside a job."""
    found = _injected_data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if not found:
        raise HeadwayError(
            f"this is not a job of a batch (${DATA_DIR_VARIABLE} is not set): run it with `headway run`, or call "
            "hyperctl.inject({…}, job_data_dir=…) first to try it by hand"
        )
    return found


def inject(params: Mapping[str, Any], job_data_dir: str | os.PathLike[str] | None = None) -> None:
    """From now on these are the parameters, and this is the folder: to try a script without a batch."""
    global _injected, _injected_data_dir
    _injected = dict(params)
    _injected_data_dir = None if job_data_dir is None else os.fspath(job_data_dir)


def reset_dev_params() -> None:
    """Take back what was injected."""
    global _injected, _injected_data_dir
    _injected = _injected_data_dir = None


def get_job(name: str, portal: str | None = None) -> dict[str, Any]:
    """A job of the running batch as its server knows it. ``portal``: its address, if this is not one of its jobs."""
    return _call("GET", f"/{quote(name, safe='')}", portal)


def list_jobs(portal: str | None = None) -> list[dict[str, Any]]:
    """All jobs of the running batch."""
    return list(_call("GET", "", portal)["jobs"])


def kill_job(portal: str | None, name: str) -> dict[str, Any]:
    """Kill a running job. Raises HeadwayError with the server's words if it cannot be."""
    return _call("POST", f"/{quote(name, safe='')}/kill", portal)


def _call(method: str, path: str, portal: str | None) -> dict[str, Any]:
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    base = portal or os.environ.get(PORTAL_VARIABLE)
    if not base or not base.startswith(("http://", "https://")):
        raise HeadwayError(f"no server is known: give its address, http://HOST:PORT (${PORTAL_VARIABLE} has none)")
    token = os.environ.get(TOKEN_VARIABLE, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urlopen(
            Request(f"{base}/hyperctl/api/job{path}", headers=headers, method=method), timeout=SECONDS
        ) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
            return found
    except HTTPError as error:
        with error:
            raise HeadwayError(f"{base} refused: {error.read().decode('utf-8', 'replace')}") from None
    except (URLError, OSError, ValueError, KeyError) as error:
        raise HeadwayError(f"{base} does not answer as a batch does: {error}") from None
