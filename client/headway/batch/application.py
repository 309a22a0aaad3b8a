"""The documented calls of a batch as an ASGI application, which any server runs and any other application can mount.

The rules of what is answered are in ``answers``; here are the way in and who is let in.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headway.batch.answers import Answer

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

Answering = Callable[[str, str], Answer]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def application(answer: Answering, token: str = "") -> Starlette:
    """The application. ``answer``: from method and path to an answer; it may block. ``token``: what a caller shows, if any."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    def endpoint(request: Request) -> Response:  # not async: killing a job takes a moment, so it gets a thread
        said = refusal(request.headers, token) or answer(request.method, path_of(request.scope))
        kind, content = said.content
        return Response(content, status_code=said.status, headers={"Content-Type": kind})

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=METHODS)])


def path_of(scope: Any) -> str:
    """The path below where the application is mounted, as it was sent: a slash within a job's name is told from others."""
    raw = scope.get("raw_path") or scope["path"].encode()
    path = urlsplit(raw.decode("latin-1")).path
    return str(path.removeprefix(scope.get("root_path", "")))


def refusal(headers: Any, token: str) -> Answer | None:
    """Without the token nothing; and nothing for a page in somebody's browser, which says where it comes from."""
    if token:
        shown = headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(), token.encode()):
            return Answer(HTTPStatus.UNAUTHORIZED, {"code": -1, "data": "expected Authorization: Bearer TOKEN"})
    if headers.get("Origin") or not (token or names_this_host(headers.get("Host", ""))):
        return Answer(HTTPStatus.FORBIDDEN, {"code": -1, "data": "not for pages of other sites"})
    return None


def names_this_host(named: str) -> bool:
    """A name that an attacker made lead to loopback is not among these."""
    try:
        host = urlsplit(f"//{named}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
