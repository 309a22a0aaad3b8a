"""Descriptions that tasks were given after their submission. Pure.

A task's options are shared by all the tasks of a map, and nothing in them changes under a task that runs. So a later
description stands beside them, with a story of its own, and what is shown of a task has both.
"""

from __future__ import annotations

from collections import OrderedDict

from headway_bus.errors import Refused
from headway_bus.ids import ID_BYTES, TaskId, text_of
from headway_bus.messages import Changed, Describe
from headway_bus.namespaces import Scope, may_see
from headway_bus.records import Code, Transition
from headway_controller.checks import find_description_fault
from headway_controller.news import News
from headway_controller.state import ControllerState, Ended, owner_of
from headway_controller.store.protocol import Described, DescribeTask, StoredTask
from headway_controller.story import decode_story, encode_story
from headway_controller.turn import Turn

DESCRIBED = "described"
"""How a story names such a step."""

TOLD_CHANGES = 100
"""Changes that a task's story tells, the last ones: a program may write its progress there for weeks."""

TOLD_CHARACTERS = 200
"""Characters of a description in the story; the present one is shown whole."""

REMEMBERED = 1_000
"""Ended tasks whose last description is remembered, because the store may not have it yet when it is read."""

REMEMBERED_CHARACTERS = 10_000_000
"""The most that their descriptions and stories occupy: each may be long."""


class Descriptions:
    """Gives tasks other descriptions, those that live and those that only the store has."""

    def __init__(self, state: ControllerState, turn: Turn, news: News) -> None:
        self._state = state
        self._turn = turn
        self._news = news
        self._recent: OrderedDict[TaskId, Described] = OrderedDict()
        self._characters = 0

    def describe(self, client: str, scope: Scope, ask: Describe, stored: StoredTask | None, at: float) -> None:
        """Do it; the answer goes out when it is stored. ``stored``: the task, if only the store has it. ``at``: Unix time.

        Raises Refused.
        """
        if fault := find_description_fault(ask.text):
            raise Refused(Code.INVALID, fault)
        if len(ask.task) != ID_BYTES:
            raise Refused(Code.INVALID, f"a task id of {len(ask.task)} bytes; expected {ID_BYTES}")
        task = self._state.tasks.get(ask.task)
        options = task.options if task is not None else stored.options if stored is not None else None
        if options is None or not may_see(scope, options.namespace):
            raise Refused(Code.NOT_FOUND, f"no task {text_of(ask.task)}: it was never accepted here, or was purged")
        before = task.described if task is not None else self.latest(stored)
        made = changed(before, options.description, ask.text, owner_of(client), at)
        if made is not None:
            self._turn.store(DescribeTask(ask.task, made))
            if task is not None:
                task.described = made
                self._news.on_task(task, at, description=ask.text[:TOLD_CHARACTERS])
            if task is None or isinstance(task.state, Ended):
                self._remember(ask.task, made)
        self._turn.due.replies.append((client, Changed(ask.request, 1)))

    def latest(self, stored: StoredTask | None) -> Described | None:
        """What a task that has ended was last described as, whether the store has it yet or not."""
        return None if stored is None else self._recent.get(stored.task, stored.described)

    def forget(self, task_id: TaskId) -> None:
        """The task is purged."""
        if (known := self._recent.pop(task_id, None)) is not None:
            self._characters -= _length(known)

    def _remember(self, task_id: TaskId, made: Described) -> None:
        self.forget(task_id)
        self._recent[task_id] = made
        self._characters += _length(made)
        while len(self._recent) > REMEMBERED or (self._characters > REMEMBERED_CHARACTERS and len(self._recent) > 1):
            self.forget(next(iter(self._recent)))


def _length(described: Described) -> int:
    return len(described.text) + len(described.story)


def changed(before: Described | None, original: str, text: str, who: str, at: float) -> Described | None:
    """What is kept of a task that is now described as ``text``; None where it was before, which makes a repeat harmless."""
    if text == (original if before is None else before.text):
        return None
    story = (decode_story(before.story) if before is not None else None) or []
    shown = text if len(text) <= TOLD_CHARACTERS else text[:TOLD_CHARACTERS] + " …"
    step = Transition(at, DESCRIBED, f"by {who}: {shown}" if shown else f"by {who}: taken away")
    return Described(text, at, encode_story([*story, step][-TOLD_CHANGES:]))
