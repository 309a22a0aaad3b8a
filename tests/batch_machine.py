"""A machine with an SSH server: asyncssh's own on a port of loopback, with a home folder and a login of its own.

The server is a process: ``python batch_machine.py PLAN`` serves, what the rest of this file starts, breaks and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

PASSWORD = "open sesame"


class Machine:
    """``key``: a public key that is let in beside the password; ``forwards``: whether it forwards sockets."""

    def __init__(self, home: Path, key: Path | None = None, forwards: bool = True) -> None:
        self.home = home
        self.port = 0
        self._key = key
        self._forwards = forwards
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._process: subprocess.Popen[bytes] | None = None
        for folder in (home, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        self._host_key.write_private_key(home / "host_key")

    @property
    def temporary(self) -> Path:
        """The machine's own /tmp."""
        return self.home / "tmp"

    @property
    def fingerprint(self) -> str:
        return str(self._host_key.get_fingerprint())

    def connection(self, **fields: Any) -> dict[str, Any]:
        """The connection as a batch file has it."""
        return {
            "hostname": "127.0.0.1",
            "port": self.port,
            "username": "someone",
            "host_key": self.fingerprint,
        } | fields

    def listen(self) -> None:
        """Take connections, at the same port as before."""
        plan = {"home": str(self.home), "port": self.port, "forwards": self._forwards}
        plan["key"] = str(self._key) if self._key else None
        self._process = subprocess.Popen([sys.executable, __file__, json.dumps(plan)], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def break_down(self) -> None:
        """Take no connections, and break those that there are."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def machine(home: Path, **options: Any) -> Iterator[Machine]:
    """A machine for a while."""
    made = Machine(home, **options)
    try:
        made.listen()
        yield made
    finally:
        made.break_down()


def server_class(forwards: bool) -> type[asyncssh.SSHServer]:
    class Server(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("someone", PASSWORD)

        def unix_server_requested(self, listen_path: str) -> bool:
            return forwards

    return Server


async def serve(plan: dict[str, Any]) -> None:
    home = Path(plan["home"])

    async def run(process: Any) -> None:
        """What sshd does with a command: the login shell gets it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWAY_", "PYTHON"))}
        running = subprocess.Popen(  # noqa: ASYNC220 - asyncssh reads a process that is not asyncio's
            ["/bin/sh", "-c", process.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**kept, "HOME": str(home), "TMPDIR": str(home / "tmp"), "TEST_MACHINE": str(home)},
            cwd=home,
            start_new_session=True,
            bufsize=0,
        )
        await process.redirect(stdin=running.stdin, stdout=running.stdout, stderr=running.stderr)
        status = await asyncio.to_thread(running.wait)
        with contextlib.suppress(OSError, asyncssh.Error):
            process.exit(status if status >= 0 else 1)

    server = await asyncssh.create_server(
        server_class(plan["forwards"]),
        "127.0.0.1",
        plan["port"],
        server_host_keys=[str(home / "host_key")],
        authorized_client_keys=plan["key"],
        process_factory=run,
        encoding=None,
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
