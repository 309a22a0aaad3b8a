"""Functions that an edge agent's plugin offers: ``@headway.on_message``. Kept here, for the client and the agent to meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

MessageHandler = Callable[[Any], Any]
Handler = TypeVar("Handler", bound=MessageHandler)

handlers: list[MessageHandler] = []
"""In the order in which they were marked."""


def on_message(function: Handler) -> Handler:
    """Mark a function of a plugin to be called with every message that a client tells this edge (``bus.tell``).

    The plugin is a module that the agent's setting ``edge.plugins`` names. What the function returns goes back to whoever told;
    what it raises is the end of that message's task.
    """
    handlers.append(function)
    return function
