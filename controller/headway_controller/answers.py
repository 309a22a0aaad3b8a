"""How a question is denied, and how long an answer may be: it may quote what was asked, and nobody reads one of megabytes."""

from __future__ import annotations

from headway_bus.errors import HeadwayError, Refused, StoreError
from headway_bus.messages import Changed, Denied, Message
from headway_bus.records import Code
from headway_controller.checks import MAX_TEXT

MAX_REFUSED = 10_000
"""Refused ones of a request that are named in its answer."""


def code_of(error: HeadwayError) -> Code:
    """What it is told as."""
    if isinstance(error, Refused):
        return Code(error.code)
    return Code.STORE if isinstance(error, StoreError) else Code.INVALID


def shortened(message: Message) -> Message:
    """The message, or as much of it as is sent."""
    if isinstance(message, Denied) and len(message.text) > MAX_TEXT:
        return Denied(message.request, message.code, message.text[:MAX_TEXT] + " …")
    if isinstance(message, Changed) and len(message.refused) > MAX_REFUSED:
        return Changed(message.request, message.count, message.refused[:MAX_REFUSED])
    return message
