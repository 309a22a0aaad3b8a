"""Limits of what one client and one namespace may have waiting: each refusal with the setting, what ended makes room."""

from __future__ import annotations

import pytest

from headway_bus.ids import new_task_ids
from headway_bus.records import Kind, Options
from headway_controller.state import Queued, Task
from headway_controller.usage import Quotas, Usage


def task(client: str, payload: bytes, namespace: str = "") -> Task:
    options = Options(Kind.CALL, "a:f", namespace=namespace)
    return Task(new_task_ids(1)[0], options, payload, client, 0.0, Queued(0.0))


@pytest.mark.parametrize(
    ("quotas", "setting"),
    [
        (Quotas(max_tasks=3), "max_tasks"),
        (Quotas(max_tasks_per_client=2), "max_tasks_per_client"),
        (Quotas(max_bytes_per_client=20), "max_bytes_per_client"),
        (Quotas(max_tasks_per_namespace=2), "max_tasks_per_namespace"),
        (Quotas(max_bytes_per_namespace=20), "max_bytes_per_namespace"),
    ],
)
def test_each_limit_is_told_by_its_setting(quotas: Quotas, setting: str) -> None:
    usage = Usage()
    tasks = [task("alice", b"0123456789", "red"), task("alice.2", b"0123456789", "red"), task("bob", b"0", "blue")]
    for each in tasks:
        usage.add((each,))
    assert f"(setting controller.{setting})" in usage.exceeded(quotas, "alice.3", "red", 1, 1)
    usage.remove((tasks[0],))
    assert usage.exceeded(quotas, "alice.3", "red", 1, 1) == ""
    usage.validate(tasks[1:])


def test_another_is_not_refused_for_it() -> None:
    usage = Usage()
    for _ in range(5):
        usage.add((task("alice", b"0123456789", "red"),))
    quotas = Quotas(1000, 5, 50, 5, 50)
    assert "'alice'" in usage.exceeded(quotas, "alice", "red", 1, 0)
    assert "namespace 'red'" in usage.exceeded(quotas, "carol", "red", 1, 0)
    assert usage.exceeded(quotas, "bob", "blue", 5, 50) == ""
    assert usage.exceeded(quotas, "bob", "", 5, 50) == ""


def test_nothing_is_left_when_all_have_ended() -> None:
    usage = Usage()
    tasks = [task("alice", b"x", "red"), task("bob", b"", "")]
    for each in tasks:
        usage.add((each,))
    for each in tasks:
        usage.remove((each,))
    assert usage == Usage()
    usage.validate([])
