"""The example of federated averaging, in a short form: six edges, six rounds, two cut off and one killed in the middle."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "federated" / "run_federated.py"


def test_what_is_learned_together_is_as_good_as_in_one_place(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="the example needs the extra demo")
    pytest.importorskip("matplotlib", reason="the picture needs the extra plot")
    words = ["--edges", "6", "--rounds", "6", "--deadline", "4", "--plot", str(tmp_path / "rounds.png")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words], env=kept, cwd=tmp_path, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "edge-02 and edge-03 are cut off, edge-06 is killed" in done.stdout
    assert len(re.findall(r"^ +\d+ +\d+  .*  0\.\d{4}$", done.stdout, re.MULTILINE)) == 6, done.stdout
    (difference,) = re.findall(r"^difference +([+-]\d+\.\d+) %$", done.stdout, re.MULTILINE)
    assert abs(float(difference)) <= 2.0
    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")
