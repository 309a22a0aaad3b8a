"""What is published to those who follow it: changes of tasks, of runtimes, of expected waits.

Topics: ``task.<id>``, ``job.<name>``, ``union.<id>`` (it and its parts), ``tasks``, ``runtimes``, ``queues`` (and
``logs.<id>``, see ``fleet``). Nothing is made for a topic that nobody follows; a wake-up's changes on a topic are one message.
"""

from __future__ import annotations

from typing import Any

from headway_bus.ids import text_of
from headway_bus.messages import Event
from headway_bus.records import Estimate, QueueState
from headway_controller.placement import Scheduler
from headway_controller.state import ControllerState, Task, status_of
from headway_controller.tenancy import plain_topic, topics_of
from headway_controller.turn import Turn

MESSAGE_CHANGES = 1_000
"""Changes in one message: a job of a million tasks that is cancelled must not make a header that nobody reads."""

LEAST_SHARE = 0.1
LEAST_SECONDS = 1.0
"""An expected wait is told again when it has moved by more than this share of itself, or by more than so many seconds."""


class News:
    """Gathers changes and gives them out at the end of the wake-up."""

    def __init__(self, state: ControllerState, turn: Turn, scheduler: Scheduler) -> None:
        self._state = state
        self._turn = turn
        self._scheduler = scheduler
        self._changes: dict[str, list[dict[str, Any]]] = {}
        self._told: dict[tuple[str, str], Estimate] = {}

    def on_task(self, task: Task, at: float, **more: str) -> None:
        """The task's status, or what ``more`` says, has changed. ``at``: Unix time."""
        if not self._state.topics:
            return
        text, job = text_of(task.id), task.options.job
        topics_of_it = [f"task.{text}", f"job.{job}", "tasks"]
        if task.options.part is not None:
            topics_of_it.append("union." + text_of(task.options.part.union))
        elif task.options.union is not None:
            topics_of_it.append("union." + text)
        followed = topics_of(self._state, task.options.namespace, topics_of_it)
        if not followed:
            return
        change = {
            "task": text,
            "status": str(status_of(task)),
            "name": task.options.name,
            "job": job,
            "runtime": task.runtime,
            "attempt": task.attempt,
            "at": at,
            **more,
        }
        if task.options.part is not None:
            change |= {"edge": task.options.part.edge, "round": task.options.part.round}
        for topic in followed:
            self._changes.setdefault(topic, []).append(change)

    def on_runtime(self, name: str, state: str, why: str, at: float) -> None:
        """A runtime came, went, drains, or was set aside."""
        if "runtimes" in self._state.topics:
            change = {"runtime": name, "state": state, "why": why, "at": at}
            self._changes.setdefault("runtimes", []).append(change)

    def on_time(self, now: float) -> None:
        """Look whether expected waits have moved by enough to be told."""
        if "queues" not in self._state.topics:
            self._told.clear()
            return
        for queue in self._scheduler.queues("", now):
            key = (queue.runtime, queue.target)
            told = self._told.get(key)
            if told is None or _has_moved(told, queue.waiting):
                self._told[key] = queue.waiting
                self._changes.setdefault("queues", []).append(_plain(queue))

    def finish(self) -> None:
        """Publish what has gathered."""
        if self._changes:
            changes, self._changes = self._changes, {}
            for topic, found in changes.items():
                for start in range(0, len(found), MESSAGE_CHANGES):
                    part = found[start : start + MESSAGE_CHANGES]
                    self._turn.send("*" + topic, Event(plain_topic(topic), "changed", {"changes": part}))


def _has_moved(told: Estimate, present: Estimate) -> bool:
    distance = abs(present.expectation - told.expectation)
    return told.known != present.known or distance > min(LEAST_SECONDS, LEAST_SHARE * max(told.expectation, 1e-3))


def _plain(queue: QueueState) -> dict[str, Any]:
    waiting = queue.waiting
    return {
        "runtime": queue.runtime,
        "target": queue.target,
        "expectation": waiting.expectation,
        "error": waiting.error,
        "p50": waiting.p50,
        "p90": waiting.p90,
        "known": waiting.known,
        "planned": queue.planned,
        "committed": queue.committed,
        "running": queue.running,
    }
