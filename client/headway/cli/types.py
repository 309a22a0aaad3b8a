"""What is typed on the command line, as values: lengths of time, pairs, and arguments in JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import click

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", re.IGNORECASE)


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A length of time: "90", "1.5h", "500ms"; seconds without a unit."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        match = _QUANTITY.fullmatch(str(value))
        factor = _UNITS.get(match[2].lower()) if match else None
        if match is None or factor is None:
            self.fail(f"{value!r}: expected something like 90, 500ms, 2min, 1.5h or 7d", param, ctx)
        return float(match[1]) * factor


class Pair(click.ParamType):  # type: ignore[type-arg]
    """ "name=value"; with ``parsed`` the value is JSON where it can be."""

    name = "name=value"

    def __init__(self, parsed: bool = False) -> None:
        self.parsed = parsed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r}: expected name=value", param, ctx)
        return name, json_or_text(text) if self.parsed else text


SECONDS = Seconds()
PAIR = Pair()
PARSED_PAIR = Pair(parsed=True)


def json_or_text(text: str) -> Any:
    """The value if ``text`` is JSON, ``text`` itself otherwise.

    ``NaN`` and ``Infinity`` are words here: JSON does not have them, and people do have files of these names.
    """
    try:
        return json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text


def _not_json(name: str) -> None:
    raise ValueError(name)


_NEGATIVE_NUMBER = re.compile(r"-(\d|\.\d)")


class TakesArguments(click.Command):
    """A verb whose last words are values for somebody else: ``-1`` is one of them, ``--mistyped`` is not.

    click alone either takes ``-1`` for an option, or passes every mistyped option on in silence.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {**self.context_settings, "ignore_unknown_options": True}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        behind = len(args) - args.index("--") - 1 if "--" in args else 0
        rest = super().parse_args(ctx, args)
        arguments = ctx.params.get("arguments") or ()
        for value in arguments[: max(len(arguments) - behind, 0)]:
            if len(value) > 1 and value[0] == "-" and not _NEGATIVE_NUMBER.match(value):
                text = f"No such option: {value} (arguments that begin with - go after --)"
                raise click.NoSuchOption(value, text, ctx=ctx)
        return rest
