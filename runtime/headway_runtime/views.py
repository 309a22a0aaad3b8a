"""Looks at the core's books that change nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headway_bus.ids import AttemptKey
from headway_bus.records import Blob, Ended, Held
from headway_runtime.effects import Upload
from headway_runtime.pool import Pool
from headway_runtime.state import Attempt, Phase


def inventory(attempts: Mapping[AttemptKey, Attempt], unsettled: Iterable[AttemptKey], now: float) -> list[Held]:
    """Everything that a controller must know of to make its own view equal."""
    held = []
    for (task, number), attempt in attempts.items():
        child = attempt.child
        is_head = child is not None and child.head() is attempt
        if attempt.phase is Phase.RUNNING or is_head:
            since = child.head_since if child is not None else attempt.since
            held.append(Held(task, number, "running", max(0.0, now - since)))
        else:
            held.append(Held(task, number, "running" if attempt.outcome is not None else "held"))
    held += (Held(task, number, "ended") for task, number in unsettled)
    return held


def with_memory_limit(pool: Pool, running: Mapping[AttemptKey, Attempt]) -> list[Attempt]:
    """Attempts that run, as far as is known, and whose memory is limited."""
    heads = (child.head() for child in pool.busy)
    candidates = [head for head in heads if head is not None] + list(running.values())
    return [attempt for attempt in candidates if attempt.spec.options.requirements.memory]


def blobs_of(attempt: Attempt) -> list[Blob]:
    """The large values that an attempt needs before it can begin."""
    blobs = [file.content for file in attempt.spec.options.files]
    return [attempt.payload, *blobs] if isinstance(attempt.payload, Blob) else blobs


def blobs_left(record: Ended) -> list[Blob]:
    """The large values and files that an attempt left, which the controller must have before it hears of its end."""
    files = [file.content for file in record.files]
    return [record.result, *files] if isinstance(record.result, Blob) else files


def upload_of(key: AttemptKey, record: Ended) -> Upload | None:
    """What must be brought before the end can be reported; None: nothing."""
    values = [record.result] if isinstance(record.result, Blob) else []
    return Upload(key, values, [file.content for file in record.files]) if values or record.files else None


def blobs_in_use(attempts: Iterable[Attempt]) -> set[bytes]:
    """The hashes of large values that attempts still need."""
    hashes: set[bytes] = set()
    for attempt in attempts:
        hashes.update(blob.hash for blob in blobs_of(attempt))
        if attempt.outcome is not None:
            hashes.update(blob.hash for blob in blobs_left(attempt.outcome))
    return hashes
