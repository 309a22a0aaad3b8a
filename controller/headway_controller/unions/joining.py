"""The arguments of a merge, and of a round that is fed, from results in the store. Blocks on the disk: for a thread.

Values are joined as bytes and never decoded: the controller knows no type of the user's.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway_bus.errors import HeadwayError
from headway_bus.ids import TaskId, short_text
from headway_bus.payload_joints import list_call, replace_first
from headway_bus.records import Blob
from headway_controller.effects import Join
from headway_controller.state import Bytes, Value
from headway_controller.store import Store, StoredTask
from headway_controller.unions.unions import state_key
from headway_controller.values import INLINE_BYTES, size_of

MERGE_BYTES = 64 * 1024 * 1024
"""Bytes of values that an associative merge takes at once, unless two of them have more."""


def join(
    store: Store, call: Value | None, sources: Sequence[TaskId], is_divisible: bool, limit: int
) -> tuple[Value, int]:
    """The payload, and how many of the sources are in it.

    ``call`` None: a call with the list of the sources' results. Otherwise: this call with the one source's result as its
    first argument. ``is_divisible``: as many of the sources as are of reasonable size together, and the first two at least.
    Raises HeadwayError with the reason.
    """
    found = {each.task: each for each in store.find(list(sources))}
    values: list[Bytes] = []
    total = 0
    for source in sources:
        stored = found.get(source)
        if stored is None or stored.end is None:
            raise HeadwayError(f"the result of task {short_text(source)} is not in the store any more: it was purged")
        total += size_of(stored.end.result)
        if is_divisible and len(values) >= 2 and total > MERGE_BYTES:
            break
        if total > limit:
            raise HeadwayError(
                f"the results of {len(values) + 1} edges are {total} bytes together, and {limit} is the limit of one "
                "value (setting bus.payload_limit); a merge that is associative takes them a few at a time"
            )
        values.append(_bytes_of(store, stored.end.result))
    payload = list_call(values) if call is None else replace_first(_bytes_of(store, call), values[0])
    # One blob instead of a copy in every row: a thousand edges get the same.
    return (store.blobs.put_value(payload) if len(payload) > INLINE_BYTES else payload), len(values)


def answer(store: Store, wanted: Join, limit: int) -> tuple[Value, int, str]:
    """The same for the effect, with an error as text: what ``on_joined`` takes."""
    try:
        return *join(store, wanted.call, wanted.sources, wanted.is_divisible, limit), ""
    except HeadwayError as error:
        return b"", 0, str(error)


def load_unions(store: Store, unfinished: Sequence[StoredTask]) -> dict[TaskId, bytes]:
    """How far an earlier controller was with its unions."""
    unions = [task.task for task in unfinished if task.options.union is not None]
    found = {union: store.load_state(state_key(union)) for union in unions}
    return {union: saved for union, saved in found.items() if saved is not None}


def _bytes_of(store: Store, value: Value) -> Bytes:
    return store.blobs.read(value) if isinstance(value, Blob) else value
