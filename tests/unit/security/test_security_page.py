"""docs/security.md: its tables are made from the code, and every test that it names is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_security", ROOT / "docs" / "make_security.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_what_the_code_says(maker: Any) -> None:
    text = maker.PAGE.read_text(encoding="utf-8")
    assert maker.page(text) == text, "run python docs/make_security.py"


def test_every_test_that_is_named_is_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    there: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        there.update(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(named) > 30
    assert named <= there, sorted(named - there)


def test_every_counter_that_is_named_is_counted() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    code = "\n".join(
        file.read_text(encoding="utf-8")
        for package in ("broker", "controller", "bus")
        for file in (ROOT / package).rglob("*.py")
    )
    for counter in re.findall(r"\| `([a-z]+\.[a-z.-]+)` \|$", text, re.MULTILINE):
        stem = counter.rpartition(".")[0]
        assert f'"{counter}"' in code or f'f"{stem}.{{' in code, counter
        if f'"{counter}"' not in code and not counter.endswith("-per-second"):
            assert f'"{counter.rpartition(".")[2]}"' in code, counter


def test_every_line_of_what_holds_names_its_test() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    table = text.split("## Line by line", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 45
    for row in rows:
        assert re.search(r"\| `test_\w+`", row), f"this line names no test: {row}"
