"""What keeps namespaces apart in the controller: who may touch which task, and where a client's tasks belong. Pure.

What somebody may see is what the broker vouches for with each message (:mod:`headway_bus.namespaces`). To those who may not
see a task it does not exist: they are answered as they would be for an id that nobody has.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from headway_bus.ids import TaskId, short_text, text_of
from headway_bus.messages import Group, Submit
from headway_bus.namespaces import SEPARATOR, Scope, may_see, topic_in
from headway_bus.records import Code, Options
from headway_controller.state import ControllerState, Task


def confine(options: Options, scope: Scope) -> tuple[Options, str]:
    """The options within the sender's namespaces, and why not if they name another."""
    if scope is None:
        return options, ""
    namespace = options.namespace or scope[0]
    if namespace not in scope:
        names = ", ".join(repr(each) if each else "the default one" for each in scope)
        return options, f"namespace {options.namespace[:40]!r} is none of yours; expected none, or one of: {names}"
    if namespace != options.namespace:
        options = msgspec.structs.replace(options, namespace=namespace)
    return options, ""


class Tenancy:
    """``known``: whose tasks are that only the store has, as far as the present message needs to know."""

    def __init__(self, state: ControllerState) -> None:
        self._state = state
        self.known: dict[TaskId, str] = {}

    def vouch(self, name: str, scope: Scope) -> None:
        """The broker's word with a message that has just come."""
        if scope is not None:
            self._state.scopes[name] = scope
        elif name in self._state.scopes:
            del self._state.scopes[name]

    def scope_of(self, name: str) -> Scope:
        return self._state.scopes.get(name)

    def sees(self, name: str, task: Task) -> bool:
        """Whether a live task is any business of that client's."""
        scopes = self._state.scopes
        return not scopes or may_see(scopes.get(name), task.options.namespace)

    def confine(self, name: str, message: Submit) -> tuple[Submit, tuple[Code, str] | None]:
        """The submission with each task where it belongs, and why it cannot be taken, if it cannot."""
        scope = self.scope_of(name)
        if scope is None:
            return message, None
        groups = []
        for group in message.groups:
            options, fault = confine(group.options, scope)
            if fault:
                return message, (Code.FORBIDDEN, fault)
            if (foreign := self._first_foreign((task_id for task_id, _ in group.tasks), scope)) is not None:
                return message, (
                    Code.FORBIDDEN,
                    f"the id {short_text(foreign)} is taken; choose another, or another key",
                )
            if (foreign := self._first_foreign(options.after, scope)) is not None:
                return message, (Code.NOT_FOUND, f"they come after {text_of(foreign)}, which is not known")
            groups.append(group if options is group.options else Group(options, group.tasks))
        return msgspec.structs.replace(message, groups=groups), None

    def ids_to_look_up(self, name: str, message: Submit, ended: Container[TaskId]) -> list[TaskId]:
        """Those of a submission's ids that memory knows as ended: only the store can say whose they are."""
        if self.scope_of(name) is None:
            return []
        ids = [task_id for group in message.groups for task_id, _ in group.tasks]
        ids += [parent for group in message.groups for parent in group.options.after]
        return [task_id for task_id in ids if task_id in ended and task_id not in self._state.tasks]

    def _first_foreign(self, ids: Iterable[TaskId], scope: Scope) -> TaskId | None:
        live, known = self._state.tasks, self.known
        for task_id in ids:
            task = live.get(task_id)
            namespace = task.options.namespace if task is not None else known.get(task_id)
            if namespace is not None and not may_see(scope, namespace):
                return task_id
        return None


def topics_of(state: ControllerState, namespace: str, names: Iterable[str]) -> list[str]:
    """Those of these topics that somebody follows who may see what is in the namespace, as the broker calls them."""
    followed = state.topics
    found = [name for name in names if name in followed]
    if state.has_scoped_topics:
        found += [scoped for name in names if (scoped := topic_in(namespace, name)) in followed]
    return found


def plain_topic(topic: str) -> str:
    """What its followers call it."""
    return topic.rpartition(SEPARATOR)[2]
