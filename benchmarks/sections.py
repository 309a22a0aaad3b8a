"""Parts of a page that different programs write: each has its own between two marks, and leaves the others' alone."""

from __future__ import annotations

from pathlib import Path


def marks(name: str) -> tuple[str, str]:
    """The lines around the part of that name."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def found(page: str, name: str) -> str:
    """The part with its marks as it stands on the page; empty if there is none."""
    begin, end = marks(name)
    start, stop = page.find(begin), page.find(end)
    return page[start : stop + len(end)] if 0 <= start < stop else ""


def kept(file: Path, name: str) -> str:
    """The same of a file, as the end of a page that is written anew."""
    part = found(file.read_text(), name) if file.exists() else ""
    return f"\n{part}\n" if part else ""


def put(file: Path, name: str, text: str) -> None:
    """Write that part, in the place of the former one or at the end of the file."""
    page = file.read_text() if file.exists() else ""
    begin, end = marks(name)
    part = f"{begin}\n\n{text.strip()}\n\n{end}"
    former = found(page, name)
    file.write_text(page.replace(former, part) if former else f"{page.rstrip()}\n\n{part}\n")
