"""The connection to a machine: whom to be there, which key to trust, and what went wrong in words."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headway.batch.config import Connection
from headway.batch.errors import BatchError
from headway.batch.remote.errors import MachineError, MachineRefused
from headway_bus.logs import get_logger

CONNECT_PATIENCE = 15.0
"""Seconds until the machine answers, and again until it has let us in."""

KEEPALIVE = 5.0
"""Seconds between questions whether the other side is still there; three without an answer end the connection."""

NOBODY: Any = ([], [], [])
"""Known hosts that vouch for no key, so that each is asked about. asyncssh takes what is empty for "the usual file"."""

log = get_logger("headway.batch")


def check_installed() -> None:
    """Raises BatchError if the library is not there."""
    try:
        import asyncssh  # noqa: F401
    except ModuleNotFoundError:
        raise BatchError("machines over SSH need asyncssh: pip install 'headway[ssh]'") from None


@asynccontextmanager
async def connected(place: Connection, accept_new: bool) -> AsyncIterator[Any]:
    """An open connection. Raises MachineError if it cannot be had now, MachineRefused if that will not change."""
    import asyncssh

    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        asyncssh.set_log_level(logging.WARNING)  # it says a dozen lines about every connection
    judge = _Judge(place, accept_new)

    def client() -> Any:
        class Client(asyncssh.SSHClient):
            def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
                return judge.trusts(host, addr, port, key)

        return Client()

    try:
        connection = await asyncssh.connect(place.hostname, client_factory=client, **options_of(place))
    except asyncssh.HostKeyNotVerifiable as error:
        raise MachineRefused(judge.words or f"its host key is not trusted: {error}") from None
    except asyncssh.PermissionDenied as error:
        raise MachineRefused(f"it does not let {place.username or 'this user'} in: {error}") from None
    except asyncssh.KeyImportError as error:
        raise MachineRefused(
            f"the key {place.ssh_rsa_file or '(of the SSH configuration)'} cannot be read: {error}"
        ) from None
    except asyncssh.ConfigParseError as error:
        raise MachineRefused(f"the SSH configuration cannot be read: {error}") from None
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise MachineError(f"it cannot be reached: {error or type(error).__name__}") from None
    try:
        yield connection
    finally:
        connection.close()
        try:
            async with asyncio.timeout(2.0):
                await connection.wait_closed()
        except (TimeoutError, OSError, asyncssh.Error):
            connection.abort()


def options_of(place: Connection) -> dict[str, Any]:
    """What asyncssh is told; what is not told it reads in ``~/.ssh/config``, and then assumes."""
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_PATIENCE,
        "login_timeout": CONNECT_PATIENCE,
        "keepalive_interval": KEEPALIVE,
        "keepalive_count_max": 3,
    }
    named = {"username": place.username, "password": place.password, "port": place.port, "passphrase": place.passphrase}
    options |= {name: value for name, value in named.items() if value is not None}
    if place.ssh_rsa_file:
        path = Path(place.ssh_rsa_file).expanduser()
        if not path.is_file():
            raise MachineRefused(f"ssh_rsa_file {place.ssh_rsa_file!r} does not exist; expected a private key")
        options["client_keys"] = [str(path)]
    if place.host_key:
        # The key that the batch file names is the only one: what a file of known hosts says besides does not count.
        options["known_hosts"] = NOBODY
    elif place.known_hosts:
        # A file that is not there yet knows nobody; asyncssh would call it an error.
        path = Path(place.known_hosts).expanduser()
        options["known_hosts"] = str(path) if path.exists() else NOBODY
    return options


class _Judge:
    """Whether a key that no known_hosts file vouches for is trusted. ``words``: why not."""

    def __init__(self, place: Connection, accept_new: bool) -> None:
        self._place = place
        self._accept_new = accept_new
        self.words = ""

    def trusts(self, host: str, addr: str, port: int, key: Any) -> bool:
        shown, wanted = key.get_fingerprint(), self._place.host_key
        if wanted:
            if shown == wanted:
                return True
            self.words = f"its host key is {shown}, and the batch file expects {wanted}"
            return False
        file = Path(self._place.known_hosts or "~/.ssh/known_hosts").expanduser()
        if self._knows_another(file, host, addr, port):
            self.words = (
                f"its host key is {shown}, and {file} has another one: the machine was set up anew, or somebody stands in "
                f"between. If it is right: ssh-keygen -R {known_name(host, port)}"
            )
            return False
        if self._accept_new:
            return self._accept(file, host, port, key, shown)
        self.words = (
            f"its host key {shown} is not in {file}. If it is right, run once with --accept-new-hosts, or ssh to it once, or "
            f'give the batch file "host_key": "{shown}" beside the hostname'
        )
        return False

    def _knows_another(self, file: Path, host: str, addr: str, port: int) -> bool:
        import asyncssh

        if not file.exists():
            return False
        try:
            return bool(asyncssh.match_known_hosts(str(file), host, addr, port)[0])
        except (OSError, ValueError):
            return False

    def _accept(self, file: Path, host: str, port: int, key: Any, shown: str) -> bool:
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            line = f"{known_name(host, port)} {key.export_public_key().decode().strip()}\n"
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w") as out:
                out.write(line)
        except OSError as error:
            self.words = f"its host key {shown} cannot be kept in {file}: {error.strerror}"
            return False
        log.warning("a new host key is trusted from now on", host=known_name(host, port), key=shown, file=str(file))
        return True


def known_name(host: str, port: int) -> str:
    """How a known_hosts file calls it."""
    return host if port == 22 else f"[{host}]:{port}"
