"""The Python snippets of a page, and the program that each of them is."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)?([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

WITH_BUS = """\
import asyncio, concurrent.futures, headway, pathlib
folder = str(pathlib.Path.cwd())

async def main():
    async with headway.connect() as bus:
{body}

asyncio.run(main())
"""

WITH_CLIENT = """\
import headway
with headway.Client() as bus:
{body}
"""


@dataclass(frozen=True)
class Snippet:
    """A block of Python. ``output``: what it must print, if the page says so. ``file``: a module that others import."""

    page: str
    line: int
    code: str
    file: str = ""
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def program(self) -> str:
        """The snippet as a whole program: one that makes its own bus is one already."""
        if "asyncio.run(" in self.code or "headway.local(" in self.code or "bus" not in self.code:
            return self.code if "import headway" in self.code else f"import headway\n{self.code}"
        is_async = re.search(r"\bawait\b|\basync (for|with)\b", self.code)
        frame, indent = (WITH_BUS, 8) if is_async else (WITH_CLIENT, 4)
        return frame.replace("{body}", textwrap.indent(self.code, " " * indent))


def snippets_of(page: Path) -> list[Snippet]:
    """All Python blocks of a Markdown page. A ``text`` block right after one is its output."""
    text = page.read_text(encoding="utf-8")
    found: list[Snippet] = []
    end = -1
    for fence in FENCE.finditer(text):
        language, words, content = fence.groups()
        line = text.count("\n", 0, fence.start()) + 1
        if language == "text" and fence.start() == end + 1 and found:
            last = found[-1]
            found[-1] = Snippet(last.page, last.line, last.code, last.file, content)
        elif language in ("python", "py"):
            file = re.search(r"file=(\S+)", words)
            found.append(Snippet(page.name, line, content, file[1] if file else ""))
            end = fence.end()
    return found
