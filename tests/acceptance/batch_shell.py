"""Batches at a shell: files of jobs, runs of them, and what lies in their folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from acceptance_shell import PATIENCE, Done, Shell

HYPERCTL = [sys.executable, "-c", "from headway.cli.hyperctl import main; main()"]


def write_batch(shell: Shell, *jobs: dict[str, Any], name: str = "b", **fields: Any) -> Path:
    """A batch file in the shell's home, whose output goes to ``home/data``."""
    data = {"name": name, "jobs": list(jobs), "batches_data_dir": str(shell.home / "data"), **fields}
    file = shell.home / f"{name.replace('/', '_')[:50]}.json"
    file.write_text(json.dumps(data))
    return file


def job(name: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "params": {}, "command": command, **fields}


def ran(shell: Shell, file: Path, *words: str, status: int = 0) -> dict[str, Any]:
    """Run the batch; what it says of itself as JSON."""
    done = shell("run", "--config", file, "--slots", "2", "--json", *words)
    assert done.status == status, f"{done.status}\n{done.out}\n{done.err}"
    return dict(json.loads(done.out))


def begun(shell: Shell, file: Path, *words: str) -> subprocess.Popen[str]:
    """A run that goes on by itself, whose lines nobody reads."""
    return shell.start("run", "--config", file, "--plain", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def text_of(shell: Shell, name: str, stream: str = "stdout", batch: str = "b") -> str:
    return (shell.home / "data" / batch / name / stream).read_text()


def record_of(shell: Shell, name: str, batch: str = "b") -> dict[str, Any]:
    return dict(json.loads((shell.home / "data" / batch / f"{name}.json").read_text()))


def hyperctl(shell: Shell, *words: str) -> Done:
    """The command of the manual, with the batches in ``home/data``."""
    environment = {**shell.environment, "HYPERCTL_BATCHES_DATA_DIR": str(shell.home / "data")}
    done = subprocess.run(
        [*HYPERCTL, *words], env=environment, cwd=shell.home, capture_output=True, text=True, timeout=PATIENCE
    )
    return Done(done.returncode, done.stdout, done.stderr)


def sleepers(shell: Shell, words: str) -> list[psutil.Process]:
    """The shell's processes whose command line has these words."""
    found = []
    for process in shell.processes():
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
