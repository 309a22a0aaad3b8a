"""The hub and the runtime process of the integration tests, harmed here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

INTEGRATION = Path(__file__).parents[2] / "integration" / "runtime"
sys.path.insert(0, str(INTEGRATION))

from runtime_hub import Hub  # noqa: E402
from runtime_process import RuntimeProcess  # noqa: E402

Start = Callable[..., RuntimeProcess]


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def start(hub: Hub, tmp_path: Path) -> Iterator[Start]:
    """Starts a runtime; ended when the test is over, however it went."""
    runtimes: list[RuntimeProcess] = []

    def start(*arguments: str) -> RuntimeProcess:
        runtimes.append(RuntimeProcess(hub, tmp_path, "--slots", "2", *arguments))
        return runtimes[-1]

    yield start
    for runtime in runtimes:
        runtime.end()
