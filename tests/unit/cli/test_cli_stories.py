"""Explanations and log records as a person reads them."""

from __future__ import annotations

import time

from headway.cli.stories import story_lines
from headway.cli.streams import record_text
from headway_bus.ids import new_task_id
from headway_bus.records import LogRecord

NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


def test_a_task_that_waits_for_room() -> None:
    story = {
        "state": "queued",
        "lacks": ["needs gpu >= 1: 2 runtimes could give it, all busy", "would start now with gpu=0.5"],
        "candidates": [{"runtime": "b", "waiting": 60.0, "error": 3.0, "run": 5.0, "completion": 65.0, "running": 2}],
        "candidate_count": 2,
        "refused": [{"runtime": "c", "reasons": ["gpu >= 1 (it has 0)"]}],
        "refused_count": 1,
        "starts": {"expectation": 60.0, "error": 3.0, "p50": 60.0, "p90": 64.0, "known": True, "why": ""},
        "ends": {"expectation": 0.0, "error": 0.0, "known": False, "why": "never seen"},
        "strategy": "headway_completion",
        "predictor": "learned",
        "of_a_later_version": {"a": [1, {"b": True}]},
    }
    assert story_lines(story, NOON) == [
        "queued",
        "  needs gpu >= 1: 2 runtimes could give it, all busy",
        "  would start now with gpu=0.5",
        "predicted start: ~12:01:00 ± 3 s (in 1 min)",
        "predicted end: unknown: never seen",
        "candidates (2), the best first:",
        "  b: done in 1 min 5 s; waiting 1 min ± 3 s and running 5 s; running 2",
        "not considered (1):",
        "  c: gpu >= 1 (it has 0)",
        "placed by headway_completion, with the estimates of learned",
        "of a later version:",
        "  a:",
        "    - 1",
        "    - b yes",
    ]


def test_a_running_task_and_one_that_waits_for_another() -> None:
    running = {"state": "running", "runtime": "a", "expected_seconds": 1.5, "expected_error": 0.2, "why": "it had room"}
    assert story_lines(running, NOON) == ["running on a; expected to take 1.5 s ± 200 ms; it had room"]
    unknown = running | {"known": False, "starts": {"expectation": 0.0, "known": True}}
    assert story_lines(unknown, NOON) == ["running on a; how long it takes is unknown; it had room"]
    waiting = {"state": "waiting", "why": "after others", "after": ["abc", "def"], "seconds": 90.0}
    assert story_lines(waiting, NOON) == ["waiting; after others; 1 min 30 s left", "after:", "  - abc", "  - def"]
    assert story_lines({}, NOON) == ["unknown"]


def record(stream: str, text: str, **fields: object) -> LogRecord:
    return LogRecord(new_task_id(), 1, 0, stream, 0.0, text, dict(fields))


def test_log_records() -> None:
    assert record_text(record("stdout", "as it was\n")) == "as it was"
    assert record_text(record("log", "epoch", loss=0.1, note="a b", n=3)) == '[log] epoch loss=0.1 note="a b" n=3'
    assert record_text(record("metric", "", value=[1, 2])) == "[metric] value=[1, 2]"
