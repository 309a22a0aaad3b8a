"""The verbs that give work: ``submit``, ``run-command``, ``script``, and ``estimate``, which only asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import print_json
from headway.cli.types import PAIR, PARSED_PAIR, SECONDS, TakesArguments, json_or_text
from headway.cli.waiting import finish
from headway.cli.words import estimate as estimate_text
from headway.cli.words import plain

if TYPE_CHECKING:
    from headway import Client

_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--name",), {"help": "What listings call it."}),
    (("--job",), {"help": "The named group of tasks it belongs to."}),
    (("--queue",), {"help": "The queue it waits in.  [default: default]"}),
    (("--priority",), {"type": int, "help": "Higher goes first.  [default: 0]"}),
    (("--slots",), {"type": click.FloatRange(0), "help": "Slots that it occupies.  [default: 1]"}),
    (("--cpu",), {"type": click.FloatRange(0), "help": "Cores that it occupies."}),
    (("--memory",), {"metavar": "SIZE", "help": "Memory that it occupies and may not exceed, such as 2GiB."}),
    (("--gpu",), {"type": click.FloatRange(0), "help": "GPUs that it occupies."}),
    (
        ("--resource",),
        {
            "type": PARSED_PAIR,
            "multiple": True,
            "help": "An amount of a resource that the runtime declares; repeatable.",
        },
    ),
    (("--label",), {"type": PAIR, "multiple": True, "help": "A label that the runtime must have; repeatable."}),
    (("--runtime",), {"help": "The one runtime that may run it."}),
    (("--max-attempts",), {"type": click.IntRange(1), "help": "Attempts that may fail, in all.  [default: 1]"}),
    (("--max-losses",), {"type": click.IntRange(0), "help": "Runtimes in a row that may die under it.  [default: 3]"}),
    (("--backoff",), {"type": SECONDS, "help": "Time before the second attempt; doubles each time.  [default: 1]"}),
    (("--retry-on",), {"multiple": True, "metavar": "NAME", "help": "Retry only these exceptions; repeatable."}),
    (("--after",), {"multiple": True, "metavar": "ID", "help": "Wait until this task has succeeded; repeatable."}),
    (("--after-any",), {"is_flag": True, "help": "One of the tasks named by --after is enough."}),
    (("--after-always",), {"is_flag": True, "help": "Any end of the tasks named by --after will do."}),
    (("--delay",), {"type": SECONDS, "help": "Do not start it earlier than this from now."}),
    (("--timeout-start",), {"type": SECONDS, "help": "Give up if it has not started by then."}),
    (("--timeout-run",), {"type": SECONDS, "help": "End an attempt that runs longer."}),
    (("--grace",), {"type": SECONDS, "help": "Time between TERM and KILL.  [default: 5]"}),
    (("--namespace",), {"help": "Whose it is, where your key has several namespaces."}),
    (("--secret",), {"is_flag": True, "help": "Its arguments (for a command: its environment) are stored encrypted."}),
    (("--idempotent",), {"is_flag": True, "help": "A second copy at the same time does no harm."}),
    (("--offline",), {"type": SECONDS, "help": "An edge that is cut off keeps it for so long, and may begin it."}),
    (("--resumable",), {"is_flag": True, "help": "Begun again in its own folder when its edge agent was restarted."}),
    (("--retention",), {"type": SECONDS, "help": "How long its record is kept after the end."}),
    (("--output-limit",), {"metavar": "SIZE", "help": "Output that is kept of each attempt, such as 1MiB."}),
    (("--meta",), {"type": PARSED_PAIR, "multiple": True, "help": "A number or word for the estimates; repeatable."}),
    (("--description",), {"help": "What it is for, in a sentence."}),
    (
        ("--output", "outputs"),
        {"multiple": True, "metavar": "PATTERN", "help": "Files to keep, as in 'model/*'; repeatable."},
    ),
    (("--replaces",), {"metavar": "ID", "help": "It is a new version of this task, which is stopped first."}),
    (("--edges",), {"metavar": "SELECTOR", "help": "Run it on every runtime that matches: 'region=north and camera'."}),
    (("--merge",), {"metavar": "PATH", "help": "Of a union: the function that makes one value of all of them."}),
    (("--quorum",), {"type": click.FloatRange(0, 1), "help": "Of a union: the share that is enough.  [default: 1]"}),
    (("--deadline",), {"type": SECONDS, "help": "Of a union: how long a round waits for those that are away."}),
    (
        ("--late",),
        {"type": click.Choice(["collect", "drop"]), "help": "Of a union: who is not there with the quorum."},
    ),
    (("--rounds",), {"type": click.IntRange(1), "help": "Of a union: how often it is run.  [default: 1]"}),
    (("--feeds",), {"is_flag": True, "help": "Of a union: the merged value is the next round's first argument."}),
    (("--associative",), {"is_flag": True, "help": "Of a union: values may be merged a few at a time."}),
    (("--least-edges",), {"type": click.IntRange(1), "help": "Of a union: begin when so many match.  [default: 1]"}),
    (("--merge-label",), {"type": PAIR, "multiple": True, "help": "A label of the runtimes that merge; repeatable."}),
)


def task_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every kind of task has."""
    for names, settings in reversed(_OPTIONS):
        function = click.option(*names, **settings)(function)
    return function


def end_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What to do after the submission."""
    wait = click.option("-w", "--wait", is_flag=True, help="Wait for the end, print the result, exit by how it ended.")
    follow = click.option("-f", "--follow", is_flag=True, help="Like --wait, and print the output as it comes.")
    key = click.option(
        "--key", help="A name of your own: the same key is the same task, however often it is submitted."
    )
    return key(wait(follow(json_option(function))))


def chosen(bus: Client, given: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``bus.options(…)`` from what was typed; what was not typed is left to the defaults."""
    # By identity: 0 is a value, although it equals False.
    fields = {name: value for name, value in given.items() if value is not None and value is not False and value != ()}
    if "label" in fields:
        fields["labels"] = dict(fields.pop("label"))
    if "replaces" in fields:
        fields["replaces"] = bus.task(fields["replaces"])
    if "merge_label" in fields:
        fields["merge_labels"] = dict(fields.pop("merge_label"))
    if "resource" in fields:
        fields["resources"] = dict(fields.pop("resource"))
    if "meta" in fields:
        fields["meta"] = dict(fields["meta"])
    if "retry_on" in fields:
        fields["retry_on"] = list(fields["retry_on"])
    if "after" in fields:
        fields["after"] = [bus.task(prefix) for prefix in fields["after"]]
    if fields.pop("after_any", False):
        fields["after_count"] = "any"
    if fields.pop("after_always", False):
        fields["after_end"] = "always"
    return fields


@contextmanager
def as_usage() -> Iterator[None]:
    """What the library finds wrong with a value that was typed is a wrong command line, not a failure of the bus."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def _values(texts: tuple[str, ...], as_text: bool) -> list[Any]:
    return [text if as_text else json_or_text(text) for text in texts]


@click.command(
    cls=TakesArguments,
    epilog=epilog(
        "headway submit statistics:fmean '[1, 2, 4]' --wait",
        "headway submit mypackage.work:train data.csv --kw epochs=3 --job night --max-attempts 3",
        "headway submit math:sqrt -f -- -1",
    ),
)
@click.argument("target")
@click.argument("arguments", nargs=-1, metavar="[ARG]...", type=click.UNPROCESSED)
@click.option("--kw", type=PAIR, multiple=True, help="A keyword argument; repeatable.")
@click.option("--string", "as_text", is_flag=True, help="Pass every ARG and keyword value as text, even if it is JSON.")
@end_options
@task_options
@on_bus
def submit(
    bus: Client,
    target: str,
    arguments: tuple[str, ...],
    kw: tuple[tuple[str, str], ...],
    as_text: bool,
    **given: Any,
) -> int:
    """Run a Python callable as a task.

    TARGET is an import path such as statistics:fmean. Each ARG that is JSON is passed as that value, any other as
    text: 3 is a number, '"3"' and three are text. Prints the task's id, or with --wait its result.
    """
    ending = take_ending(given)
    keywords = dict(zip([name for name, _ in kw], _values(tuple(text for _, text in kw), as_text), strict=True))
    with as_usage():
        task = bus.options(**chosen(bus, given)).submit(target, *_values(arguments, as_text), **keywords)
    return finish(task, **ending)


@click.command(
    "run-command",
    epilog=epilog(
        "headway run-command 'sort -u names.txt | wc -l' --cwd /data --follow",
        "headway run-command 'convert {image} small.png' --param image=photo.jpg --wait",
    ),
)
@click.argument("line", metavar="'SHELL LINE'")
@click.option("--param", "params", type=PAIR, multiple=True, help="A value for {name} in the line, quoted; repeatable.")
@click.option("--env", type=PAIR, multiple=True, help="A variable for its environment; repeatable.")
@click.option("--cwd", help="The folder on the runtime's machine in which it runs.  [default: one of its own]")
@end_options
@task_options
@on_bus
def run_command(
    bus: Client,
    line: str,
    params: tuple[tuple[str, str], ...],
    env: tuple[tuple[str, str], ...],
    cwd: str | None,
    **given: Any,
) -> int:
    """Run a shell command line as a task.

    The whole line goes to the runtime's shell, so quote it. Prints the task's id, or with --wait what the line prints.
    """
    ending = take_ending(given)
    with as_usage():
        task = bus.options(**chosen(bus, given)).command(line, params=dict(params), env=dict(env), cwd=cwd)
    return finish(task, is_process=True, **ending)


@click.command(
    cls=TakesArguments,
    epilog=epilog(
        "headway script train.py 0.1 --file data.csv --follow",
        "headway script train.py --job night -- --epochs 3",
    ),
)
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, metavar="[ARG]...", type=click.UNPROCESSED)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="F",
    type=click.Path(exists=True, path_type=Path),
    help="A file that goes with it and lies beside it there; repeatable.",
)
@end_options
@task_options
@on_bus
def script(bus: Client, path: Path, arguments: tuple[str, ...], files: tuple[Path, ...], **given: Any) -> int:
    """Run a Python script, uploaded with its files, as a task.

    Arguments of the script that begin with - go after --. Prints the task's id, or with --wait what it prints.
    """
    ending = take_ending(given)
    with as_usage():
        task = bus.options(**chosen(bus, given)).script(path, args=list(arguments), files=list(files))
    return finish(task, is_process=True, **ending)


def take_ending(given: dict[str, Any]) -> dict[str, Any]:
    """The options of ``end_options``, taken out of what was typed."""
    return {
        "wait": given.pop("wait"),
        "follow": given.pop("follow"),
        "as_json": given.pop("as_json"),
    }


@click.command(epilog=epilog("headway estimate mypackage.work:train --meta rows=100000"))
@click.argument("target")
@json_option
@task_options
@on_bus
def estimate(bus: Client, target: str, as_json: bool, **given: Any) -> None:
    """Ask when a task would start, without submitting it."""
    with as_usage():
        found = bus.options(**chosen(bus, given)).estimate(target)
    if as_json:
        print_json({"runtime": found.runtime, "starts": plain(found.starts), "ends": plain(found.ends)})
        return
    click.echo(f"starts in {estimate_text(found.starts)}" + (f" on {found.runtime}" if found.runtime else ""))
    click.echo(f"ends in {estimate_text(found.ends)}")
    if not found.starts.known and found.starts.why:
        click.echo(f"why unknown: {found.starts.why}")
