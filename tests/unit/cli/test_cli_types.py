"""What is typed, as values."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from headway.cli.types import PAIR, PARSED_PAIR, SECONDS, TakesArguments, json_or_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("three", "three"),
        ("null", None),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1, Infinity]", "[1, Infinity]"),
        ("", ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_arguments_are_json_where_they_can_be(text: str, value: object) -> None:
    assert json_or_text(text) == value


def test_times() -> None:
    assert [SECONDS.convert(text, None, None) for text in ("90", "500ms", "2min", "1.5h", "7d", ".5")] == [
        90.0,
        0.5,
        120.0,
        5400.0,
        604800.0,
        0.5,
    ]


@pytest.mark.parametrize("text", ["", "-1", "1 fortnight", "h", "1e400", "0x10"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected something like 90"):
        SECONDS.convert(text, None, None)


def test_pairs() -> None:
    assert PAIR.convert("a=b=c", None, None) == ("a", "b=c")
    assert PAIR.convert("a=3", None, None) == ("a", "3")
    assert PARSED_PAIR.convert("a=3", None, None) == ("a", 3)
    for wrong in ("a", "=b"):
        with pytest.raises(click.BadParameter, match="expected name=value"):
            PAIR.convert(wrong, None, None)


@click.command(cls=TakesArguments)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--number", type=int)
@click.option("-w", "--wait", is_flag=True)
def echo(arguments: tuple[str, ...], number: int | None, wait: bool) -> None:
    click.echo(f"{arguments} {number} {wait}")


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        (["-1", "-.5", "-1e3"], "('-1', '-.5', '-1e3') None False"),
        (["a", "--number", "-3", "-w", "-"], "('a', '-') -3 True"),
        (["a", "--", "--epochs", "3"], "('a', '--epochs', '3') None False"),
        (["-w", "--", "-w", "--wait"], "('-w', '--wait') None True"),
    ],
)
def test_negative_numbers_are_arguments(typed: list[str], printed: str) -> None:
    outcome = CliRunner().invoke(echo, typed)
    assert (outcome.output.strip(), outcome.exit_code) == (printed, 0)


@pytest.mark.parametrize("typed", [["--wiat"], ["a", "-x"], ["--epochs", "3", "--", "--epochs"]])
def test_mistyped_options_are_not_passed_on(typed: list[str]) -> None:
    outcome = CliRunner().invoke(echo, typed)
    assert outcome.exit_code == 2
    assert "No such option" in outcome.output
