"""Edges that are known, whether or not they are there: what a controller that is started anew still lists. Pure."""

from __future__ import annotations

import msgspec

from headway_bus.records import Record, RuntimeInfo
from headway_controller.state import ControllerState, Runtime

EDGES_STATE = "edges"
"""The name under which the store keeps them."""


class KnownEdge(Record, frozen=True):
    """``seen``, ``since``: Unix time by the controller's clock."""

    info: RuntimeInfo
    seen: float
    since: float


def pack_edges(state: ControllerState, wall_offset: float) -> bytes:
    """What is to be stored of all edges."""
    known = [
        KnownEdge(each.info, each.seen + wall_offset, each.since + wall_offset)
        for each in state.runtimes.values()
        if each.info.edge
    ]
    return msgspec.msgpack.encode(known)


def restore_edges(state: ControllerState, stored: bytes | None, wall_offset: float) -> None:
    """List them as offline until they register."""
    for known in msgspec.msgpack.decode(stored, type=list[KnownEdge]) if stored else []:
        name = known.info.name
        if name not in state.runtimes:
            seen, since = known.seen - wall_offset, known.since - wall_offset
            state.runtimes[name] = Runtime(known.info, b"", seen, since, "offline", why="not heard since a restart")
