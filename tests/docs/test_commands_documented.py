"""The commands in the documents are the commands there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from headway.cli import app
from headway.cli.reference import render
from headway.cli.table import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_reference_is_what_the_commands_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == render(), "docs/cli.md is out of date: make docs"


def test_every_command_shows_an_example() -> None:
    pages = re.split(r"^### headway ", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    without = [page.split()[0] for page in pages if page.count(f"\nheadway {page.split()[0]}") < 2]
    assert without == [], "the usage alone is no example"


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in VERBS if f"`headway {name}" not in readme] == []


def commands_in(page: Path) -> list[str]:
    """What follows "headway" in the page's shell lines and in its code spans."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|console|bash)?\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(headway [^`\n]+)`", text)
    found = [re.match(r"(?:\.venv/bin/)?headway ([a-z][a-z-]*)(?= |$)(.*)", line) for line in lines]
    return [f"{match[1]}{match[2]}" for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_documents_exists_with_its_options(page: Path) -> None:
    with click.Context(app.headway) as ctx:
        for line in commands_in(page):
            verb, *words = shlex.split(line, comments=True)
            command = app.headway.get_command(ctx, verb)
            assert command is not None, f"{page.name}: headway {line}"
            if isinstance(command, click.Group) and words and words[0][:1].isalpha():
                command = command.get_command(ctx, words.pop(0))
                assert command is not None, f"{page.name}: headway {line}"
            known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            known |= {"--help", "-h"}
            own = words[: words.index("--")] if "--" in words else words
            typed = {re.match(r"--?[a-z-]+", word)[0] for word in own if re.match(r"--?[a-z]", word)}  # type: ignore[index]
            assert typed <= known, f"{page.name}: headway {line} has no {sorted(typed - known)}"


def test_commands_are_found_in_the_readme() -> None:
    assert "submit statistics:fmean '[1, 2, 4]' --wait" in " ".join(" ".join(commands_in(ROOT / "README.md")).split())


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE))
        assert named <= targets, f"{page.name}: make {sorted(named - targets)}"
    assert {"demo", "test", "check", "bench", "simulate", "chaos", "clean"} <= targets
