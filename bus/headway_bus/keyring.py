"""The broker's folder of keys: its own key pair, who may come, and who is invited.

::

    broker.key         the broker's key pair
    authorized_peers   a line for each peer: PUBLIC-KEY NAME ROLE [namespaces=A,B] [expires=TIME] [labels=K=V,…] [# COMMENT]
    invitations        a line for each invitation that is open: HASH ROLE NAME expires=TIME [namespaces=A,B]

``headway keys`` writes them and a running broker reads them again when they change. Files are replaced whole, under a
lock, so that a reader never finds half of one, and none of two writers' lines is lost.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from headway_bus import keys
from headway_bus.config import config_folder
from headway_bus.errors import ConfigError
from headway_bus.keys import BROKER_ROLE, PEER_ROLES, Key
from headway_bus.namespaces import read_namespaces

BROKER_KEY = "broker.key"
PEERS = "authorized_peers"
INVITATIONS = "invitations"
LOCK = ".lock"
MARK = "hw1."
"""How the text of an invitation begins: its form's version."""

ANY_NAME = "*"
MAX_INVITATION = 4096
LABEL = re.compile(r"[A-Za-z0-9._/-]{1,64}")

HEADER = """\
# Who may connect to this bus. The broker reads this file again when it changes; a peer whose line is gone is cut off.
# PUBLIC-KEY NAME ROLE [namespaces=A,B] [expires=2030-01-31T12:00:00Z] [labels=K=V,K=V] [# COMMENT]; roles: {roles}
"""


@dataclass(frozen=True, slots=True)
class Authorized:
    """Somebody who may connect: the key, and what it stands for. ``expires``: Unix seconds; 0: never."""

    public: str
    name: str
    role: str
    expires: float = 0.0
    comment: str = ""
    namespaces: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """What a runtime is labelled with, whatever it says itself; for others notes."""


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation as the broker's folder keeps it: without the token itself."""

    digest: str
    role: str
    name: str
    expires: float
    namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the invited machine is told. Its text is a secret until it is used or has expired."""

    url: str
    broker: str
    token: str
    name: str

    def __repr__(self) -> str:
        return f"Invitation(url={self.url!r})"

    @property
    def text(self) -> str:
        """One word that can be pasted or scanned."""
        data = json.dumps([self.url, self.broker, self.token, self.name], separators=(",", ":")).encode()
        return MARK + base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Invitation:
        """The other way. Raises ConfigError, without repeating what is a secret."""
        try:
            word = text.strip()
            if len(word) > MAX_INVITATION or not word.startswith(MARK):
                raise ValueError
            word = word.removeprefix(MARK)
            fields = json.loads(base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)))
            url, broker, token, name = fields
            if not all(isinstance(each, str) for each in fields) or not keys.is_public_key(broker):
                raise ValueError
        except (ValueError, TypeError):
            raise ConfigError(
                f"this is no invitation; expected one word that begins with {MARK!r}, from `headway keys invite`"
            ) from None
        return cls(url, broker, token, name)


class Keyring:
    """The folder. Every method reads or writes files; none keeps anything in memory."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder).expanduser() if folder else config_folder() / "keys"

    def __repr__(self) -> str:
        return f"Keyring({str(self.folder)!r})"

    @property
    def exists(self) -> bool:
        """Whether ``headway keys init`` has been here."""
        return (self.folder / BROKER_KEY).exists()

    def key_path(self, name: str) -> Path:
        """Where the key file of a peer lies that was made here."""
        keys.check_name(name)
        return self.folder / f"{name}.key"

    def broker_key(self) -> Key:
        """The broker's own pair. Raises ConfigError where there is none."""
        if not self.exists:
            raise ConfigError(f"{self.folder}: no keys of a bus are here; do: headway keys init")
        key = keys.load_key(self.folder / BROKER_KEY)
        if key.role != BROKER_ROLE:
            raise ConfigError(f"{self.folder / BROKER_KEY}: the key of a {key.role}, not of a broker")
        return key

    def init(self) -> Key:
        """Make the broker's pair. Raises ConfigError if there is one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = keys.make_key(BROKER_ROLE, BROKER_ROLE)
        keys.write_key(self.folder / BROKER_KEY, key)
        with self._locked():
            self._replace(PEERS, self._header())
        return key

    def new(
        self,
        name: str,
        role: str,
        path: Path | None = None,
        *,
        expires: float = 0.0,
        comment: str = "",
        namespaces: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
    ) -> Key:
        """Make a pair for a peer, write its file, and authorize it. Raises ConfigError if the name is taken."""
        peer = Authorized("", name, role, expires, comment, namespaces, tuple((labels or {}).items()))
        check_words(peer)
        key = keys.make_key(name, role, self.broker_key().public)
        self._refuse_taken(self.peers(), name)
        keys.write_key(path or self.key_path(name), key)
        self.authorize(replace(peer, public=key.public))
        return key

    # ------------------------------------------------------------------------------------------- who may come

    def peers(self) -> list[Authorized]:
        """Everybody in the file, the expired ones included. Raises ConfigError with the line that is wrong."""
        found: list[Authorized] = []
        path = self.folder / PEERS
        for number, line in enumerate(self._lines(PEERS), 1):
            peer = _parse_peer(line, f"{path}, line {number}")
            if peer is None:
                continue
            if any(peer.name == each.name or peer.public == each.public for each in found):
                raise ConfigError(f"{path}, line {number}: the name {peer.name!r} or its key is there twice")
            found.append(peer)
        return found

    def authorize(self, peer: Authorized) -> None:
        """Add a line. Raises ConfigError if the name is taken."""
        with self._locked():
            present = self.peers()
            self._refuse_taken(present, peer.name)
            self._replace(PEERS, self._header() + "".join(_line_of(each) for each in [*present, peer]))

    def revoke(self, name: str) -> Authorized:
        """Take a peer's line away. Raises ConfigError if there is none."""
        with self._locked():
            present = self.peers()
            gone = [each for each in present if each.name == name]
            if not gone:
                known = ", ".join(sorted(each.name for each in present)) or "nobody"
                raise ConfigError(f"no peer {name[:80]!r} is authorized; there are: {known}")
            self._replace(PEERS, self._header() + "".join(_line_of(each) for each in present if each.name != name))
        return gone[0]

    def _refuse_taken(self, present: Iterable[Authorized], name: str) -> None:
        if any(each.name == name for each in present):
            raise ConfigError(f"the name {name!r} is taken; choose another, or first: headway keys revoke {name}")

    # ------------------------------------------------------------------------------------------- who is invited

    def invite(
        self, url: str, role: str, name: str, lifetime: float, now: float, namespaces: tuple[str, ...] = ()
    ) -> Invitation:
        """Open an invitation for ``lifetime`` seconds; with a name, for that name only. ``now``: Unix seconds."""
        if role not in PEER_ROLES or role == "controller":
            raise ConfigError(
                f"role {role!r}; expected one of {', '.join(each for each in PEER_ROLES if each != 'controller')}"
            )
        if name:
            keys.check_name(name)
            self._refuse_taken(self.peers(), name)
        check_words(Authorized("", name, role, namespaces=namespaces))
        token = secrets.token_urlsafe(24)
        invited = Invited(_digest(token), role, name or ANY_NAME, now + lifetime, namespaces)
        with self._locked():
            self._write_invitations([*self.invitations(now), invited])
        return Invitation(url, self.broker_key().public, token, name)

    def invitations(self, now: float) -> list[Invited]:
        """Those that are open."""
        found = []
        for number, line in enumerate(self._lines(INVITATIONS), 1):
            parts = line.split()
            if not parts or parts[0] == "#":
                continue
            if len(parts) not in (4, 5) or not parts[3].startswith("expires="):
                raise ConfigError(f"{self.folder / INVITATIONS}, line {number}: expected HASH ROLE NAME expires=TIME")
            names = read_namespaces(parts[4].removeprefix("namespaces=")) if len(parts) == 5 else ()
            invited = Invited(parts[0], parts[1], parts[2], _parse_time(parts[3].removeprefix("expires=")), names)
            if invited.expires > now:
                found.append(invited)
        return found

    def redeem(self, token: str, public: str, name: str, now: float) -> Authorized:
        """Turn an invitation into a peer's line; it is used up then. Raises ConfigError, which says why not."""
        digest = _digest(token)
        with self._locked():
            still_open = self.invitations(now)
            found = next((each for each in still_open if each.digest == digest), None)
            if found is None:
                raise ConfigError("this invitation is not known, was used, or has expired; ask for another")
            if found.name not in (ANY_NAME, name):
                raise ConfigError(f"this invitation is for {found.name!r}")
            keys.check_name(name)
            if name == "controller":
                raise ConfigError("nobody is invited as 'controller'")
            present = self.peers()
            if any(each.name == name for each in present):
                raise ConfigError(f"the name {name!r} is taken; choose another with --name")
            peer = Authorized(public, name, found.role, 0.0, "invited", found.namespaces)
            # First the invitation: should this process die in between, it is lost and not good for a second key.
            self._write_invitations([each for each in still_open if each is not found])
            self._replace(PEERS, self._header() + "".join(_line_of(each) for each in [*present, peer]))
        return peer

    def _write_invitations(self, invited: Iterable[Invited]) -> None:
        lines = (
            f"{each.digest} {each.role} {each.name} expires={_time_text(each.expires)}"
            f"{_namespaces_text(each.namespaces)}\n"
            for each in invited
        )
        self._replace(INVITATIONS, "".join(lines))

    # ------------------------------------------------------------------------------------------- files

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when one of the lists does: times of change, sizes and inodes."""
        found = []
        for name in (PEERS, INVITATIONS):
            try:
                status = (self.folder / name).stat()
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except FileNotFoundError:
                found.append((0, 0, 0))
        return tuple(found)

    def _lines(self, name: str) -> list[str]:
        try:
            with (self.folder / name).open(encoding="utf-8") as file:
                # Who may write the list, or replace it, decides who may come.
                for path, status in ((self.folder, self.folder.stat()), (file.name, os.fstat(file.fileno()))):
                    if sys.platform != "win32" and status.st_mode & 0o022:
                        raise ConfigError(f"{path}: others may write it; do: chmod go-w {path}")
                return file.read().splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.folder / name}: cannot be read: {error}") from None

    def _header(self) -> str:
        return HEADER.format(roles=", ".join(PEER_ROLES))

    def _replace(self, name: str, text: str) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.folder)  # mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self.folder / name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder}: no keys of a bus are here; do: headway keys init")
        with os.fdopen(os.open(self.folder / LOCK, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            if sys.platform != "win32":
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def usable(peers: Iterable[Authorized], now: float) -> dict[str, Authorized]:
    """By public key, those that have not expired at ``now`` (Unix seconds)."""
    return {peer.public: peer for peer in peers if not peer.expires or peer.expires > now}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _parse_peer(line: str, where: str) -> Authorized | None:
    words, _, comment = f" {line.strip()} ".partition(" # ")
    parts = words.split()
    if not parts or (parts[0].startswith("#") and not keys.is_public_key(parts[0])):
        return None
    if len(parts) < 3 or not keys.is_public_key(parts[0]):
        raise ConfigError(
            f"{where}: expected PUBLIC-KEY NAME ROLE, then namespaces=A,B, expires=TIME, labels=K=V and # COMMENT if wanted"
        )
    public, name, role, *rest = parts
    if not keys.NAME.fullmatch(name) or (name == "controller") != (role == "controller"):
        raise ConfigError(f"{where}: name {name[:80]!r} cannot be that of a {role[:20]}")
    if role not in PEER_ROLES:
        raise ConfigError(f"{where}: role {role[:20]!r}; expected one of {', '.join(PEER_ROLES)}")
    expires = 0.0
    namespaces: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    for word in rest:
        key, equals, value = word.partition("=")
        try:
            if key == "expires" and equals:
                expires = _parse_time(value)
            elif key == "namespaces" and equals:
                namespaces = read_namespaces(value)
            elif key == "labels" and equals:
                labels = read_labels(value.split(","))
            else:
                raise ConfigError(
                    f"{word[:40]!r}; expected namespaces=A,B, expires=TIME, labels=K=V, or # before a comment"
                )
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    peer = Authorized(public, name, role, expires, comment.strip(), namespaces, labels)
    try:
        check_words(peer)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return peer


def check_words(peer: Authorized) -> None:
    """Raises ConfigError where namespaces or labels are given to somebody for whom they mean nothing."""
    read_namespaces(",".join(peer.namespaces))
    if peer.namespaces and peer.role not in ("read", "client"):
        raise ConfigError(f"namespaces are for the roles read and client; a {peer.role} serves, or sees, all of them")
    if peer.labels and peer.role not in ("runtime", "edge"):
        raise ConfigError(f"labels are for the roles runtime and edge, not for a {peer.role}")


def read_labels(words: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``k=v`` each. Raises ConfigError."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not LABEL.fullmatch(key) or not LABEL.fullmatch(value):
            raise ConfigError(
                f"label {word[:40]!r}: expected KEY=VALUE, each of up to 64 letters, digits, '.', '_', '-', '/'"
            )
        found[key] = value
    return tuple(found.items())


def _namespaces_text(namespaces: tuple[str, ...]) -> str:
    return f" namespaces={','.join(namespaces)}" if namespaces else ""


def _line_of(peer: Authorized) -> str:
    expires = f" expires={_time_text(peer.expires)}" if peer.expires else ""
    comment = " ".join(peer.comment.split())
    namespaces = _namespaces_text(peer.namespaces)
    labels = f" labels={','.join(f'{key}={value}' for key, value in peer.labels)}" if peer.labels else ""
    return f"{peer.public} {peer.name} {peer.role}{namespaces}{expires}{labels}{f' # {comment}' if comment else ''}\n"


def _time_text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_time(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"time {text[:40]!r}; expected something like 2030-01-31T12:00:00Z") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
