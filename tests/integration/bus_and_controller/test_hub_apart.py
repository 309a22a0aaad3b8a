"""Broker and controller as parts of their own, over a socket: any order of starts, restarts of either, and a second one."""

from __future__ import annotations

from pathlib import Path

import pytest
from plain_peers import Brain, Hub, PlainClient, PlainRuntime, wait_until

from headway_bus import messages as m
from headway_bus.errors import StoreError
from headway_bus.ids import TaskId, new_task_ids, text_of
from headway_bus.link import CONTROLLER
from headway_bus.records import Code, Held, Kind, Options, RuntimeInfo, Status


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/bus"


def status_of(client: PlainClient, task: TaskId) -> Status:
    return client.ask(lambda request: m.AskTask(request, text_of(task)), m.TaskFound).task.status


def register_again(runtime: PlainRuntime, *held: Held) -> m.Registered:
    runtime.say(CONTROLLER, m.Register(RuntimeInfo("plain", 1.0), b"instance", list(held), runtime._assigned))
    return runtime.next(m.Registered)


def test_without_a_controller_a_client_is_told_and_with_it_served(url: str, tmp_path: Path) -> None:
    with Hub(url, heartbeat=60.0), PlainClient(url) as client:
        client.say(CONTROLLER, m.AskRuntimes(1))
        assert client.next(m.Undeliverable).code == Code.NO_CONTROLLER
        with Brain(url, tmp_path):
            client.await_controller()
            (task,) = client.submit()
            with PlainRuntime(url) as runtime:
                assert runtime.take() == [(task, 1)]
                runtime.end(task, result=b"42")
                assert client.ends(1)[task].result == b"42"


def test_a_controller_that_comes_before_its_broker_waits_for_it(url: str, tmp_path: Path) -> None:
    with Brain(url, tmp_path), Hub(url, heartbeat=60.0), PlainClient(url) as client:
        client.await_controller()
        client.submit()


def test_another_controller_goes_on_where_the_first_was(url: str, tmp_path: Path) -> None:
    with Hub(url, heartbeat=60.0), PlainClient(url) as client:
        with Brain(url, tmp_path):
            client.await_controller()
            runtime = PlainRuntime(url)
            running, unstarted, done = client.submit(3)
            order = [task for task, _ in runtime.take()]
            first = order[0]
            runtime.start(first)
            wait_until(lambda: status_of(client, first) == Status.RUNNING)
            others = [task for task in (running, unstarted, done) if task != first]
        client.await_controller(there=False)
        # While it was away the attempt has ended; nobody knows but the runtime.
        with Brain(url, tmp_path) as second:
            client.await_controller()
            assert second.recovered == 3
            assert status_of(client, first) == Status.WAITING
            registered = register_again(runtime, Held(first, 1, "ended"))
            assert (registered.stop, registered.forget) == ([], [])
            client.ask(lambda request: m.Await(request, [first, *others]), m.Accepted)
            runtime.end(first, result=b"42")
            assert client.ends(1)[first].result == b"42"
            # All runtimes that there are have had their say: what none of them has is given out again, once each.
            for _ in others:
                ((task, attempt),) = runtime.take()
                assert attempt > 1, "the number of what may have been given out before is not used again"
                runtime.end(task)
            assert set(client.ends(2)) == set(others)
        runtime.close()


def test_ends_are_there_for_the_next_controller(url: str, tmp_path: Path) -> None:
    with Hub(url, heartbeat=60.0), PlainClient(url) as client:
        with Brain(url, tmp_path):
            client.await_controller()
            (task,) = client.submit(retention=600.0)
            client.ask(lambda request: m.Cancel(request, [task]), m.Changed)
        client.await_controller(there=False)
        with Brain(url, tmp_path) as second:
            client.await_controller()
            assert second.recovered == 0
            client.ask(lambda request: m.Await(request, [task]), m.Accepted)
            assert client.ends(1)[task].status == Status.CANCELLED
            assert (
                client.ask(lambda request: m.AskResult(request, task), m.ResultFound).outcome.status == Status.CANCELLED
            )


def test_a_restart_of_the_broker_is_no_event_for_the_controller(url: str, tmp_path: Path) -> None:
    with Brain(url, tmp_path) as brain:
        with Hub(url, heartbeat=60.0), PlainClient(url, "me") as client:
            client.await_controller()
            (task,) = client.submit()
        with Hub(url, heartbeat=60.0), PlainClient(url, "me") as client:
            client.await_controller()
            assert status_of(client, task) == Status.QUEUED
            client.ask(lambda request: m.Await(request, [task]), m.Accepted)
            with PlainRuntime(url) as runtime:
                assert runtime.take() == [(task, 1)]
                runtime.end(task)
                assert client.ends(1)[task].status == Status.SUCCEEDED
        assert brain.refused == ""


def test_a_second_controller_on_the_bus_is_refused_and_says_so(url: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with Hub(url, heartbeat=60.0), PlainClient(url) as client, Brain(url, tmp_path / "one"):
        client.await_controller()
        with Brain(url, tmp_path / "two") as second:
            second.join()
            assert "refuses this controller" in second.refused and "taken" in second.refused
        client.submit()


def test_a_second_controller_on_the_store_is_refused_with_who_has_it(url: str, tmp_path: Path) -> None:
    with Brain(url, tmp_path), pytest.raises(StoreError, match=r"process|pid"):
        Brain(url, tmp_path).__enter__()


def test_questions_that_are_open_do_not_keep_a_controller_from_ending(url: str, tmp_path: Path) -> None:
    with Hub(url, heartbeat=60.0), PlainClient(url) as client:
        with Brain(url, tmp_path):
            client.await_controller()
            client.submit(200)
            for _ in range(200):
                client.say(CONTROLLER, m.AskTasks(client.request(), limit=200))
        client.await_controller(there=False)


def test_what_is_said_while_a_controller_ends_harms_it_not_and_is_served_by_the_next(url: str, tmp_path: Path) -> None:
    with Hub(url, heartbeat=60.0), PlainClient(url) as client:
        tasks = new_task_ids(300)
        with Brain(url, tmp_path):
            client.await_controller()
            for task in tasks:
                group = m.Group(Options(Kind.CALL, "a:f"), [(task, b"")])
                client.say(CONTROLLER, m.Submit(client.request(), [group]))
        client.await_controller(there=False)
        with Brain(url, tmp_path):
            client.await_controller()
            group = m.Group(Options(Kind.CALL, "a:f"), [(task, b"") for task in tasks])
            answer = client.ask(lambda request: m.Submit(request, [group], again=True), m.Accepted)
            assert answer.count == len(tasks), "known or not, each is there once"
            jobs = client.ask(lambda request: m.AskTasks(request, limit=1_000), m.TaskPage).tasks
            assert sorted(info.task for info in jobs) == sorted(tasks)
