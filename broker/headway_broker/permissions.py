"""Who may say what to whom: one table, made from the unions in :mod:`headway_bus.messages`.

The broker reads only a message's name, never its content, so the table speaks of roles and names.
"""

from __future__ import annotations

from types import UnionType
from typing import get_args

from headway_bus import messages

ROLES = frozenset({"client", "admin", "runtime", "edge", "controller"})
"""The roles that a peer can ask for in its hello."""


def names_in(union: UnionType) -> frozenset[str]:
    """The wire names of a union's messages."""
    return frozenset(messages.tag_of(each.__name__) for each in get_args(union))


ASK_CONTROLLER = names_in(messages.ClientToController)
TELL_CONTROLLER = names_in(messages.RuntimeToController)
TELL_CLIENT = names_in(messages.ControllerToClient)
TELL_RUNTIME = names_in(messages.ControllerToRuntime)

ALLOWED: dict[tuple[str, str], frozenset[str]] = {
    ("client", "controller"): ASK_CONTROLLER,
    ("admin", "controller"): ASK_CONTROLLER,
    ("runtime", "controller"): TELL_CONTROLLER,
    ("edge", "controller"): TELL_CONTROLLER,
    ("controller", "client"): TELL_CLIENT,
    ("controller", "admin"): TELL_CLIENT,
    ("controller", "runtime"): TELL_RUNTIME,
    ("controller", "edge"): TELL_RUNTIME,
}
"""(role of the sender, role of the receiver) → the names it may send. What is not here is refused."""

MAY_SUBSCRIBE = frozenset({"client", "admin"})
MAY_PUBLISH = frozenset({"controller"})
