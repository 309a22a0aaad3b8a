"""The HTTP server of a running batch, where its file asks for one: on loopback open, anywhere else with a token.

It is the standard library's, in threads of its own: a few calls an hour, and no dependency for them.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from headway.batch.answers import Answer
from headway.batch.config import Server
from headway.batch.errors import BatchFileError

Answering = Callable[[str, str], Answer]
IDLE_SECONDS = 10.0
"""A connection that says nothing for so long is closed."""


@dataclass(frozen=True)
class Portal:
    """Where the server is. ``token``: what a caller shows, empty on loopback."""

    url: str
    token: str


@contextmanager
def serving(server: Server, source: str, answer: Answering) -> Iterator[Portal]:
    """Serve while the block runs. Raises BatchFileError if the address cannot be had."""
    try:
        address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        token = "" if ipaddress.ip_address(address[4][0]).is_loopback else secrets.token_urlsafe(24)
        made = _HttpServer(address, answer, token)
    except OSError as error:
        raise BatchFileError(
            f"{source}: server: cannot listen at {server.host}, port {server.port}: {error.strerror}; expected an address of "
            "this machine and a port that is free"
        ) from None
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.1}, name="headway-batch-http")
    thread.start()
    try:
        host = f"[{server.host}]" if ":" in server.host else server.host
        yield Portal(f"http://{host}:{made.server_address[1]}", token)
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_port = False

    def __init__(self, address: tuple[Any, ...], answer: Answering, token: str) -> None:
        self.address_family = address[0]
        self.answer = answer
        self.token = token
        super().__init__(address[4], _Handler)

    def server_bind(self) -> None:
        """Without the look-up of this machine's full name that the library does here, and nobody reads."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


class _Handler(BaseHTTPRequestHandler):
    timeout = IDLE_SECONDS
    server: _HttpServer

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        answer = self._refusal() or self.server.answer(method, urlsplit(self.path).path)
        kind, content = answer.content
        self.send_response(answer.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refusal(self) -> Answer | None:
        """Without the token nothing; and nothing for a page in somebody's browser, which says where it comes from."""
        if self.server.token:
            shown = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(shown.encode(), self.server.token.encode()):
                return Answer(HTTPStatus.UNAUTHORIZED, {"code": -1, "data": "expected Authorization: Bearer TOKEN"})
        if self.headers.get("Origin") or not self._names_this_host():
            return Answer(HTTPStatus.FORBIDDEN, {"code": -1, "data": "not for pages of other sites"})
        return None

    def _names_this_host(self) -> bool:
        """A name that an attacker made lead to loopback is not among these."""
        named = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if named == "localhost" or self.server.token:
            return True
        try:
            return ipaddress.ip_address(named).is_loopback
        except ValueError:
            return False

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the run's own output is not to be mixed with a line for each call."""
