"""docs/cli.md, made from the commands themselves: ``python -m headway.cli.reference``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from headway.cli.app import headway
from headway.cli.table import SECTIONS

WIDTH = 100

INTRODUCTION = """\
# The command line

Made from the commands by `make docs`; a test fails when it is not what they say.

- `--bus URL` and `--config FILE` may stand before the verb or after it. What is typed comes before `$HEADWAY_BUS` and other
  `HEADWAY_…` variables, those before `config.toml`, that before the defaults.
- Task ids may be shortened to a beginning that no other task has; listings show the first eight characters. A task that was
  given a `--key` answers to that, too.
- On a terminal, tables fit its width: bars go first, then long cells are cut, then the rightmost columns are left out. Into
  a pipe go the same columns, plain, whole, and with `-` in empty cells.
- `--json` has the same keys from version to version; new ones may come. Ids are whole, times are ISO 8601 in UTC with Unix
  seconds beside them under `…_seconds`, lengths of time are seconds, what is not known is `null`.
- Results and listings go to standard output, remarks and errors to standard error.

| exit status | |
|---|---|
| 0 | what was asked was done; with `--wait`, the task succeeded |
| 1 | it was not: refused, failed, or something of it could not be done |
| 2 | the command line or a setting is wrong |
| 3 | there is no bus, said within three seconds |
| 130 | interrupted with Ctrl-C; a task that was waited for goes on |
"""


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *_sections()]).rstrip() + "\n"


def _sections() -> Iterator[str]:
    with headway.make_context("headway", [], resilient_parsing=True) as root:
        for title, verbs in SECTIONS.items():
            yield f"## {title}\n"
            for verb in verbs:
                command = headway.get_command(root, verb.name)
                if command is None:
                    raise LookupError(f"no installed package brings {verb.name}: pip install -e . in the checkout")
                yield f"### headway {verb.name}\n\n```\n{help_of(command, verb.name, root)}\n```\n"


def help_of(command: click.Command, name: str, root: click.Context) -> str:
    """A command's help at a fixed width, whatever the terminal's is."""
    with click.Context(command, info_name=name, parent=root, terminal_width=WIDTH, max_content_width=WIDTH) as ctx:
        return re.sub(r"[ \t]+$", "", command.get_help(ctx), flags=re.MULTILINE).strip()


if __name__ == "__main__":
    click.echo(render(), nl=False)
