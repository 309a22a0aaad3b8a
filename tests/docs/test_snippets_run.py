"""Every Python snippet of README.md and docs/ runs as a program of its own, on a real bus, and prints what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from snippets import Snippet, snippets_of

import headway

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [snippet for page in PAGES for snippet in snippets_of(page)]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the modules that pages define for their snippets."""
    folder = tmp_path_factory.mktemp("modules")
    for snippet in SNIPPETS:
        if snippet.file:
            (folder / snippet.file).write_text(snippet.code, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def url(modules: Path) -> Iterator[str]:
    with headway.local(slots=2, path=[modules], by_value=True) as bus:
        yield bus.url


def test_there_are_snippets_in_the_pages_that_should_have_some() -> None:
    assert {"README.md", "library.md"} <= {snippet.page for snippet in SNIPPETS}


@pytest.mark.parametrize("snippet", [each for each in SNIPPETS if not each.file], ids=str)
def test_snippet(snippet: Snippet, url: str, modules: Path, tmp_path: Path) -> None:
    (tmp_path / "my names.txt").write_text("a\nb\n")
    (tmp_path / "snippet.py").write_text(snippet.program, encoding="utf-8")
    paths = os.pathsep.join([str(modules), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "snippet.py"],
        cwd=tmp_path,
        env={**os.environ, "HEADWAY_BUS": url, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{snippet.program}\n{done.stderr}"
    assert done.stderr == ""
    if snippet.output is not None:
        assert done.stdout == snippet.output
