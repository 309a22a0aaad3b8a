"""Explanations come from the code that places: candidates, refusals, what is lacking, and why here."""

from __future__ import annotations

import msgspec
from placement_cases import committed, options, teach, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import Requirements, RuntimeInfo


def test_a_waiting_task_says_what_it_lacks_and_what_would_help() -> None:
    scheduler = with_runtimes(
        RuntimeInfo("one", slots=4, gpus=["g"]), RuntimeInfo("two", slots=4, gpus=["g"]), RuntimeInfo("none", slots=4)
    )
    half, whole = options(requirements=Requirements(gpu=0.5)), options(requirements=Requirements(gpu=1.0))
    scheduler.enqueue_many(half, new_task_ids(2), 0.0)
    assert len(committed(scheduler, 0.0)) == 2
    scheduler.enqueue_many(whole, new_task_ids(3), 0.0)
    committed(scheduler, 0.0)
    story = scheduler.explain(whole, 0.0)
    assert story["state"] == "queued"
    assert story["candidate_count"] == 2
    assert [each["runtime"] for each in story["refused"]] == ["none"]
    assert "gpu" in story["refused"][0]["reasons"][0]
    assert story["lacks"][0] == "needs slots=1 gpu=1: 2 runtimes could give it, all busy"
    assert msgspec.msgpack.encode(story)


def test_less_that_would_start_now_is_named() -> None:
    scheduler = with_runtimes(RuntimeInfo("one", slots=4, gpus=["g"], labels={"zone": "x"}))
    scheduler.enqueue_many(options(requirements=Requirements(gpu=0.5)), new_task_ids(1), 0.0)
    assert len(committed(scheduler, 0.0)) == 1
    whole = options(requirements=Requirements(gpu=1.0))
    assert "would start now with gpu=0.5" in scheduler.explain(whole, 0.0)["lacks"]
    elsewhere = options(requirements=Requirements(labels={"zone": "y"}))
    lacks = scheduler.explain(elsewhere, 0.0)["lacks"]
    assert lacks == [
        "no runtime may run it: none of 1 fulfils all of what it asks for",
        "would start now with any zone instead of y",
    ]


def test_a_committed_task_says_why_it_is_there() -> None:
    scheduler = with_runtimes(RuntimeInfo("slow", slots=1), RuntimeInfo("fast", slots=1, speed=4.0))
    kind = options()
    teach(scheduler, kind, "slow", 1.0)
    (task,) = new_task_ids(1)
    scheduler.enqueue(task, kind, 0.0)
    assert committed(scheduler, 0.0) == [("fast", task)]
    story = scheduler.explain(kind, 0.0, task)
    assert (story["state"], story["runtime"]) == ("committed", "fast")
    assert "slow" in story["why"]
    scheduler.started_many("fast", [(task, 0.0)], 0.1)
    assert scheduler.explain(kind, 0.1, task)["state"] == "running"


def test_without_runtimes_it_says_so_and_a_set_aside_one_is_named_with_the_reason() -> None:
    scheduler = with_runtimes()
    assert scheduler.explain(options(), 0.0)["lacks"] == ["no runtime is connected"]
    scheduler.add_runtime(RuntimeInfo("a", slots=1), 0.0)
    scheduler.set_aside("a", "no disk", 100.0)
    (refused,) = scheduler.explain(options(), 1.0)["refused"]
    assert refused == {"runtime": "a", "reasons": ["it is set aside: no disk"]}
