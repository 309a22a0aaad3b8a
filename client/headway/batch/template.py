"""A template into a batch: every combination of the parameters, or a random sample of them, each under a stable name.

The order is that of nested loops, the last parameter the fastest. Names are made from the parameters, so that a batch
that is generated anew finds its results again.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headway.batch.config import Name, Part, Text, told, unknown_keys
from headway.batch.errors import BatchFileError
from headway.batch.reading import read_tree

MOST_JOBS = 1_000_000
MOST_VALUES = 1_000_000
NAME_CHARACTERS = 100
FIGURES = 12
"""Significant figures of a made number: what a person writes as 0.3 is not to become 0.30000000000000004."""

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
Count = Annotated[int, Meta(ge=1, le=MOST_VALUES)]


class Span(Part, frozen=True, forbid_unknown_fields=True):
    """Numbers from ``start`` to ``stop``, both included, ``step`` apart or ``num`` in all."""

    start: int | float
    stop: int | float
    step: int | float | None = None
    num: Count | None = None


class Template(Part, frozen=True):
    """A template file. ``sample``: that many combinations at random instead of all; ``random`` is the same."""

    params: dict[str, Any]
    command: Text
    name: Name | None = None
    working_dir: Text | None = None
    assets: list[Text] | None = None
    resource: dict[str, Any] | None = None
    timeout: float | None = None
    max_attempts: int | None = None
    backend: dict[str, Any] | None = None
    batches_data_dir: Text | None = None
    server: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    version: str | None = None
    sample: Count | None = None
    random: Count | None = None
    seed: int = 0


OF_JOB = ("working_dir", "assets", "resource", "timeout", "max_attempts")
OF_BATCH = ("backend", "batches_data_dir", "server", "scheduler", "version")


def generate(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The batch that a template file stands for, as plain data, and warnings. Raises BatchFileError."""
    return expand(read_tree(path), str(path))


def expand(tree: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[str]]:
    """The batch that a template stands for. ``source``: what errors call it."""
    tree = {name: value for name, value in tree.items() if value is not None}
    if "job_command" in tree and "command" not in tree:
        tree["command"] = tree.pop("job_command")
    try:
        template = msgspec.convert(tree, Template)
    except msgspec.ValidationError as error:
        raise BatchFileError(f"{source}: {told(error)}") from None
    warnings = list(unknown_keys(tree, Template, source))
    grid = {name: values_of(value, f"{source}: params.{name}") for name, value in template.params.items()}
    rows = _rows(template, grid, source)
    names: set[str] = set()
    jobs = [_job(template, row, names) for row in rows]
    batch: dict[str, Any] = {"name": template.name or _batch_name(template), "jobs": jobs}
    batch |= {name: value for name in OF_BATCH if (value := getattr(template, name)) is not None}
    return batch, warnings


def values_of(value: Any, where: str) -> list[Any]:
    """The values of one parameter: a list as it is, a range as its numbers. Raises BatchFileError."""
    if isinstance(value, list):
        if not value:
            raise BatchFileError(f"{where}: an empty list leaves no combination; expected at least one value")
        return value
    if isinstance(value, dict) and "logspace" in value and len(value) == 1:
        return _logarithmic(_span(value["logspace"], f"{where}.logspace"), f"{where}.logspace")
    if isinstance(value, dict) and "start" in value:
        return _even(_span(value, where), where)
    raise BatchFileError(
        f"{where}: expected a list, {{start, stop, step}}, {{start, stop, num}} or {{logspace: {{start, stop, num}}}}"
    )


def _span(value: Any, where: str) -> Span:
    if not isinstance(value, dict):
        raise BatchFileError(f"{where}: expected {{start, stop, num}}, got {value!r}")
    try:
        span = msgspec.convert(value, Span)
    except msgspec.ValidationError as error:
        raise BatchFileError(f"{where}: {told(error)}") from None
    if not all(math.isfinite(each) for each in (span.start, span.stop, span.step or 0)):
        raise BatchFileError(f"{where}: expected finite numbers")
    return span


def _even(span: Span, where: str) -> list[Any]:
    start, stop = Decimal(str(span.start)), Decimal(str(span.stop))
    if (span.step is None) == (span.num is None):
        raise BatchFileError(f"{where}: expected either 'step' or 'num'")
    if span.num is not None:
        pieces = max(1, span.num - 1)
        return [_plain_number(start + (stop - start) * at / pieces) for at in range(span.num)]
    step = Decimal(str(span.step))
    if step == 0 or (stop - start) / step < 0:
        raise BatchFileError(f"{where}.step: {span.step} never leads from {span.start} to {span.stop}")
    count = int((stop - start) / step) + 1
    if count > MOST_VALUES:
        raise BatchFileError(f"{where}: {count} values; at most {MOST_VALUES}")
    numbers = [start + step * at for at in range(count)]
    if all(isinstance(each, int) for each in (span.start, span.stop, span.step)):
        return [int(each) for each in numbers]
    return [_plain_number(each) for each in numbers]


def _logarithmic(span: Span, where: str) -> list[Any]:
    if span.num is None or span.step is not None:
        raise BatchFileError(f"{where}: expected start, stop and num, the first and last value and how many")
    if span.start <= 0 or span.stop <= 0:
        raise BatchFileError(f"{where}: expected start and stop above 0 (the values themselves, not their exponents)")
    low, high = math.log(span.start), math.log(span.stop)
    pieces = max(1, span.num - 1)
    inner = [float(f"{math.exp(low + (high - low) * at / pieces):.{FIGURES}g}") for at in range(span.num)]
    return [float(span.start), *inner[1:-1], float(span.stop)] if span.num > 1 else [float(span.start)]


def _plain_number(value: Decimal) -> float:
    return float(f"{value:.{FIGURES}g}")


def _rows(template: Template, grid: Mapping[str, list[Any]], source: str) -> Iterator[dict[str, Any]]:
    total = math.prod(len(values) for values in grid.values())
    if template.sample and template.random and template.sample != template.random:
        raise BatchFileError(f"{source}: 'sample' and 'random' are the same; expected one of them")
    wanted = template.sample or template.random
    if wanted is None and total > MOST_JOBS:
        raise BatchFileError(f"{source}: {total} combinations; at most {MOST_JOBS}, or a 'sample' of them")
    if wanted is None or wanted >= total:
        places: Any = range(total)
    else:
        places = sorted(random.Random(template.seed).sample(range(total), wanted))
    return (_row(grid, at) for at in places)


def _row(grid: Mapping[str, list[Any]], at: int) -> dict[str, Any]:
    """The combination at this place of the product, without making those before it."""
    chosen: list[tuple[str, Any]] = []
    for name, values in reversed(list(grid.items())):
        at, index = divmod(at, len(values))
        chosen.append((name, values[index]))
    return dict(reversed(chosen))


def _job(template: Template, row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    first = name = name_of(row)
    twin = 1
    while name in names:  # a value that stands twice in a list
        twin += 1
        name = f"{first}-{twin}"
    names.add(name)
    job = {"name": name, "params": row, "command": template.command}
    return job | {name: value for name in OF_JOB if (value := getattr(template, name)) is not None}


def name_of(row: Mapping[str, Any]) -> str:
    """ "learning_rate=0.1,max_depth=3"; what is too long ends in a hash of all of it."""
    text = ",".join(f"{name}={_short(value)}" for name, value in row.items()) or "job"
    if len(text) <= NAME_CHARACTERS:
        return text
    return f"{text[: NAME_CHARACTERS - 13]}-{hashlib.blake2b(text.encode()).hexdigest()[:12]}"


def _short(value: Any) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    )


def _batch_name(template: Template) -> str:
    content = msgspec.json.encode(template, order="deterministic")
    return f"batch-{hashlib.blake2b(content).hexdigest()[:8]}"


def batch_text(batch: Mapping[str, Any]) -> str:
    """The batch file as text."""
    return json.dumps(batch, indent=4, ensure_ascii=False, default=str) + "\n"
