"""The verbs about edges: ``edges``, and below ``edge``: ``run``, ``push``, ``pull``, ``tell``, ``listen``, ``forget``."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import DONE
from headway.cli.listen import listen
from headway.cli.options import epilog, json_option, on_bus
from headway.cli.output import NOTHING, Column, Table, note, print_json
from headway.cli.submit import as_usage
from headway.cli.types import SECONDS, json_or_text
from headway.cli.views import runtime_data
from headway.cli.waiting import finish
from headway.cli.words import duration, size

if TYPE_CHECKING:
    from headway import Client
    from headway_bus.records import RuntimeState

DAY = 86_400.0
COLUMNS = (
    Column("edge"),
    Column("state", fixed=True),
    Column("since", right=True),
    Column("seen", right=True),
    Column("running", right=True),
    Column("held", right=True),
    Column("undelivered", right=True),
    Column("spool", right=True),
    Column("version"),
    Column("labels"),
    Column("why"),
)
NAME = click.argument("name", metavar="EDGE")
PATIENCE = click.option(
    "--offline", type=SECONDS, default=DAY, help="How long it may stay undone while the edge is cut off.  [default: 1d]"
)


def edge_row(state: RuntimeState, now: float) -> list[str]:
    """One edge as a person sees it."""
    load, info = state.load, state.info

    def since(at: float) -> str:
        return duration(max(now - at, 0.0)) if at else NOTHING

    return [
        info.name,
        state.state,
        since(state.since),
        since(state.last_seen),
        str(state.running),
        str(state.running + state.assigned),
        f"{load['undelivered']:.0f}" if "undelivered" in load else NOTHING,
        size(int(load["spool_bytes"])) if "spool_bytes" in load else NOTHING,
        info.version or NOTHING,
        ",".join(f"{name}={value}" for name, value in sorted(info.labels.items())) or NOTHING,
        state.why or NOTHING,
    ]


def say_if_away(bus: Client, name: str) -> None:
    """Whoever waits for an edge that is not there is told so, and for what name that was typed wrong."""
    found = {state.info.name: state for state in bus.runtimes()}
    state = found.get(name)
    if state is None:
        known = ", ".join(sorted(each for each, it in found.items() if it.info.edge)) or "none"
        note(f"no edge {name!r} is known: this waits until one of that name comes; known: {known}")
    elif state.state == "offline":
        note(f"{name} is offline, since {duration(max(time.time() - state.since, 0.0))}: this waits until it is back")


@click.command(epilog=epilog("headway edges", "headway edges --json"))
@json_option
@on_bus
def edges(bus: Client, as_json: bool) -> None:
    """List the edges: here or away, since when, what they hold."""
    found, now = [state for state in bus.runtimes() if state.info.edge], time.time()
    if as_json:
        print_json([runtime_data(state) for state in found])
    else:
        Table(COLUMNS, [edge_row(state, now) for state in found]).print()


@click.command(epilog=epilog("headway edge run shop-17 'df -h /'", "headway edge run shop-17 'uptime' --offline 1h"))
@NAME
@click.argument("line", metavar="'SHELL LINE'")
@PATIENCE
@json_option
@on_bus
def run(bus: Client, name: str, line: str, offline: float, as_json: bool) -> int:
    """Run a shell command line on an edge, and wait for what it prints.

    An edge that is cut off runs it when it is back. Ctrl-C stops the waiting and not the command.
    """
    task = bus.options(runtime=name, offline=offline).command(line)
    say_if_away(bus, name)
    return finish(task, wait=True, follow=False, as_json=as_json, is_process=True)


@click.command(epilog=epilog("headway edge push shop-17 model.onnx", "headway edge push shop-17 a.csv --as data/a.csv"))
@NAME
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--as", "as_name", metavar="PATH", help="Its path in the edge's folder.  [default: its name]")
@PATIENCE
@json_option
@on_bus
def push(bus: Client, name: str, file: Path, as_name: str | None, offline: float, as_json: bool) -> int:
    """Bring a file to an edge, and print where it lies there.

    It travels in parts and goes on after a cut. Tasks find the folder in $HEADWAY_EDGE_FILES.
    """
    where = as_name or file.name
    say_if_away(bus, name)
    with as_usage():
        task = bus.attach({where: file}).options(runtime=name, offline=offline).model("edge", "push", where)
    return finish(task, wait=True, follow=False, as_json=as_json)


@click.command(
    epilog=epilog("headway edge pull shop-17 data/counts.csv", "headway edge pull shop-17 /var/log/syslog -o -")
)
@NAME
@click.argument("path", metavar="PATH")
@click.option("-o", "--output", metavar="FILE", help="Where to write it; - is standard output.  [default: its name]")
@PATIENCE
@on_bus
def pull(bus: Client, name: str, path: str, output: str | None, offline: float) -> int:
    """Fetch a file from an edge.

    PATH is in the edge's folder, or absolute. The file travels in parts, goes on after a cut, and is never held in memory.
    """
    task = bus.options(runtime=name, offline=offline).model("edge", "pull", path)
    say_if_away(bus, name)
    if output == "-":
        with tempfile.TemporaryDirectory(prefix="headway-pull-") as folder:
            (target,) = task.save(Path(folder) / "file")
            with target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        return DONE
    (target,) = task.save(Path(output or Path(path).name))
    click.echo(f"{target}: {size(target.stat().st_size)}")
    return DONE


@click.command(epilog=epilog("headway edge tell shop-17 '{\"threshold\": 0.7}'"))
@NAME
@click.argument("value", metavar="VALUE")
@PATIENCE
@json_option
@on_bus
def tell(bus: Client, name: str, value: str, offline: float, as_json: bool) -> int:
    """Tell an edge's plugins something, and print their answer.

    A VALUE that is JSON is passed as that value, any other as text.
    """
    task = bus.tell(name, json_or_text(value), offline=offline)
    say_if_away(bus, name)
    return finish(task, wait=True, follow=False, as_json=as_json)


@click.command(epilog=epilog("headway edge forget shop-17"))
@NAME
@on_bus
def forget(bus: Client, name: str) -> int:
    """Forget an edge that has gone for good: it is not listed any more, and what it had runs elsewhere."""
    bus.control("forget", edge=name)
    click.echo(f"forgot {name}")
    return DONE


def add_verbs(command: click.Command) -> click.Command:
    """Put the verbs for clients below the agent's own command."""
    if isinstance(command, click.Group):
        verbs: dict[str, Any] = {
            "run": run,
            "push": push,
            "pull": pull,
            "tell": tell,
            "listen": listen,
            "forget": forget,
        }
        for name, verb in verbs.items():
            command.add_command(verb, name)
    return command
