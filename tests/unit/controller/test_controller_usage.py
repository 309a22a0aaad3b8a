"""Limits of what one client and one namespace may have waiting: each refusal with the setting, what ended makes room."""

from __future__ import annotations

import pytest

from headway_bus.ids import new_task_ids
from headway_bus.messages import Group
from headway_bus.records import Blob, Kind, Options
from headway_controller.state import Queued, Task
from headway_controller.usage import Quotas, Usage, shares_of


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
    assert f"(setting controller.{setting})" in usage.exceeded(quotas, "alice.3", {"red": (1, 1)})
    usage.remove((tasks[0],))
    assert usage.exceeded(quotas, "alice.3", {"red": (1, 1)}) == ""
    usage.validate(tasks[1:])


def test_another_is_not_refused_for_it() -> None:
    usage = Usage()
    for _ in range(5):
        usage.add((task("alice", b"0123456789", "red"),))
    quotas = Quotas(1000, 5, 50, 5, 50)
    assert "'alice'" in usage.exceeded(quotas, "alice", {"red": (1, 0)})
    assert "namespace 'red'" in usage.exceeded(quotas, "carol", {"red": (1, 0)})
    assert usage.exceeded(quotas, "bob", {"blue": (5, 50)}) == ""
    assert usage.exceeded(quotas, "bob", {"": (5, 50)}) == ""


def test_nothing_is_left_when_all_have_ended() -> None:
    usage = Usage()
    tasks = [task("alice", b"x", "red"), task("bob", b"", "")]
    for each in tasks:
        usage.add((each,))
    for each in tasks:
        usage.remove((each,))
    assert usage == Usage()
    usage.validate([])


def test_a_submission_counts_in_each_of_its_namespaces_as_it_will_lie_in_memory() -> None:
    first, second, third, fourth = new_task_ids(4)
    red, blue = (Options(Kind.CALL, "a:f", namespace=name) for name in ("red", "blue"))
    groups = [
        Group(red, [(first, b"1234")]),
        Group(blue, [(second, 0), (third, 0)]),  # two tasks with the same frame have a copy each
        Group(red, [(fourth, Blob(b"0" * 32, 1 << 30))]),
    ]
    shares = shares_of(groups, [b"1234567890"])
    assert shares == {"red": (2, 4), "blue": (2, 20)}
    assert shares_of(groups, [b"1234567890"], lambda task_id: task_id == third) == {"blue": (1, 10)}
    assert shares_of([Group(red, [(first, 7)])], []) == {"red": (1, 0)}, "an index is checked later"
    usage, quotas = Usage(), Quotas(max_tasks_per_namespace=1)
    assert "namespace 'blue'" in usage.exceeded(quotas, "alice", {"red": (1, 0), "blue": (2, 0)})
