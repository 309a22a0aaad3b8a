"""The process of a private bus and whoever started it: what ends, and what is left, when either goes at a bad time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from headway.early_hub import EarlyHub
from headway.private_bus import START_PATIENCE, PrivateHub

PATIENCE = 60.0


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_file_in_the_current_folder_stands_in_for_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    (tmp_path / "folder").mkdir()
    hub = PrivateHub(tmp_path / "folder", 1)
    try:
        assert hub.wait_until_ready(START_PATIENCE)
    finally:
        hub.stop()


def test_one_that_is_told_what_it_is_to_be_by_a_program_that_is_gone_removes_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    program = (
        "import os, sys; from pathlib import Path; from headway.early_hub import EarlyHub;"
        "from headway.private_bus import PrivateHub;"
        "early = EarlyHub(ahead=True); print(early.pid);"
        "PrivateHub(Path(sys.argv[1]), 1, early=early); sys.stdout.flush(); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE
    )
    until(lambda: not folder.exists() and not psutil.pid_exists(int(done.stdout)))


def test_one_whose_stop_was_interrupted_leaves_no_runtime(tmp_path: Path) -> None:
    early = EarlyHub(ahead=True)
    hub = PrivateHub(tmp_path, 1, early=early)
    hub.wait_until_ready(START_PATIENCE)
    below = psutil.Process(early.pid).children(recursive=True)
    assert below
    early.discard()
    assert not hub.is_alive
    until(lambda: not any(lives(each) for each in below))


def test_a_runtime_that_was_forked_ends_with_its_bus(tmp_path: Path) -> None:
    early = EarlyHub(ahead=True)
    hub = PrivateHub(tmp_path, 1, early=early)
    hub.wait_until_ready(START_PATIENCE)
    below = psutil.Process(early.pid).children(recursive=True)
    os.kill(early.pid, signal.SIGKILL)
    until(lambda: not any(lives(each) for each in below))
    hub.stop()


def test_whoever_ends_his_own_tree_ends_himself_last() -> None:
    program = (
        "import os, subprocess, sys; from headway.private_hub import kill_tree;"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True);"
        "os.write(1, str(child.pid).encode()); os.close(1); kill_tree(os.getpid())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    try:
        until(lambda: not psutil.pid_exists(child) or not lives(psutil.Process(child)))
    finally:
        if psutil.pid_exists(child):
            os.kill(child, signal.SIGKILL)
