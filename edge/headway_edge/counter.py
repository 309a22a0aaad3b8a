"""What an agent serves for those who know its name: messages to its plugins, and files. Runs in the agent's children.

It is a model called "edge", like any that a runtime serves: so a message, a file and an answer travel, wait and are
delivered as tasks do, and there is no second way by which something could be lost.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway_bus import task_context
from headway_bus.copying import copy_whole
from headway_bus.file_result import FileResult
from headway_bus.plugins import MessageHandler, handlers
from headway_runtime.files import path_within

MODEL = "edge"
FACTORY = "headway_edge.counter:load"
PLUGINS_VARIABLE = "HEADWAY_EDGE_PLUGIN_MODULES"
PLACE_VARIABLE = "HEADWAY_EDGE_FILES"
"""Where ``headway edge push`` brings files, for tasks that use them."""


def load() -> Counter:
    """The model's factory: imports the agent's plugins, once per child."""
    before = len(handlers)
    for name in filter(None, os.environ.get(PLUGINS_VARIABLE, "").split(",")):
        importlib.import_module(name)
    return Counter(handlers[before:] or list(handlers), Path(os.environ.get(PLACE_VARIABLE, os.curdir)))


class Counter:
    """Serves one verb a call: ``("tell", value)``, ``("push", name)``, ``("pull", path)``."""

    def __init__(self, plugins: list[MessageHandler], place: Path) -> None:
        self._plugins = plugins
        self._place = place
        self._verbs: dict[str, Callable[..., Any]] = {"tell": self.tell, "push": self.push, "pull": self.pull}

    def __call__(self, verb: str, *arguments: Any) -> Any:
        serve = self._verbs.get(verb)
        if serve is None:
            raise ValueError(f"an edge does not serve {verb!r}; expected one of {', '.join(self._verbs)}")
        return serve(*arguments)

    def tell(self, value: Any) -> Any:
        """Hand a message to every plugin, in order. Returns the last answer that is not None."""
        if not self._plugins:
            raise LookupError(
                "this agent has no plugin that takes messages: mark a function with @headway.on_message in a module, and "
                "name the module in the setting edge.plugins"
            )
        answer = None
        for handler in self._plugins:
            said = handler(value)
            answer = answer if said is None else said
        return answer

    def push(self, name: str) -> str:
        """Put a file that came with the task into the agent's folder, whole or not at all. Returns where it lies."""
        path = self._within(name)
        files = task_context.current().files
        if name not in files:
            raise FileNotFoundError(f"no file {name!r} came with this task")
        copy_whole(files[name], path)
        return str(path)

    def pull(self, name: str) -> FileResult:
        """A file's content: in the agent's folder, or anywhere if the path is absolute and the agent's user may read it."""
        path = Path(name) if name.startswith("/") else self._within(name)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {str(path)!r} on this edge")
        return FileResult(path)

    def _within(self, name: str) -> Path:
        return path_within(self._place, name, "the agent")
