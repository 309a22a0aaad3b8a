"""``headway doctor``: what is wrong with this set-up, in words, and what to do about each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headway.cli import bus_checks, checks
from headway.cli.checks import NOTE, OK, WRONG, Finding
from headway.cli.failures import DONE, FAILED
from headway.cli.options import CONNECT_SECONDS, Choice, bus_options, epilog, json_option
from headway.cli.output import Column, Table, print_json
from headway_bus.errors import ConfigError, HeadwayError, Refused
from headway_bus.records import Code

if TYPE_CHECKING:
    from headway import Client
    from headway_bus.config import Settings
    from headway_bus.messages import ControllerState

DATABASE = "headway.db"
COUNTER_COLUMNS = (Column("who"), Column("counter"), Column("count", right=True))
COLOURS = {OK: "green", NOTE: "yellow", WRONG: "red"}


@click.command(epilog=epilog("headway doctor", "headway doctor --counters", "headway doctor --json"))
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The state folder to look at.  [default: as for headway up]",
)
@click.option("--counters", is_flag=True, help="Print everything that the bus has counted, instead.")
@json_option
@bus_options
@click.pass_context
def doctor(ctx: click.Context, state: Path | None, counters: bool, as_json: bool) -> int:
    """Say what is wrong with this set-up, and what to do.

    Looks at Python and the libraries, the settings, the state folder and the store in it, the bus and who is on it.
    Exit status 1 if something is wrong. Changes nothing.
    """
    choice = ctx.find_root().ensure_object(Choice)
    if counters:
        from headway.cli.options import open_bus

        with open_bus(ctx) as bus:
            _print_counters(bus.counters(), as_json)
        return DONE
    findings = _look(choice, state)
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        _print_findings(findings)
    return FAILED if any(finding.state == WRONG for finding in findings) else DONE


def _look(choice: Choice, state: Path | None) -> list[Finding]:
    findings = [
        checks.check_python(),
        checks.check_own_version(),
        *checks.check_libraries(),
        checks.check_uvloop(),
        checks.check_curve(),
    ]
    try:
        settings = _settings(choice)
    except ConfigError as error:
        return [
            *findings,
            Finding("settings", WRONG, str(error), "mend it; nothing starts with settings that are not right"),
        ]
    findings.append(Finding("settings", OK, f"from {settings.file}" if settings.file else "no file; the defaults hold"))
    return [*findings, *_look_at_state(settings, state), *_look_at_bus(choice, settings)]


def _settings(choice: Choice) -> Settings:
    from headway_bus.config import load

    return load(choice.config, {"bus.url": choice.bus, "bus.key_file": choice.key_file})


def _look_at_state(settings: Settings, state: Path | None) -> list[Finding]:
    from headway_bus.config import state_folder

    folder = state or Path(settings.controller.state or state_folder()).expanduser()
    findings = checks.check_folder(folder)
    if not folder.is_dir():
        return findings
    database = folder / DATABASE
    holder = checks.check_holder(database.with_name(f"{DATABASE}.lock"))
    # A running controller looks at its own store, below: it can do so without reading a file that is being written.
    return (
        [*findings, holder] if holder.text.startswith("held") else [*findings, holder, checks.check_database(database)]
    )


def _look_at_bus(choice: Choice, settings: Settings) -> list[Finding]:
    from headway import Client

    try:
        with Client(choice.bus, config=choice.config, key_file=choice.key_file, timeout=CONNECT_SECONDS) as bus:
            return [Finding("bus", OK, f"answers at {settings.bus.url}"), *_ask(bus)]
    except HeadwayError as error:
        return [bus_checks.check_no_answer(settings.bus.url, error, _role(settings))]


def _role(settings: Settings) -> str:
    """What the key that is shown may do; empty without one."""
    from headway_bus.keys import load_key

    try:
        return load_key(settings.bus.key_file).role if settings.bus.key_file else ""
    except ConfigError:
        return ""


def _ask(bus: Client) -> list[Finding]:
    peers = bus_checks.check_peers(bus.broker().peers)
    if peers.state == WRONG:
        return [peers]
    asked = time.time()
    controller = bus.controller()
    answered = time.time()
    runtimes = bus.runtimes()
    versions = {"controller": str(controller.state.get("version", ""))}
    versions |= {f"runtime {state.info.name}": state.info.version for state in runtimes}
    theirs = float(controller.state.get("now", 0.0))
    findings = [
        peers,
        bus_checks.check_controller(controller.state),
        _check_store(bus),
        *bus_checks.check_runtimes(runtimes),
        bus_checks.check_versions(_own_version(), versions),
    ]
    if theirs:
        findings.append(
            bus_checks.check_clock("controller", theirs, (asked + answered) / 2, (answered - asked) / 2),
        )
    return findings


def _check_store(bus: Client) -> Finding:
    try:
        store: ControllerState = bus.control("check")  # type: ignore[assignment]  # the answer's type follows from the verb
    except Refused as error:
        if error.code != Code.FORBIDDEN:
            raise
        return Finding("store", NOTE, "only an admin may ask the controller how its store is", "use an admin's key")
    return bus_checks.check_store(store.state)


def _own_version() -> str:
    import headway

    return headway.__version__


def _print_findings(findings: list[Finding]) -> None:
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        state = click.style(finding.state.ljust(5), fg=COLOURS[finding.state])
        click.echo(f"{state}  {finding.subject.ljust(width)}  {finding.text}")
        if finding.advice:
            click.echo(f"{' ' * (width + 9)}do: {finding.advice}")
    wrong = sum(finding.state == WRONG for finding in findings)
    click.echo(f"\n{wrong} thing{'' if wrong == 1 else 's'} wrong" if wrong else "\nnothing is wrong")


def _print_counters(found: Mapping[str, Mapping[str, int]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [[who, name, str(count)] for who, counters in found.items() for name, count in sorted(counters.items())]
    Table(COUNTER_COLUMNS, rows).print()
