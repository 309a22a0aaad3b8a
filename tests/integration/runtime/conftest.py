"""A runtime process and a hub for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_hub import Hub
from runtime_process import RuntimeProcess


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def shared_runtime(shared_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """One for all the tests of a file that do it no harm."""
    models = ("--serve", "shout=runtime_tasks:load_model", "--serve", "broken=runtime_tasks:not_a_model")
    runtime = RuntimeProcess(shared_hub, tmp_path_factory.mktemp("runtime"), "--slots", "2", *models)
    yield runtime
    runtime.end()


@pytest.fixture
def hub(shared_hub: Hub, shared_runtime: RuntimeProcess) -> Hub:
    """The hub of the shared runtime."""
    return shared_hub


@pytest.fixture
def own_hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def own_runtime(own_hub: Hub, tmp_path: Path) -> Iterator[RuntimeProcess]:
    """One that a test may harm."""
    runtime = RuntimeProcess(own_hub, tmp_path, "--slots", "2")
    yield runtime
    runtime.end()
