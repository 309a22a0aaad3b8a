"""What a machine offers, and what a runtime refuses."""

from __future__ import annotations

import os

import pytest
from runtime_world import options

from headway_bus.config import Runtime
from headway_bus.records import Kind, RuntimeInfo
from headway_runtime import resources
from headway_runtime.refusals import Refusals
from headway_runtime.settings import needs_children


def test_what_the_settings_do_not_say_is_what_there_is() -> None:
    info = resources.describe(Runtime(), "here", "1")
    assert info.slots == max(1, round(resources.cores()))
    assert 0 < info.cpu <= (os.cpu_count() or 1)
    assert info.memory > 2**20
    assert (info.name, info.pid) == ("here", os.getpid())
    info = resources.describe(Runtime(slots=3.5, memory=5, gpus=["7"], labels={"zone": "lab"}), "here", "1")
    assert (info.slots, info.memory, info.gpus, info.labels) == (3.5, 5, ["7"], {"zone": "lab"})


def test_models_are_offered_beside_what_is_run_anyway() -> None:
    assert resources.describe(Runtime(), "here", "1").serves == []
    offered = resources.describe(Runtime(models={"weather": "a:load"}), "here", "1").serves
    assert offered == ["call", "command", "script", "model:weather"]
    only = resources.describe(Runtime(models={"weather": "a:load"}, serves=["call:a.*"]), "here", "1").serves
    assert only == ["call:a.*", "model:weather"]


@pytest.mark.parametrize(
    ("serves", "kind", "target", "is_run"),
    [
        ([], Kind.COMMAND, "true", True),
        (["call"], Kind.CALL, "a:f", True),
        (["call"], Kind.COMMAND, "true", False),
        (["call:good.*"], Kind.CALL, "good.module:f", True),
        (["call:good.*"], Kind.CALL, "bad.module:f", False),
        (["call"], Kind.MODEL, "known", True),
    ],
)
def test_only_what_is_offered_is_run(serves: list[str], kind: Kind, target: str, is_run: bool) -> None:
    refusals = Refusals(RuntimeInfo("here", 1.0, serves=serves), frozenset({"known"}))
    assert (refusals.of(options(kind, target)) is None) is is_run


def test_the_machine_has_a_name() -> None:
    assert resources.machine_name().isascii()
    assert "/" not in resources.machine_name()


@pytest.mark.parametrize(
    ("serves", "needed"),
    [
        ([], True),
        (["command"], False),
        (["command:train *", "script"], False),
        (["command", "call:statistics.*"], True),
        (["model:sentiment"], True),
    ],
)
def test_a_runtime_of_commands_alone_needs_no_children(serves: list[str], needed: bool) -> None:
    assert needs_children(serves) is needed
