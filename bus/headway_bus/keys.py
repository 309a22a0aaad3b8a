"""Key files: one peer's key pair, kept by its owner alone, and how a socket is given it.

A key file is TOML with the peer's ``name`` and ``role``, its ``public`` and ``secret`` key, and ``broker``, the broker's
public key, by which the peer knows that it speaks to the right one. Keys are CurveZMQ's, 40 characters of Z85 each. What
others may do with a file decides whether it is read at all, as ssh does with its own.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import zmq

from headway_bus.errors import BusError, ConfigError

KEY_CHARACTERS = 40
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
BROKER_ROLE = "broker"
PEER_ROLES = ("read", "client", "admin", "runtime", "edge", "controller")
"""The roles that a key can have. ``client`` may submit and change tasks, ``read`` may look, ``admin`` may all of it."""

MAX_FILE_BYTES = 16_384

Prepare = Callable[["zmq.Socket[bytes]"], None]
"""What gives a socket its keys, before it connects."""

_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key pair and whose it is. The secret half is in no ``repr``, so in no log and no error text."""

    name: str
    role: str
    public: str
    secret: str = field(repr=False)
    broker: str = ""
    """The broker's public key; empty in the broker's own file."""


def make_key(name: str, role: str, broker: str = "") -> Key:
    """A new key pair. Raises ConfigError for a name or role that cannot be."""
    check_name(name)
    if role not in (*PEER_ROLES, BROKER_ROLE):
        raise ConfigError(f"role {role!r}; expected one of {', '.join(PEER_ROLES)}")
    if (name == "controller") != (role == "controller"):
        raise ConfigError(f"name {name!r} with role {role!r}; the controller, and only it, is called 'controller'")
    if not zmq.has("curve"):
        raise BusError("this ZeroMQ was built without CURVE; install the wheel of pyzmq, which has it")
    public, secret = zmq.curve_keypair()
    return Key(name, role, public.decode(), secret.decode(), broker)


def check_name(name: str) -> None:
    """Raise ConfigError unless a peer can be called that."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"name {name[:80]!r}; expected up to 64 letters, digits, '.', '_', '-', the first a letter or digit"
        )


def is_public_key(text: str) -> bool:
    """Whether that can be a public key: 40 characters of Z85."""
    return _Z85.fullmatch(text) is not None


def write_key(path: Path, key: Key) -> None:
    """Write a key file that only its owner can read. Raises ConfigError if there is a file already: it may be in use."""
    lines = [
        "# A key of headway. Whoever can read this file can be this peer: keep it to yourself.",
        *(f'{name} = "{value}"' for name, value in _fields(key) if value),
    ]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path}: there is a key already; delete it, or choose another name") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _fields(key: Key) -> list[tuple[str, str]]:
    return [
        ("name", key.name),
        ("role", key.role),
        ("public", key.public),
        ("secret", key.secret),
        ("broker", key.broker),
    ]


def load_key(path: str | Path) -> Key:
    """Read a key file. Raises ConfigError if it is not there, is not a key, or could be read by somebody else."""
    file = Path(path).expanduser()
    try:
        values = tomllib.loads(_read_private(file))
    except OSError as error:
        raise ConfigError(f"{file}: the key file cannot be read: {error.strerror}") from None
    except ValueError:
        # tomllib quotes what it stumbles over, and that may be half of a secret.
        raise ConfigError(f"{file}: not a key file; expected the TOML that `headway keys new` writes") from None
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    missing = [name for name in ("name", "role", "public", "secret") if not texts.get(name)]
    if missing:
        raise ConfigError(f"{file}: no {', '.join(missing)} in this key file; expected what `headway keys new` writes")
    key = Key(texts["name"], texts["role"], texts["public"], texts["secret"], texts.get("broker", ""))
    if not all(is_public_key(each) for each in (key.public, key.secret, key.broker or key.public)):
        raise ConfigError(f"{file}: a key is {KEY_CHARACTERS} characters of Z85; one of these is not")
    if zmq.curve_public(key.secret.encode()).decode() != key.public:
        raise ConfigError(f"{file}: public and secret are not halves of one key")
    return key


def _read_private(file: Path) -> str:
    """The text of a file that belongs to us and that nobody else can read. Looks at what was opened, not at the name."""
    with file.open("rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{file}: not a regular file")
        if sys.platform != "win32":
            if found.st_uid not in (os.getuid(), 0):
                raise ConfigError(f"{file}: belongs to another user (id {found.st_uid}); a key must be its user's own")
            if found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise ConfigError(f"{file}: others may read it (mode {mode:04o}); do: chmod 600 {file}")
        if found.st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file}: {found.st_size} bytes are no key file")
        return opened.read().decode("utf-8", "strict")


# ------------------------------------------------------------------------------------------------------ on the way


def is_local(url: str) -> bool:
    """Whether the address can be reached from this machine only. Raises BusError for what is no address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme in ("ipc", "inproc"):
        return True
    if parts.scheme != "tcp" or not host:
        raise BusError(f"address {url!r}: expected tcp://127.0.0.1:PORT or ipc:///path/of/socket")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(key_file: str, url: str) -> Key | None:
    """The key that a peer shows at that address; None where none is needed. Raises ConfigError where one is missing."""
    if key_file:
        key = load_key(key_file)
        if not key.broker:
            raise ConfigError(
                f"{key_file}: no `broker` in it, the broker's public key; a broker's own key is for no peer"
            )
        return key
    if is_local(url):
        return None
    raise ConfigError(
        f"{url} is beyond this machine, so a key is needed: --key-file, $HEADWAY_KEY_FILE, or key_file under [bus] in "
        "config.toml. On the broker's machine, `headway keys new NAME` makes one and `headway keys invite` invites"
    )


def prepare_with(key: Key | None) -> Prepare | None:
    """What makes a socket use the key."""
    if key is None:
        return None

    def prepare(socket: zmq.Socket[bytes]) -> None:
        socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        socket.set(zmq.CURVE_SERVERKEY, key.broker.encode())

    return prepare
