"""What a job finds around it: its environment and its descriptors, and nothing of the bus that runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from acceptance_shell import Shell
from batch_shell import job, ran, text_of, write_batch

SCRIPT = """
import headway

if __name__ == "__main__":
    with headway.local(slots=1) as bus:
        print(bus.submit(len, "abc").result(timeout=60))
"""


def test_a_job_has_a_bus_of_its_own_if_it_wants_one(shell: Shell) -> None:
    (shell.home / "script.py").write_text(SCRIPT)
    ran(shell, write_batch(shell, job("one", f"{sys.executable} {shell.home}/script.py")))
    assert text_of(shell, "one") == "3\n"


def test_a_job_finds_neither_settings_nor_descriptors_of_its_private_bus(shell: Shell) -> None:
    ran(shell, write_batch(shell, job("one", "env; echo; for each in /proc/$$/fd/*; do readlink $each; done; true")))
    environment, _, descriptors = text_of(shell, "one").partition("\n\n")
    assert re.findall("^HEADWAY_(?:RUNTIME|CONTROLLER|LOGS|TASKS)_.*", environment, re.MULTILINE) == []
    (path,) = re.findall("^PYTHONPATH=(.*)$", environment, re.MULTILINE)
    assert str(Path(re.__file__).parents[1]) not in path.split(":")  # a job may be of another Python
    pipes = [line for line in descriptors.splitlines() if line.startswith("pipe:")]
    assert len(pipes) == 1  # what it tells headway; its output goes to files
