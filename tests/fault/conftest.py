"""Plants that are gone when the test is over, and the ends of their logs where a test has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_plant import EdgePlant
from fault_plant import Plant

PLANTS = pytest.StashKey[list[Plant]]()


@pytest.fixture
def make_plant(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Plant]]:
    """Makes plants; see :class:`Plant` for the arguments."""
    plants = request.node.stash.setdefault(PLANTS, [])

    def make(**settings: object) -> Plant:
        folder = tmp_path / f"plant-{len(plants)}"
        folder.mkdir()
        plants.append(Plant(folder, **settings))  # type: ignore[arg-type]
        return plants[-1]

    yield make
    for plant in plants:
        plant.close()


@pytest.fixture
def plant(make_plant: Callable[..., Plant]) -> Plant:
    return make_plant()


@pytest.fixture
def edge_plant(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EdgePlant]:
    made = EdgePlant(tmp_path)
    request.node.stash[PLANTS] = [made]
    yield made
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed:
        for plant in item.stash.get(PLANTS, []):
            report.sections.append((f"plant at {plant.url}", plant.story()))
    return report
