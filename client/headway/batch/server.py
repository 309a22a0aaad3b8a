"""The HTTP server of a running batch, where its file asks for one: on loopback open, anywhere else with a token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headway.batch.application import Answering, application
from headway.batch.config import Server
from headway.batch.errors import BatchFileError

IDLE_SECONDS = 10
"""A connection that says nothing for so long is closed."""

WAITING_CONNECTIONS = 128


@dataclass(frozen=True)
class Portal:
    """Where the server is. ``token``: what a caller shows, empty on loopback."""

    url: str
    token: str


@contextmanager
def serving(server: Server, source: str, answer: Answering) -> Iterator[Portal]:
    """Serve while the block runs. Raises BatchFileError if the address cannot be had, or there is nothing to serve with."""
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ModuleNotFoundError:
        raise BatchFileError(
            f"{source}: server: needs starlette and uvicorn: pip install 'headway[http]' (or leave it out: no job needs it)"
        ) from None
    with _listening(server, source) as (listener, is_loopback):
        token = "" if is_loopback else secrets.token_urlsafe(24)
        settings = uvicorn.Config(
            application(answer, token),
            log_config=None,  # the run's own output is not to be mixed with a line for each call
            log_level="error",
            access_log=False,
            server_header=False,
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=1,
        )
        made = uvicorn.Server(settings)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]}, name="headway-batch-http")
        thread.start()
        try:
            host = f"[{server.host}]" if ":" in server.host else server.host
            yield Portal(f"http://{host}:{listener.getsockname()[1]}", token)
        finally:
            made.should_exit = True
            thread.join()


@contextmanager
def _listening(server: Server, source: str) -> Iterator[tuple[socket.socket, bool]]:
    """The socket, listening already, so that no call comes too early; and whether it is on loopback."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[
            0
        ]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(WAITING_CONNECTIONS)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise BatchFileError(
            f"{source}: server: cannot listen at {server.host}, port {server.port}: {error.strerror}; expected an address of "
            "this machine and a port that is free"
        ) from None
    with listener:
        yield listener, ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
