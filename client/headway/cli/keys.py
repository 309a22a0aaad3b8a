"""``headway keys``: who may come to a bus beyond its own machine. Works on files; ``join`` alone speaks to a bus."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import DONE
from headway.cli.keys_words import a, invitation_lines, qr_lines, when
from headway.cli.options import Choice, bus_options, epilog, json_option
from headway.cli.output import Column, Table, note, print_json
from headway_bus.errors import ConfigError

if TYPE_CHECKING:
    from headway_bus.keyring import Keyring

INVITATION_VARIABLE = "HEADWAY_INVITATION"
JOIN_SECONDS = 10.0
DAY = 86_400.0
ROLES = ("read", "client", "admin", "runtime", "edge", "controller")
COLUMNS = (
    Column("name"),
    Column("role"),
    Column("namespaces"),
    Column("expires"),
    Column("public key"),
    Column("labels"),
    Column("comment"),
)

keys_option = click.option(
    "--keys",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The broker's folder of keys.  [default: the settings, or ~/.config/headway/keys]",
)


namespace_option = click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Whose tasks a client sees and submits; '*': everybody's. May be given again; the first is where its tasks go.  "
    "[default: the default namespace]",
)


@click.group(
    epilog=epilog(
        "headway keys init",
        "headway keys new alice --role client",
        "headway keys invite --role runtime --url tcp://hub.example.org:5570",
        "headway keys list",
        "headway keys revoke alice",
    )
)
@bus_options
def keys() -> None:
    """Make, list and revoke the keys of a bus, and invite machines to it.

    A bus that is reached from other machines needs a key from everybody. On the broker's machine, `init` makes its own key
    and the first administrator's, `new` one for somebody else, and `invite` prints a line that makes the other machine
    enrol its own. A running broker sees every change within a second.
    """


@keys.command(epilog=epilog("headway keys init"))
@keys_option
@bus_options
@click.pass_context
def init(ctx: click.Context, folder: Path | None) -> int:
    """Make the broker's key and the first administrator's."""
    keyring = _keyring(ctx, folder)
    keyring.init()
    keyring.new("admin", "admin")
    click.echo(f"the broker's key and admin.key are in {keyring.folder}")
    note("the broker may listen beyond this machine now: headway up --bind tcp://0.0.0.0:5570")
    note(f"for you to speak to it: export HEADWAY_KEY_FILE={keyring.key_path('admin')}")
    return DONE


@keys.command(
    epilog=epilog(
        "headway keys new alice --role client --namespace physics",
        "headway keys new audit --role read --namespace '*' --days 30",
        "headway keys new gpu-1 --role runtime --label zone=lab",
    )
)
@click.argument("name", metavar="NAME")
@click.option("--role", type=click.Choice(ROLES), default="client", help="What the peer may do.  [default: client]")
@click.option(
    "--days", type=click.FloatRange(0, min_open=True), help="After how many days it expires.  [default: never]"
)
@namespace_option
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="What a runtime is labelled with, whatever it says itself. May be given again.",
)
@click.option("--comment", default="", metavar="TEXT", help="A note for those who read the list.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to write the key.")
@keys_option
@bus_options
@click.pass_context
def new(
    ctx: click.Context,
    name: str,
    role: str,
    days: float | None,
    namespaces: tuple[str, ...],
    labels: tuple[str, ...],
    comment: str,
    out: Path | None,
    folder: Path | None,
) -> int:
    """Make a key, and let it in. The file goes to its owner; nobody else needs it."""
    from headway_bus.keyring import read_labels
    from headway_bus.namespaces import read_namespaces

    keyring = _keyring(ctx, folder)
    path = out or keyring.key_path(name)
    keyring.new(
        name,
        role,
        path,
        expires=time.time() + days * DAY if days else 0.0,
        comment=comment,
        namespaces=read_namespaces(",".join(namespaces)),
        labels=dict(read_labels(labels)),
    )
    click.echo(str(path))
    return DONE


@keys.command(name="list", epilog=epilog("headway keys list", "headway keys list --json"))
@json_option
@keys_option
@bus_options
@click.pass_context
def list_keys(ctx: click.Context, as_json: bool, folder: Path | None) -> int:
    """List who may come, and the invitations that are open."""
    keyring = _keyring(ctx, folder)
    now = time.time()
    peers, invitations = keyring.peers(), keyring.invitations(now)
    if as_json:
        print_json(
            {
                "peers": [_peer_json(each) for each in peers],
                "invitations": [_invited_json(each) for each in invitations],
            }
        )
        return DONE
    rows = [
        [
            each.name,
            each.role,
            ",".join(each.namespaces),
            when(each.expires, now),
            each.public,
            ",".join(f"{key}={value}" for key, value in each.labels),
            each.comment,
        ]
        for each in peers
    ]
    Table(COLUMNS, rows).print()
    for each in invitations:
        note(
            f"an invitation for {'any name' if each.name == '*' else each.name} as {each.role} expires {when(each.expires, now)}"
        )
    return DONE


@keys.command(epilog=epilog("headway keys revoke alice"))
@click.argument("name", metavar="NAME")
@keys_option
@bus_options
@click.pass_context
def revoke(ctx: click.Context, name: str, folder: Path | None) -> int:
    """Take a peer off the list: it is cut off within a second, and its work goes to others."""
    peer = _keyring(ctx, folder).revoke(name)
    click.echo(f"revoked {peer.name}, {a(peer.role)}")
    return DONE


@keys.command(epilog=epilog("headway keys invite --role runtime", "headway keys invite --role client --name alice"))
@click.option(
    "--role", type=click.Choice(ROLES[:-1]), default="runtime", help="What it may do then.  [default: runtime]"
)
@click.option("--name", default="", help="The name that it gets.  [default: the one that it asks for]")
@click.option("--url", metavar="URL", help="Where the invited machine finds the broker.  [default: the bus's address]")
@click.option(
    "--minutes",
    type=click.FloatRange(0, 1440, min_open=True),
    default=10.0,
    help="How long it is good.  [default: 10]",
)
@namespace_option
@click.option("--qr/--no-qr", default=None, help="Show it as a QR code, too.  [default: on a terminal]")
@keys_option
@bus_options
@click.pass_context
def invite(
    ctx: click.Context,
    role: str,
    name: str,
    url: str | None,
    minutes: float,
    namespaces: tuple[str, ...],
    qr: bool | None,
    folder: Path | None,
) -> int:
    """Print a line that lets another machine make its own key and enrol it. Good once, and for a short time."""
    from headway_bus.keys import is_local
    from headway_bus.namespaces import read_namespaces

    where = url or _settings(ctx).bus.url
    keyring, wanted = _keyring(ctx, folder), read_namespaces(",".join(namespaces))
    invitation = keyring.invite(where, role, name, minutes * 60.0, time.time(), wanted)
    for line in invitation_lines(invitation.text, role):
        click.echo(line)
    if is_local(where):
        note(f"{where} can be reached from this machine only; --url says where others find the broker")
        if not _settings(ctx).broker.require_keys:
            note(
                "a broker there takes nobody's key, unless require_keys = true stands under [broker] in its config.toml"
            )
    if qr or (qr is None and sys.stdout.isatty()):
        for line in qr_lines(invitation.text):
            click.echo(line)
    note(f"good once, for {minutes:g} minutes, while the broker runs with these keys")
    return DONE


@keys.command(
    epilog=epilog("HEADWAY_INVITATION=hw1.… headway keys join", "headway keys join --name gpu-1 < invitation.txt")
)
@click.option("--name", default="", help="The name to ask for.  [default: the invitation's, or this machine's]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to write the key.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=JOIN_SECONDS,
    help="Seconds to try.  [default: 10]",
)
def join(name: str, out: Path | None, timeout: float) -> int:
    """Make a key on this machine and enrol it, with an invitation from the environment or standard input.

    The invitation is never an argument, because other users see those with `ps`.
    """
    from headway.enrolment import enrol
    from headway_bus.config import config_folder
    from headway_bus.keyring import Invitation
    from headway_bus.keys import Key, make_key, write_key

    text = os.environ.get(INVITATION_VARIABLE) or sys.stdin.readline()
    invitation = Invitation.read(text)
    wished = name or invitation.name or re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()).strip("._-")[:60] or "peer"
    path = out or config_folder() / f"{wished}.key"
    if path.exists():
        raise ConfigError(f"{path}: there is a key already; delete it, or choose another place with --out")
    made = make_key(wished, "client", invitation.broker)
    enrolled = enrol(invitation, made, timeout)
    write_key(path, Key(enrolled.name, enrolled.role, made.public, made.secret, invitation.broker))
    click.echo(f"joined as {enrolled.name}, {a(enrolled.role)}; the key is {path}")
    verb = f"headway {enrolled.role}" if enrolled.role in ("runtime", "edge") else "headway ps"
    note(f"now: {verb} --bus {invitation.url} --key-file {path}")
    return DONE


def _settings(ctx: click.Context) -> Any:
    from headway_bus.config import load

    choice = ctx.find_root().ensure_object(Choice)
    return load(choice.config, {"bus.url": choice.bus})


def _keyring(ctx: click.Context, folder: Path | None) -> Keyring:
    from headway_bus.keyring import Keyring

    return Keyring(folder or _settings(ctx).broker.keys)


def _time(at: float) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat() if at else None


def _peer_json(peer: Any) -> dict[str, Any]:
    return {
        "name": peer.name,
        "role": peer.role,
        "public": peer.public,
        "expires": _time(peer.expires),
        "expires_seconds": peer.expires or None,
        "comment": peer.comment,
        "namespaces": list(peer.namespaces),
        "labels": dict(peer.labels),
    }


def _invited_json(invited: Any) -> dict[str, Any]:
    return {
        "name": None if invited.name == "*" else invited.name,
        "role": invited.role,
        "expires": _time(invited.expires),
        "expires_seconds": invited.expires,
    }
