"""What the controller does not let a peer do to the others: fill the bus, write another's logs, report another's ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plain_peers import Hub, PlainClient, PlainRuntime

from headway_bus import messages as m
from headway_bus.ids import new_task_ids
from headway_bus.link import CONTROLLER
from headway_bus.records import AttemptEnd, Code, Ended, Kind, LogRecord, Options, RuntimeInfo
from headway_controller.usage import Quotas


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "state").mkdir()
    with Hub(f"ipc://{tmp_path}/bus", tmp_path / "state").with_controller(quotas=Quotas(max_tasks_per_client=3)) as hub:
        yield hub


def group(count: int) -> m.Group:
    return m.Group(Options(Kind.CALL, "a:f"), [(task, b"") for task in new_task_ids(count)])


def test_one_client_does_not_fill_the_bus(hub: Hub) -> None:
    with (
        PlainClient(hub.url, "greedy") as greedy,
        PlainClient(hub.url, "greedy.2") as again,
        PlainClient(hub.url) as other,
    ):
        greedy.submit(2)
        for peer in (greedy, again):
            denied = peer.ask(lambda request: m.Submit(request, [group(2)]), m.Denied)
            assert denied.code == Code.LIMIT and "controller.max_tasks_per_client" in denied.text
        again.submit(1)
        other.submit(3)
        assert hub.call(lambda: hub.controller.core.state.counters["submissions.denied.limit"]) == 2


def test_what_has_ended_makes_room(hub: Hub) -> None:
    with PlainClient(hub.url, "greedy") as client, PlainRuntime(hub.url) as runtime:
        for _ in range(2):
            client.submit(3)
            ended = 0
            while ended < 3:
                for task, _ in runtime.take():
                    runtime.start(task)
                    runtime.end(task)
                    ended += 1
            client.ends(3)


def test_a_runtime_reports_nothing_of_anothers_attempts(hub: Hub) -> None:
    with PlainClient(hub.url) as client, PlainRuntime(hub.url, "one") as one:
        (task,) = client.submit()
        ((_, attempt),) = one.take()
        one.start(task)
        with PlainRuntime(hub.url, "two") as two:
            forged = LogRecord(task, attempt, 0, "stdout", 1.0, "forged")
            two.report(logs=[forged], ended=[Ended(task, attempt, AttemptEnd.SUCCEEDED, 1.0, b"forged")])
            two.next(m.Settled)
        one.log(task, "true")
        one.end(task, result=b"true")
        (outcome,) = client.ends(1).values()
        assert (outcome.result, outcome.runtime) == (b"true", "one")
        page = client.ask(lambda request: m.AskLogs(request, task), m.LogPage)
        assert [record.text for record in page.records] == ["true"]
        counters = hub.call(lambda: dict(hub.controller.core.state.counters))
        assert counters["logs.foreign"] == 1 and counters["reports.fenced"] == 1


def test_a_runtime_registers_under_its_own_name_whatever_it_says(hub: Hub) -> None:
    with PlainRuntime(hub.url, "one") as one, PlainClient(hub.url) as client:
        info = m.Register(RuntimeInfo("other", 1.0), b"instance", [])
        one.say(CONTROLLER, info)
        one.next(m.Registered)
        page = client.ask(m.AskRuntimes, m.RuntimePage)
        assert [state.info.name for state in page.runtimes] == ["one"]
