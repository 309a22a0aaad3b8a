"""Worlds with edges: cut off for long, killed or without power, their clocks an hour wrong. Every promise is kept."""

from __future__ import annotations

import pytest

from .test_world import simulate

WORLDS = 40


@pytest.mark.parametrize("edges", [1, 2])
def test_worlds_with_edges_keep_every_promise(edges: int) -> None:
    run = simulate("--seeds", str(WORLDS), "--edges", str(edges))
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert f"0 of {WORLDS} worlds broken" in run.stdout and "fault: cut edge" in run.stdout
