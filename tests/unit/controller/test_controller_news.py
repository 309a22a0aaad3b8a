"""What is published: changes of tasks and runtimes, to topics that somebody follows and to no others."""

from __future__ import annotations

from typing import Any

from controller_bench import CLIENT, RUNTIME, Bench, task_id

from headway_bus import messages as m
from headway_bus.codec import MAX_HEADER_BYTES, encode
from headway_bus.ids import text_of


def follow(bench: Bench, *topics: str) -> None:
    bench.tell("", m.TopicsChanged(list(topics), []))


def changes(bench: Bench, topic: str) -> list[dict[str, Any]]:
    """All changes published on the topic since the last look."""
    found: list[dict[str, Any]] = []
    for message in bench.take_all("*" + topic):
        assert isinstance(message, m.Event) and (message.topic, message.name) == (topic, "changed")
        found += message.data["changes"]
    return found


def test_a_task_is_followed_through_its_life() -> None:
    bench = Bench()
    topic = "task." + text_of(task_id(1))
    follow(bench, topic)
    bench.submit(1, job="j", name="x")
    bench.join()
    bench.take_assigned()
    bench.start(1)
    bench.end(1)
    bench.take_ends()
    found = changes(bench, topic)
    assert [change["status"] for change in found] == ["assigned", "running", "succeeded"]
    assert {(change["job"], change["name"], change["runtime"]) for change in found} == {("j", "x", RUNTIME)}
    assert [change["at"] for change in found] == sorted(change["at"] for change in found)
    bench.emptiness_check()


def test_a_job_and_all_tasks_are_followed_at_once() -> None:
    bench = Bench()
    follow(bench, "job.j", "tasks")
    bench.submit(1, 2, job="j")
    bench.submit(3, job="other")
    bench.tell(CLIENT, m.Cancel(1, [task_id(1), task_id(3)]))
    bench.take_ends()
    bench.take(CLIENT, m.Changed)
    assert [change["task"] for change in changes(bench, "job.j")] == [text_of(task_id(1))]
    assert len(changes(bench, "tasks")) == 2
    bench.emptiness_check()


def test_runtimes_come_drain_and_go() -> None:
    bench = Bench()
    follow(bench, "runtimes")
    bench.join()
    bench.tell(CLIENT, m.DrainRuntime(1, RUNTIME))
    bench.take(CLIENT, m.Changed)
    bench.take(RUNTIME, m.SetDrain)
    bench.wait(60.0)
    assert [change["state"] for change in changes(bench, "runtimes")] == ["online", "draining", "offline"]
    bench.emptiness_check()


def test_expected_waits_are_told_when_they_move() -> None:
    bench = Bench()
    bench.join()
    follow(bench, "queues")
    bench.wait_beating(0.1)
    (first,) = changes(bench, "queues")
    assert first["runtime"] == RUNTIME
    bench.wait_beating(0.1)
    assert changes(bench, "queues") == [], "nothing has moved"
    bench.submit(*range(1, 200))
    bench.take_all(RUNTIME)
    bench.wait_beating(0.1)
    assert all(change["runtime"] == RUNTIME for change in changes(bench, "queues"))


def test_nothing_is_made_for_topics_that_nobody_follows() -> None:
    bench = Bench()
    follow(bench, "job.other")
    bench.submit(1, job="j")
    bench.tell(CLIENT, m.Cancel(1, [task_id(1)]))
    bench.take_ends()
    bench.take(CLIENT, m.Changed)
    bench.emptiness_check()


def test_ten_thousand_changes_at_once_are_messages_that_a_peer_can_read() -> None:
    count = 10_000
    bench = Bench()
    bench.submit(*range(1, count + 1), job="j" * 900, watch=False)
    follow(bench, "tasks")
    bench.tell(CLIENT, m.Cancel(1, [], "j" * 900))
    bench.take(CLIENT, m.Changed)
    assert all(len(encode(sent.message)) < MAX_HEADER_BYTES for sent in bench.sent)
    assert len(changes(bench, "tasks")) == count
