"""One bus with three edges for all tests of a file that only read; those that kill make their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from union_plant import UnionPlant

import headway


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnionPlant]:
    plant = UnionPlant(Path(tmp_path_factory.mktemp("union")))
    try:
        plant.start("e1", "e2", "e3", kind="edge", region="north")
        plant.start("server", kind="server")
        yield plant
    finally:
        plant.close()


@pytest.fixture(scope="module")
def bus(plant: UnionPlant) -> Iterator[headway.Client]:
    with headway.Client(plant.url, timeout=30.0) as bus:
        yield bus
