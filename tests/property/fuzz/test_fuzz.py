"""Some thousands of mutated inputs for each target, and those that once were answered wrongly (``corpus``)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.property.fuzz.__main__ import run
from tests.property.fuzz.targets import targets

INPUTS = 4_000


@pytest.mark.parametrize("name", sorted(targets()))
def test_mutated_input_is_refused_in_order(name: str) -> None:
    taken, _ = run(name, INPUTS, seed=1, slow=60.0)
    assert taken > 0  # the mutations reach beyond the first check
