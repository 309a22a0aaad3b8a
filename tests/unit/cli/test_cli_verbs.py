"""The table of verbs against the commands themselves."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from headway.cli import app
from headway.cli.table import VERBS
from headway_bus.errors import ConfigError, HeadwayError, NoBus, Refused

OWN = [name for name, verb in VERBS.items() if verb.place]


def command_of(name: str) -> click.Command:
    with click.Context(app.headway) as ctx:
        command = app.headway.get_command(ctx, name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", OWN)
def test_the_summary_is_the_commands_own(name: str) -> None:
    command = command_of(name)
    assert command.name == name
    assert command.get_short_help_str(limit=200) == VERBS[name].summary
    assert command.params, "a verb without a single option or argument"


@pytest.mark.parametrize("name", OWN)
def test_every_verb_shows_an_example_and_takes_the_bus(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"headway {name}" in text.partition("Examples:")[2]
    if name not in ("demo", "up", "generate", "batch", "job", "plot"):
        assert "--bus URL" in text


@pytest.mark.parametrize("name", ["ps", "show", "logs", "explain", "jobs", "runtimes", "queues", "submit", "estimate"])
def test_listings_take_json(name: str) -> None:
    assert "as_json" in {parameter.name for parameter in command_of(name).params}


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    code = (
        "import sys; from headway.cli.app import run; run(['--help']);"
        "heavy = {'rich', 'zmq', 'numpy', 'asyncio', 'headway_broker', 'headway_controller', 'headway_runtime'};"
        "verbs = {'headway.cli.submit', 'headway.cli.listing', 'headway.cli.demo'};"
        "print('LOADED', sorted((heavy | verbs) & set(sys.modules)))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.splitlines()[-1] == "LOADED []"


def test_a_mistyped_verb_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["sumbit"]) == 2
    assert "submit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NoBus("no bus answers at tcp://127.0.0.1:1"), 3, "headway up"),
        (ConfigError("config.toml: no such key: broker.colour"), 2, "broker.colour"),
        (Refused("not-found", "no task begins with zz"), 1, "no task begins with zz"),
        (HeadwayError("it broke"), 1, "it broke"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.UsageError("what?"), 2, "what?"),
        (BrokenPipeError(), 1, ""),
        (PermissionError(13, "Permission denied", "results/a"), 1, "headway: results/a: Permission denied\n"),
        (IsADirectoryError(21, "Is a directory", ".d.part", None, "d"), 1, "headway: d: Is a directory\n"),
        (OSError(28, "No space left on device"), 1, "headway: No space left on device\n"),
        (OSError("no room"), 1, "headway: no room\n"),
    ],
)
def test_errors_become_exit_statuses(
    error: BaseException, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(app.headway, "main", fail)
    monkeypatch.setattr(app, "_reader_left", lambda: 1)
    assert app.run([]) == status
    assert words in capsys.readouterr().err


def test_the_bus_may_be_named_before_the_verb_or_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Nobody:
        def __init__(self, url: str | None, **settings: object) -> None:
            seen.append(url)
            raise NoBus("nobody")

    monkeypatch.setattr("headway.Client", Nobody, raising=False)
    assert app.run(["--bus", "tcp://127.0.0.1:1", "ps"]) == 3
    assert app.run(["ps", "--bus", "tcp://127.0.0.1:2"]) == 3
    assert app.run(["--bus", "tcp://127.0.0.1:1", "ps", "--bus", "tcp://127.0.0.1:2"]) == 3
    assert app.run(["ps"]) == 3
    assert seen == ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://127.0.0.1:2", None]
