"""A machine with an SSH server: asyncssh's own on a port of loopback, in a thread, with a home folder and logins of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh

PASSWORD = "open sesame"


class Machine:
    """``users``: who may come in, and with what password; ``key``: a public key that is let in as well."""

    def __init__(self, home: Path, key: Path | None = None, forwards: bool = True) -> None:
        self.home = home
        self.connections = 0
        self.lines: list[str] = []
        self._key = key
        self._forwards = forwards
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._server: Any = None
        self._open: set[Any] = set()
        self.port = 0
        for folder in (home, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)

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

    def start(self) -> Machine:
        self._thread.start()
        self.listen()
        return self

    def listen(self) -> None:
        """Take connections, at the same port as before."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Take no more connections, and break those that there are."""
        self._do(self._close())

    def stop(self) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        machine = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: Any) -> None:
                machine.connections += 1
                machine._open.add(conn)

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == ("someone", PASSWORD)

            def unix_server_requested(self, listen_path: str) -> bool:
                return machine._forwards

        self._server = await asyncssh.create_server(
            Server,
            "127.0.0.1",
            self.port,
            server_host_keys=[self._host_key],
            authorized_client_keys=str(self._key) if self._key else None,
            process_factory=self._run,
            encoding=None,
            sftp_factory=None,
        )
        self.port = self._server.get_port()

    async def _close(self) -> None:
        self._server.close()
        for connection in self._open:
            connection.abort()
        self._open.clear()
        await self._server.wait_closed()
        own = asyncio.current_task()
        await asyncio.gather(*(each for each in asyncio.all_tasks() if each is not own), return_exceptions=True)

    async def _run(self, process: Any) -> None:
        """What sshd does with a command: the login shell gets it."""
        self.lines.append(process.command)
        environment = {**os.environ, "HOME": str(self.home), "TMPDIR": str(self.temporary)}
        for name in [name for name in environment if name.startswith("HEADWAY_") and name != "HEADWAY_TEST_MARK"]:
            del environment[name]
        running = subprocess.Popen(
            ["/bin/sh", "-c", process.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self.home,
            start_new_session=True,
            bufsize=0,
        )
        await process.redirect(stdin=running.stdin, stdout=running.stdout, stderr=running.stderr)
        status = await asyncio.to_thread(running.wait)
        with suppress(OSError, asyncssh.Error):
            process.exit(status if status >= 0 else 1)


@contextmanager
def machine(home: Path, **options: Any) -> Iterator[Machine]:
    """A machine for a while."""
    made = Machine(home, **options).start()
    try:
        yield made
    finally:
        made.stop()
