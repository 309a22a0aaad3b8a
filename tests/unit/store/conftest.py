"""Stores that are closed when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_bench import Bench

from headway_controller.store import Durability


@pytest.fixture
def open_bench() -> Iterator[Callable[..., Bench]]:
    """Opens stores that are closed at the end, unless the test has done so."""
    opened: list[Bench] = []

    def opener(path: Path | None, *arguments: object, **fields: object) -> Bench:
        opened.append(Bench(path, *arguments, **fields))  # type: ignore[arg-type]
        return opened[-1]

    yield opener
    for bench in opened:
        bench.store.close()


@pytest.fixture(params=list(Durability))
def bench(request: pytest.FixtureRequest, tmp_path: Path, open_bench: Callable[..., Bench]) -> Bench:
    """An empty store, in each of the modes."""
    return open_bench(tmp_path / "headway.db", request.param)
