"""Namespaces: whose tasks somebody may see and submit, and how the broker vouches for that to the controller.

A key's line in ``authorized_peers`` names them: ``namespaces=physics`` or ``namespaces=physics,astronomy`` (the first is where
its tasks go if they name none), or ``*`` for all. A client without any has the default one, whose name is empty; an
administrator, and everybody on a bus without keys, has all.

What the broker forwards to the controller carries its sender's name as source; for those who have not all namespaces, a NUL
and theirs behind it. No peer writes that frame, so nothing that a peer says changes it.
"""

from __future__ import annotations

import re

from headway_bus.errors import ConfigError

Scope = tuple[str, ...] | None
"""The namespaces of a peer; None: all of them."""

DEFAULT = ""
ALL = "*"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
MOST = 32
"""Namespaces of one key."""

SEPARATOR = "\0"


def read_namespaces(text: str) -> tuple[str, ...]:
    """``a,b`` as a key's line has it; ``*``: all. Raises ConfigError."""
    names = tuple(each.strip() for each in text.split(",")) if text else ()
    if names == (ALL,):
        return names
    if len(names) > MOST or len(set(names)) != len(names):
        raise ConfigError(f"namespaces {text[:80]!r}: expected at most {MOST}, each once")
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"namespace {name[:40]!r}: expected up to 32 letters, digits, '.', '_', '-', or '*' alone for all of them"
            )
    return names


def scope_of(role: str, namespaces: tuple[str, ...]) -> Scope:
    """What a key with these rights and namespaces has."""
    if role not in ("read", "client") or namespaces == (ALL,):
        return None
    return namespaces or (DEFAULT,)


def vouched(name: bytes, scope: Scope) -> bytes:
    """The source of a message as the controller is given it."""
    return name if scope is None else name + f"{SEPARATOR}{','.join(scope)}".encode()


def read_source(source: bytes) -> tuple[str, Scope]:
    """The other way: a peer's name and what the broker says it has."""
    name, separator, names = source.decode("utf-8", "replace").partition(SEPARATOR)
    return name, tuple(names.split(",")) if separator else None


def may_see(scope: Scope, namespace: str) -> bool:
    """Whether what is in that namespace is any business of somebody who has these."""
    return scope is None or namespace in scope


def topic_in(namespace: str, topic: str) -> str:
    """How a topic is called, between broker and controller only, for those who have this namespace and not all."""
    return f"{namespace}{SEPARATOR}{topic}"
