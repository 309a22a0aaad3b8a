"""What the runtime and its children say to each other, beside ends and log records."""

from __future__ import annotations

import msgspec

from headway_bus.ids import TaskId
from headway_bus.records import Kind, Payload

DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""How a process is told which GPUs are its own. One that has begun to use CUDA does not look again: models that keep a GPU
are best served by a runtime that offers only that one."""

Key = tuple[TaskId, int]


class ChildSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a child needs to know of the options of attempts; sent once."""

    number: int
    kind: Kind
    target: str  # "package.module:name"; of a model, its factory
    name: str
    job: str
    by_value: bool
    memory: int  # bytes, 0: no limit
    output_bytes: int
    devices: str = ""  # for CUDA_VISIBLE_DEVICES
    files: list[tuple[str, bytes]] = []  # names and hashes of values that lie in the folder of blobs


class Work(msgspec.Struct, array_like=True, gc=False):
    """Attempts for a child: by spec, (task, attempt, payload) each; an index means a frame, a blob a file."""

    specs: list[ChildSpec]
    groups: list[tuple[int, list[tuple[TaskId, int, Payload]]]]
    forget: bool = False  # every spec sent before


class Order(msgspec.Struct, array_like=True, gc=False):
    """To a child's other ear: "recall", "flush", or "stop" with the attempt that is meant."""

    verb: str
    key: Key | None = None


class Answer(msgspec.Struct, array_like=True, gc=False):
    """Beside ends and log records. ``given`` is None where nobody has recalled anything."""

    given: list[Key] | None = None
    current: Key | None = None
    dropped: dict[bytes, int] = {}
    left: bool = False  # the last end in this message left processes behind; the child awaits its own end


class ChildSettings(msgspec.Struct, frozen=True, array_like=True):
    """The same for all children of a runtime; given to the nursery as it starts."""

    paths: list[str]
    models: dict[str, str]
    blobs: str  # the folder where large values lie, by hash
    payload_limit: int
    inline_bytes: int  # results up to this go within the record of the end
    frame_bytes: int  # results beyond this go by file
    slow: float = 1.0
    runtime: str = ""
    durable: bool = False  # large results are on the disk, with fsync, before their attempt counts as ended
    file_limit: int = 64 * 1024**3  # bytes of a file that is a result
