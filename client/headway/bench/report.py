"""Which measurements there are, in which order, and how long each takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headway.bench import crowd, loads, recovery, scale
from headway.bench.figures import Figure
from headway.bench.plant import GIVEN, LAYOUTS, ONE_PROCESS, plant
from headway_bus import loops

KINDS = ("throughput", "latency", "payload", "commands", "scale", "recover")
USUAL = ("throughput", "latency", "payload", "commands")
"""What is measured when nothing is named: under a minute."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. ``quick`` is enough to see that it works and where about it lies."""

    rounds: int = 5
    tasks: int = 50_000
    trips: int = 1_500
    echoes: int = 320
    commands: int = 200
    many: int = 1_000_000
    few: int = 10_000
    runtimes: int = 1_000
    clients: int = 200
    layouts: tuple[str, ...] = LAYOUTS


QUICK = Extent(2, 10_000, 300, 64, 50, 50_000, 5_000, 200, 50, (ONE_PROCESS,))


def measure(kind: str, extent: Extent, url: str | None = None) -> Iterator[list[Figure]]:
    """The figures of one kind, as they are found. ``url``: of a bus that runs already."""
    if kind in ("throughput", "latency"):
        for layout in (GIVEN,) if url else extent.layouts:
            yield _on_plant(kind, layout, extent, url)
    elif kind in ("payload", "commands"):
        yield _on_plant(kind, GIVEN if url else ONE_PROCESS, extent, url)
    elif kind == "scale":
        yield loops.run(scale.memory(min(extent.many, 200_000)))
        yield loops.run(scale.idle(extent.runtimes))
        yield loops.run(scale.placement(extent.few * 2))
        yield loops.run(crowd.clients(extent.clients, extent.few))
        yield loops.run(scale.queued(extent.few, extent.many))
        yield scale.imports(extent.rounds)
    else:
        yield loops.run(recovery.recover(min(extent.rounds, 3), extent.few))


def _on_plant(kind: str, layout: str, extent: Extent, url: str | None) -> list[Figure]:
    works: dict[str, tuple[Callable[..., object], int]] = {
        "throughput": (loads.throughput, extent.tasks),
        "latency": (loads.latency, extent.trips),
        "payload": (loads.payload, extent.echoes),
        "commands": (loads.commands, extent.commands),
    }
    work, amount = works[kind]
    with plant(layout, url) as found:
        figures: list[Figure] = loops.run(work(found, extent.rounds, amount))  # type: ignore[arg-type]
    return figures
