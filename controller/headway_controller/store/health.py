"""What is wrong with a store, in words, and copies of it: what ``headway doctor`` and ``headway backup`` call."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from headway_bus.errors import StoreError
from headway_controller.store import reads, schema
from headway_controller.store.blobs import BlobFolder
from headway_controller.store.database import open_for_reading, refuse_fragments, refuse_strangers
from headway_controller.store.protocol import UNFINISHED, Health
from headway_controller.store.words import explain, free_space

LOG_SUSPICIOUS_BYTES = 512 * 1024 * 1024
MAX_FINDINGS = 10


def check(connection: sqlite3.Connection, path: Path | None, blobs: BlobFolder) -> Health:
    """Read the whole database and compare the blobs with it."""
    problems = [
        f"the database is damaged: {row[0]}. Stop the controller, keep the file, and put back a backup"
        for row in connection.execute(f"PRAGMA quick_check({MAX_FINDINGS})")
        if row[0] != "ok"
    ]
    lost = blobs.missing(reads.referenced_blobs(connection))
    if lost:
        problems.append(f"{len(lost)} large values that tasks refer to are missing from {blobs.folder}")
    facts = [_describe(connection), "blobs: {} files, {:.1f} MB".format(*_megabytes(blobs))]
    if path:
        log = path.with_name(path.name + "-wal")
        size = log.stat().st_size if log.exists() else 0
        facts.append(f"{path}: {path.stat().st_size / 1e6:.1f} MB, its log {size / 1e6:.1f} MB; {free_space(path)}")
        if size > LOG_SUSPICIOUS_BYTES:
            problems.append(
                f"the log {log} does not shrink: some program has been reading {path} for a long time; end it"
            )
    return Health(not problems, problems + facts)


def examine(path: Path) -> Health:
    """The same for a store that no controller has open, or that none can open. Changes nothing and never raises."""
    if not path.exists() and not path.with_name(path.name + "-wal").exists():
        return Health(True, [f"{path} does not exist yet; a controller makes it when it starts"])
    try:
        refuse_fragments(path)
        if path.stat().st_size == 0:
            return Health(True, [f"{path} is empty; a controller fills it when it starts"])
        connection = open_for_reading(path)
        try:
            refuse_strangers(connection, path, schema.STEPS[-1].version)
            return check(connection, path, BlobFolder(blob_folder_of(path)))
        finally:
            connection.close()
    except (StoreError, sqlite3.Error, OSError) as error:
        return Health(False, [str(explain(error, path))])


def backup(connection: sqlite3.Connection, target: Path, blobs: BlobFolder) -> None:
    """Copy the database as the connection sees it, and the blobs it refers to. ``target`` appears when it is whole."""
    for place in (target, blob_folder_of(target)):
        if place.exists():
            raise StoreError(f"{place} exists; a backup does not overwrite anything. Choose another name")
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        copy = sqlite3.connect(part, isolation_level=None)
        try:
            connection.backup(copy)
        finally:
            copy.close()
        blobs.copy_to(blob_folder_of(target), reads.referenced_blobs(connection))
        part.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise explain(error, target) from error
    finally:
        part.unlink(missing_ok=True)


def blob_folder_of(database: Path) -> Path:
    """Beside the database and named after it, so that a backup is a store that can be opened as it is."""
    return database.with_name(database.name + ".blobs")


def _describe(connection: sqlite3.Connection) -> str:
    counts = reads.counts(connection)
    ended = sum(counts.values()) - counts[UNFINISHED]
    return f"schema {schema.version_of(connection)}; {counts[UNFINISHED]} unfinished tasks, {ended} ended"


def _megabytes(blobs: BlobFolder) -> tuple[int, float]:
    files, size = blobs.usage()
    return files, size / 1e6
