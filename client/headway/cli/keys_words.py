"""The words of ``headway keys``: how long a key is good, and how an invitation is handed on."""

from __future__ import annotations

from headway.cli.words import duration


def when(expires: float, now: float) -> str:
    """When a key stops being good. ``expires`` and ``now``: Unix seconds; 0: never."""
    if not expires:
        return "never"
    return f"in {duration(expires - now)}" if expires > now else "has expired"


def a(role: str) -> str:
    """The role with its article."""
    return f"{'an' if role[:1] in 'aeiou' else 'a'} {role}"


def invitation_lines(text: str, role: str) -> list[str]:
    """The line to paste on the other machine. In its environment, where `ps` shows it to nobody else."""
    return [f"# on the machine that shall be {a(role)}:", f"HEADWAY_INVITATION={text} headway keys join"]


def qr_lines(text: str) -> list[str]:
    """The invitation as a QR code of half blocks; a line that says what is missing, where segno is not installed."""
    try:
        import segno  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return ["(a QR code is shown where segno is installed: pip install 'headway[qr]')"]
    rows = [[False] * 2 + [bool(cell) for cell in row] + [False] * 2 for row in segno.make(text, error="l").matrix]
    blank = [False] * len(rows[0])
    rows = [blank, blank, *rows, blank, blank]
    if len(rows) % 2:
        rows.append(blank)
    # Light on dark terminals: a dark module is left out, a light one is drawn.
    blocks = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return ["".join(blocks[upper, lower] for upper, lower in zip(top, bottom, strict=True)) for top, bottom in pairs]
