"""docs/loss.md and the tests that prove it: neither names what the other has not."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "loss.md"
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def named_in_page() -> set[str]:
    return set(re.findall(r"`(test_\w+)`", PAGE.read_text()))


def defined_in(pattern: str) -> set[str]:
    return {name for path in ROOT.glob(pattern) for name in TEST.findall(path.read_text())}


def test_every_test_that_the_table_names_exists() -> None:
    missing = named_in_page() - defined_in("tests/**/test_*.py")
    assert not missing


def test_every_fault_test_stands_in_the_table() -> None:
    missing = defined_in("tests/fault/test_fault_*.py") - named_in_page()
    assert not missing
