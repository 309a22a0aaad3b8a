"""A click group that imports a verb's code when the verb is typed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, cast

import click

from headway.cli.table import ENTRY_POINT_GROUP, SECTIONS, VERBS

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@cache
def found_commands() -> dict[str, EntryPoint]:
    """The commands that installed packages bring, by name."""
    from importlib.metadata import entry_points  # not for a verb of the client's own

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


class LazyGroup(click.Group):
    """The verbs of :mod:`headway.cli.table`, and those of installed packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        own = [name for name, verb in VERBS.items() if verb.place or name in found_commands()]
        return own + sorted(set(found_commands()) - set(VERBS))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is not None and verb.place:
            module, attribute = verb.place.split(":")
            return cast(click.Command, getattr(importlib.import_module(module), attribute))
        point = found_commands().get(cmd_name)
        if point is None:
            return None
        command = cast(click.Command, point.load())
        if cmd_name == "edge":
            from headway.cli.edge import add_verbs  # what clients do with an edge stands below the agent's own command

            add_verbs(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        typed = args[0]
        if not typed.startswith("-") and self.get_command(ctx, typed) is None and not ctx.resilient_parsing:
            raise click.UsageError(f"no such command: {typed}{_suggestion(typed, self.list_commands(ctx))}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = set(self.list_commands(ctx))
        for title, verbs in SECTIONS.items():
            rows = [(verb.name, verb.summary) for verb in verbs if verb.name in listed]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        others = [(name, f"From {_origin(name)}.") for name in sorted(listed - set(VERBS))]
        if others:
            with formatter.section("From other packages"):
                formatter.write_dl(others)


def _origin(name: str) -> str:
    return found_commands()[name].value.partition(":")[0].partition(".")[0]


def _suggestion(typed: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(typed, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
