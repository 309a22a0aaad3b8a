"""Log records as a person sees them: output as it was written, structured records as "name=value"."""

from __future__ import annotations

import json
import sys
from typing import TextIO

import click

from headway.cli.words import moment, number, plain
from headway_bus.records import LogRecord


def print_record(record: LogRecord, stream: TextIO | None = None, now: float = 0.0) -> None:
    """A line for a record: what went to stderr goes to stderr, all else to stdout, or everything to ``stream``.

    ``now``: if given, the record's time goes before it, with the date where it was not today.
    """
    target = stream or (sys.stderr if record.stream == "stderr" else sys.stdout)
    prefix = f"{moment(record.at, now)} " if now else ""
    click.echo(prefix + record_text(record), file=target)


def record_text(record: LogRecord) -> str:
    if record.stream in ("stdout", "stderr"):
        return record.text.rstrip("\n")
    if record.stream == "system" and not record.fields:
        return record.text
    return " ".join(part for part in (f"[{record.stream}]", record.text, _fields(record)) if part)


def _fields(record: LogRecord) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in record.fields.items())


def _value(value: object) -> str:
    if isinstance(value, str):
        return value if value and " " not in value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return number(value)
    return json.dumps(plain(value), ensure_ascii=False)
