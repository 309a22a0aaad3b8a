"""From a key to a name and a role. What a peer says of itself counts only where it agrees with its key."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from headway_broker.permissions import CLIENT_ROLES
from headway_bus.keyring import Authorized
from headway_bus.messages import Hello
from headway_bus.namespaces import Scope, scope_of
from headway_bus.records import Code


class Identity(NamedTuple):
    """Who somebody is, for the bus."""

    name: str
    role: str
    scope: Scope = None


class Refusal(NamedTuple):
    """Why it is nobody."""

    code: Code
    text: str


def identify(
    authorized: Mapping[str, Authorized],
    key: str,
    hello: Hello,
    instance_of: Callable[[str], bytes | None],
    per_key: int,
) -> Identity | Refusal:
    """Who says this hello. ``instance_of``: who is connected under a name; ``per_key``: the most connections of a client.

    A client may be connected several times with one key, a terminal each: as ``alice``, ``alice.2``, ``alice.3`` …
    """
    who = authorized.get(key)
    if who is None:
        return Refusal(Code.FORBIDDEN, "the broker does not know this key: it was revoked, or has expired")
    is_client = who.role in CLIENT_ROLES
    if hello.role != who.role and not (is_client and hello.role == "client"):
        return Refusal(
            Code.FORBIDDEN, f"this key is {who.name!r}, of the role {who.role}; it cannot be used as {hello.role[:20]}"
        )
    if hello.name and not is_name_of(who, hello.name):
        text = f"this key is that of {who.name!r}; expected this name or none, not {hello.name[:80]!r}"
        return Refusal(Code.FORBIDDEN, text)
    if not is_client:
        return Identity(who.name, who.role)
    name = hello.name or who.name
    others = {each.name for each in authorized.values()} - {who.name}
    numbers = itertools.count(2)
    taken = 0
    while taken < per_key:
        if name not in others:
            if instance_of(name) in (None, hello.instance):
                return Identity(name, who.role, scope_of(who.role, who.namespaces))
            taken += 1
        name = f"{who.name}.{next(numbers)}"
    return Refusal(Code.LIMIT, f"{per_key} connections with the key of {who.name!r}")


def is_still(who: Authorized, name: str, role: str, scope: Scope) -> bool:
    """Whether somebody who came with this key is by now's list who they were then."""
    return who.role == role and scope_of(who.role, who.namespaces) == scope and is_name_of(who, name)


def is_name_of(who: Authorized, name: str) -> bool:
    """Whether that is this peer's name: its key's, for a client also with a number behind it."""
    if name == who.name:
        return True
    start, _, number = name.rpartition(".")
    return who.role in CLIENT_ROLES and start == who.name and number.isascii() and number.isdigit()
