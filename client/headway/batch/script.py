"""A job's ``run.sh``: its environment, its folder, its command, and where its output goes.

The command stands in the script as it was written, so that ``a; b``, pipes and several lines are all of one output. The
output goes straight to the files: what no program has to pass on cannot be lost with it, and cannot block.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import PurePath

from headway.batch.config import Job

NOT_ENTERED = 1
"""Exit status where the working folder is not there any more."""


def params_bytes(job: Job) -> bytes:
    """The parameters as they lie in ``params.json``."""
    return json.dumps(job.params, indent=2, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def run_script(
    job: Job,
    batch: str,
    folder: PurePath,
    working: str,
    environments: Mapping[str, str],
    portal: tuple[str, str] = ("", ""),
    mark: str | None = None,
) -> str:
    """The text of ``run.sh``.

    ``folder``: the job's. ``working``: where the command runs, as a word of the shell, quoted. ``portal``: where the batch
    answers over HTTP, and the token for it. ``mark``: the file that says that the job runs, if the job is to make it.
    """
    variables = {
        **environments,
        "HYPERCTL_JOB_NAME": str(job.name),
        "HYPERCTL_BATCH_NAME": batch,
        "HYPERCTL_JOB_DATA_DIR": f"{folder}",
        "HEADWAY_PARAMS_FILE": f"{folder}/params.json",
    }
    for name, value in zip(("HYPERCTL_SERVER_PORTAL", "HYPERCTL_SERVER_TOKEN"), portal, strict=True):
        if value:
            variables[name] = value
    lines = [
        "#!/bin/sh",
        'export TMP="${TMPDIR:-/tmp}"',
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        f"export HYPERCTL_JOB_WORKING_DIR={working}",
        *([f": >{shlex.quote(mark)}"] if mark is not None else []),
        f"exec >{shlex.quote(f'{folder}/stdout')} 2>{shlex.quote(f'{folder}/stderr')}",
        f"cd -- {working} || exit {NOT_ENTERED}",
        str(job.command),
    ]
    return "\n".join(lines) + "\n"
