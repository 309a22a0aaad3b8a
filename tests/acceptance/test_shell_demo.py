"""``headway demo``: the published figures, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from acceptance_shell import PATIENCE, Shell


def left_behind(shell: Shell) -> tuple[list[str], list[str], list[str]]:
    """Processes, temporary files, and anything new at home."""
    commands = [" ".join(process.cmdline()) for process in shell.processes()]
    home = sorted(path.name for path in shell.home.iterdir() if path.name not in ("work.py", "tmp"))
    return commands, shell.files(), home


def test_the_figures_agree_and_nothing_is_left(shell: Shell) -> None:
    result = shell.ok("demo", "--json").json
    assert result["agrees"]
    assert (result["series"], result["tasks"]) == (359, 1077)
    for row in result["methods"]:
        assert abs(row["smape"] - row["published_smape"]) <= 0.003, row
        assert abs(row["mase"] - row["published_mase"]) <= 0.003, row
    waits = result["waits"]
    assert waits["predicted"] + waits["unknown"] == 1077
    assert waits["predicted"] > 900
    assert 0 <= waits["p50"] <= waits["p90"] <= 1
    assert left_behind(shell) == ([], [], [])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_in_the_middle_it_leaves_nothing_either(shell: Shell, number: signal.Signals, status: int) -> None:
    # A session of its own, so that the signal reaches the whole group, as a terminal's Ctrl-C does.
    demo = shell.start("demo", start_new_session=True)
    assert demo.stdout is not None
    assert "359 weekly series" in demo.stdout.readline()
    os.killpg(demo.pid, number)
    try:
        _, errors = demo.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(demo.pid, signal.SIGKILL)
        raise
    assert demo.returncode == status, errors
    assert "Traceback" not in errors
    assert left_behind(shell) == ([], [], [])
