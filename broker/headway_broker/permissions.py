"""Who may say what to whom: one table, made from the unions in :mod:`headway_bus.messages`.

The broker reads only a message's name, never its content, so the table speaks of roles and names. docs/security.md shows
it, as ``docs/make_security.py`` prints it, and a test sends every message of every role to every kind of target.
"""

from __future__ import annotations

from types import UnionType
from typing import get_args

from headway_bus import messages

CLIENT_ROLES = frozenset({"read", "client", "admin"})
"""The roles of those who give work and look at it. With keys, a peer that says "client" has the one of its key."""

ROLES = CLIENT_ROLES | {"runtime", "edge", "controller"}
"""The roles that a peer can ask for in its hello."""


def names_in(union: UnionType) -> frozenset[str]:
    """The wire names of a union's messages."""
    return frozenset(messages.tag_of(each.__name__) for each in get_args(union))


def names_of(*kinds: type[messages.Message]) -> frozenset[str]:
    """The wire names of these messages."""
    return frozenset(messages.tag_of(each.__name__) for each in kinds)


READ_CONTROLLER = names_of(
    messages.Await,
    messages.Received,
    messages.AskTasks,
    messages.AskTask,
    messages.AskResult,
    messages.AskLogs,
    messages.AskJobs,
    messages.AskRuntimes,
    messages.AskQueues,
    messages.AskEstimate,
    messages.AskExplain,
    messages.AskController,
    messages.BlobGet,
)
"""What changes nothing."""

OPERATE_CONTROLLER = names_of(messages.DrainRuntime, messages.Control)
"""What concerns everybody's work."""

ASK_CONTROLLER = names_in(messages.ClientToController)
TELL_CONTROLLER = names_in(messages.RuntimeToController)
TELL_CLIENT = names_in(messages.ControllerToClient)
TELL_RUNTIME = names_in(messages.ControllerToRuntime)
ASK_BROKER = names_in(messages.ToBroker)

ALLOWED: dict[tuple[str, str], frozenset[str]] = {
    ("read", "controller"): READ_CONTROLLER,
    ("client", "controller"): ASK_CONTROLLER - OPERATE_CONTROLLER,
    ("admin", "controller"): ASK_CONTROLLER,
    ("runtime", "controller"): TELL_CONTROLLER,
    ("edge", "controller"): TELL_CONTROLLER,
    ("controller", "read"): TELL_CLIENT,
    ("controller", "client"): TELL_CLIENT,
    ("controller", "admin"): TELL_CLIENT,
    ("controller", "runtime"): TELL_RUNTIME,
    ("controller", "edge"): TELL_RUNTIME,
}
"""(rights of the sender, role of the receiver) → the names it may send. What is not here is refused."""

MAY_SUBSCRIBE = CLIENT_ROLES
MAY_PUBLISH = frozenset({"controller"})
MAY_ASK_BROKER = CLIENT_ROLES | {"controller"}

_KEEP_UP = names_of(messages.Hello, messages.Ping, messages.Bye)
_FOLLOW = names_of(messages.Subscribe, messages.Unsubscribe)
_ASK = names_of(messages.AskBroker)

TO_BROKER: dict[str, frozenset[str]] = {
    role: _KEEP_UP
    | (_FOLLOW if role in MAY_SUBSCRIBE else frozenset())
    | (_ASK if role in MAY_ASK_BROKER else frozenset())
    for role in sorted(ROLES)
}
"""Rights of the sender → the names that the broker itself takes from it."""


def rights_of(role: str, has_key: bool) -> str:
    """What a peer may do. Without keys whoever reaches the bus is this machine's user, whose bus it is."""
    return "admin" if role == "client" and not has_key else role
