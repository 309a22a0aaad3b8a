"""A few hundred simulated worlds hold every promise, and a seed is the same world each time.

Each run is a process of its own, because the order of sets, and with it a world, depends on PYTHONHASHSEED.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .mutations import MUTATIONS, REPAIRED

ROOT = Path(__file__).parents[3]
WORLDS = 60
MOST_WORLDS = 1000
"""Within which a defect that was put in on purpose must be found."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.property.world", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize("first", range(0, 5 * WORLDS, WORLDS))
def test_worlds_with_faults_keep_every_promise(first: int) -> None:
    run = simulate("--first", str(first), "--seeds", str(WORLDS))
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert f"0 of {WORLDS} worlds broken" in run.stdout


def test_a_seed_is_the_same_world_each_time() -> None:
    first, second = (simulate("--first", "11", "--seeds", "3").stdout.splitlines()[:-1] for _ in range(2))
    assert first == second
    assert any("executions" in line for line in first)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_defect_is_found(mutation: str) -> None:
    """Every promise is broken once on purpose: a check that finds none of that would be worth nothing."""
    run = simulate("--mutation", mutation, "--seeds", str(MOST_WORLDS), "--failures", "1")
    assert run.returncode == 1, f"{MOST_WORLDS} worlds with {mutation} broke no promise\n{run.stderr[-2000:]}"
    assert "BROKEN" in run.stdout
    assert "AttributeError" not in run.stdout, f"the defect cannot be put in: {run.stdout[-2000:]}"


@pytest.mark.parametrize("mutation", REPAIRED)
def test_a_defect_is_made_up_for(mutation: str) -> None:
    """With ``ignore_digests`` the same one is found: that it was put in, and what makes up for it."""
    run = simulate("--mutation", mutation, "--seeds", "100", "--failures", "1")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
