"""docs/cli.md, made from the commands themselves: ``python -m headway.cli.reference``."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import click

from headway.cli.app import headway
from headway.cli.table import SECTIONS

WIDTH = 120

INTRODUCTION = """\
# The command line

Made from the commands by `make docs`; a test fails when it is not what they say.

- `--bus URL` and `--config FILE` may stand before the verb or after it. What is typed comes before `$HEADWAY_BUS` and other
  `HEADWAY_…` variables, those before `config.toml`, that before the defaults.
- Task ids may be shortened to a beginning that no other task has; listings show the first eight characters. A task that was
  given a `--key` answers to that, too.
- On a terminal, tables fit its width: long cells are cut, then the rightmost columns are left out. Into a pipe go the same
  columns but for the bars, plain, whole, and with `-` in empty cells.
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
    with click.Context(headway, info_name="headway") as root:
        for title, verbs in SECTIONS.items():
            yield f"## {title}\n"
            for verb in verbs:
                command = headway.get_command(root, verb.name)
                if command is None:
                    raise LookupError(f"no installed package brings {verb.name}: pip install -e . in the checkout")
                yield f"### headway {verb.name}\n\n{page_of(command, verb.name)}"


def page_of(command: click.Command, name: str) -> str:
    """One verb. Laid out here and not by click, whose layout changes from version to version."""
    if isinstance(command, click.Group):
        below = [page_of(each, f"{name} {verb}") for verb, each in command.commands.items()]
        own = _own_page(command, name) if command.invoke_without_command else _paragraphs(command.help or "")
        return "\n".join([own, *below])
    return _own_page(command, name)


def _own_page(command: click.Command, name: str) -> str:
    parts = [f"```\n{usage_of(command, name)}\n```\n", _paragraphs(command.help or "")]
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    parts.append(
        "\n".join(f"- `{_names_of(option)}` {' '.join((option.help or '').split())}" for option in options) + "\n"
    )
    if command.epilog:
        lines = [line.strip() for line in command.epilog.replace("\b", "").splitlines()]
        examples = [line.removeprefix("Example:").strip() for line in lines if line and line != "Examples:"]
        parts.append("```\n" + "\n".join(examples) + "\n```\n")
    return "\n".join(parts)


def usage_of(command: click.Command, name: str) -> str:
    arguments = [
        each.metavar or (each.name or "").upper() for each in command.params if isinstance(each, click.Argument)
    ]
    return " ".join(["headway", name, "[OPTION]...", *arguments])


def _names_of(option: click.Option) -> str:
    """ "-f, --follow", "--slots NUMBER"."""
    names = ", ".join(sorted(option.opts, key=len)) + "".join(f"/{name}" for name in option.secondary_opts)
    if option.is_flag:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} {'|'.join(map(str, option.type.choices))}"
    return f"{names} {option.metavar or KINDS.get(option.type.name, option.type.name).upper()}"


KINDS = {"integer": "number", "integer range": "number", "float": "number", "float range": "number"}
"""What a person calls what click calls these."""


def _paragraphs(text: str) -> str:
    blocks = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(block.split()), WIDTH) for block in blocks) + "\n"


if __name__ == "__main__":
    click.echo(render(), nl=False)
