"""Names that people choose, as names of files: nothing leaves the folder, nothing is too long, nothing meets another.

A name that is fit for a file stays as it is, so that ``{batch}/{job}/stdout`` is where the manual says. Any other becomes
what can be kept of it, with a part of its hash.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

MOST_BYTES = 150
"""Of 255 that file systems take: suffixes go behind it."""

KEPT_CHARACTERS = 60
HASH_CHARACTERS = 12

STATUS_SUFFIXES = ("running", "succeed", "failed", "killed", "interrupted")
OWN_NAMES = frozenset({"config", "run", "lock", "bus", "resources"})
"""Names, before their suffix, that the batch's folder needs for itself."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")
_SUFFIX = re.compile(rf"\.(json|part|lock|{'|'.join(STATUS_SUFFIXES)})$", re.IGNORECASE)


@lru_cache(maxsize=10_000)
def file_name(name: str) -> str:
    """The name of the folder for this batch or job."""
    return name if _fits(name) else f"{_readable(name)}-{_hash(name)}"


def _fits(name: str) -> bool:
    return (
        bool(name)
        and not name.startswith((".", "-", "~"))
        and name == name.strip()
        and len(name.encode("utf-8", "replace")) <= MOST_BYTES
        and _FORBIDDEN.search(name) is None
        and _SUFFIX.search(name) is None
        and name.lower() not in OWN_NAMES
        and name.isprintable()
    )


def _readable(name: str) -> str:
    kept = re.sub(r"[^\w.=,+ -]", "_", name, flags=re.ASCII).strip(" .-")
    return kept[:KEPT_CHARACTERS] or "job"


def _hash(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARACTERS]
