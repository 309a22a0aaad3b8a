"""Temporary blob folders go away with their owner, or with the next one's start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headway_controller.store.temporary import PREFIX, YOUNG, TemporaryFolder, clear_abandoned

MAKE_AND_DIE = """
import os, signal
from headway_controller.store.temporary import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "value").write_bytes(b"1")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(path: Path) -> None:
    old = path.stat().st_mtime - YOUNG - 1.0
    os.utime(path, (old, old))


def test_a_folder_is_removed_by_its_owner(place: Path) -> None:
    folder = TemporaryFolder()
    (folder.path / "value").write_bytes(b"1")
    folder.remove()
    assert list(place.iterdir()) == []


def test_what_a_killed_owner_left_is_cleared_by_the_next(place: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MAKE_AND_DIE], env={**os.environ, "TMPDIR": str(place)}, timeout=30, check=False
    )
    assert run.returncode == -signal.SIGKILL
    (left,) = place.glob(PREFIX + "*")
    assert clear_abandoned() == 0, "it is young: its owner may be about to lock it"
    age(left)
    folder = TemporaryFolder()
    assert list(place.iterdir()) == [folder.path]
    folder.remove()


def test_what_somebody_has_stays(place: Path) -> None:
    folder = TemporaryFolder()
    age(folder.path)
    assert clear_abandoned() == 0
    assert folder.path.exists()
    folder.remove()


def test_a_link_of_that_name_is_not_followed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_bytes(b"1")
    (place / (PREFIX + "link")).symlink_to(elsewhere)
    age(elsewhere)
    clear_abandoned()
    assert (elsewhere / "precious").exists()
