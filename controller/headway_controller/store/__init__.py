"""The store: what must outlive the controller's process, written in groups and read back.

::

    store = open_store(Path("state/headway.db"), on_stored)   # on_stored(receipts): in the writer's thread, per commit
    for tasks in store.load_unfinished(): ...                 # recovery, in the order of submission
    store.write([NewTasks(options, now, "client-1", [(task, payload)])], token="request 7")      # from the event loop
    store.find([task]), store.find_page(TaskFilter(job="roots")), store.logs(task), …            # in a thread
    store.blobs.put_part(blob, offset, data), store.blobs.read_part(blob, offset, length)       # in a thread
    store.close()

A write is stored whole or not at all, and its receipt carries the token and the error, if there was one; after an error
the same operations may be written again. Receipts come in the order of the writes.

``protocol``      what a store does, and the plain records: operations in, stored tasks out
``sqlite_store``  the embedded store
``writer``        the thread that commits
``journal``       small writes, noted in a row each until the thread moves them into the tables
``apply``, ``bulk``, ``schema``  operations into SQL, many rows in one statement, the tables and their migrations
``reads``, ``listing``  rows into records
``temporary``     where those go that shall not be kept: a folder that goes away with its owner
``database``, ``lock``, ``words``  files and connections, who holds them, errors in words
``blobs``         large values in files; one that is written as bytes, from 256 KiB on, comes back as a ``Blob``
``health``        check, examine and backup
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headway_bus.errors import StoreError
from headway_controller.store.blobs import BlobFolder, blob_of
from headway_controller.store.health import examine
from headway_controller.store.protocol import (
    UNFINISHED,
    AppendLogs,
    Described,
    DescribeTask,
    DropTasks,
    Durability,
    EndTask,
    Health,
    JobCount,
    LogSlice,
    NewTasks,
    Operation,
    Receipt,
    SaveState,
    Store,
    StoreDamaged,
    StoredEnd,
    StoredTask,
    StoreHeld,
    TaskFilter,
    UpdateTask,
)
from headway_controller.store.sqlite_store import SqliteStore

__all__ = [
    "UNFINISHED",
    "AppendLogs",
    "BlobFolder",
    "DescribeTask",
    "Described",
    "DropTasks",
    "Durability",
    "EndTask",
    "Health",
    "JobCount",
    "LogSlice",
    "NewTasks",
    "Operation",
    "Receipt",
    "SaveState",
    "Store",
    "StoreDamaged",
    "StoreError",
    "StoreHeld",
    "StoredEnd",
    "StoredTask",
    "TaskFilter",
    "UpdateTask",
    "blob_of",
    "examine",
    "open_store",
]


def open_store(
    path: Path,
    on_stored: Callable[[list[Receipt]], None],
    durability: Durability | str = Durability.NORMAL,
) -> Store:
    """The store at ``path``, made if it is not there; with "memory" no file is touched."""
    return SqliteStore(path, on_stored, Durability(durability))
