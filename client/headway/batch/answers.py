"""What a running batch answers over HTTP: the calls and bodies of hyperctl, with true status codes beside them.

``answer`` is a function of method and path and knows no server, so that any can mount it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from headway.batch.config import Job, Loaded
from headway.batch.folder import BatchFolder
from headway.batch.records import State

ROOT = "/hyperctl"
JOBS = "/hyperctl/api/job"


@dataclass(frozen=True)
class Answer:
    """``body``: text as it is, or what becomes JSON."""

    status: HTTPStatus
    body: str | dict[str, Any]

    @property
    def content(self) -> tuple[str, bytes]:
        """Its type and its bytes."""
        if isinstance(self.body, str):
            return "text/html; charset=utf-8", self.body.encode()
        return "application/json", json.dumps(self.body, ensure_ascii=False, default=str).encode()


class Answers:
    """The calls of one batch. ``kill(name)`` ends a running job and says whether there was one."""

    def __init__(self, loaded: Loaded, folder: BatchFolder, kill: Callable[[str], bool]) -> None:
        self._jobs = {str(job.name): job for job in loaded.jobs}
        self._folder = folder
        self._kill = kill

    def answer(self, method: str, path: str) -> Answer:
        """The answer to one call."""
        if path.rstrip("/") == ROOT:
            return Answer(HTTPStatus.OK, "Welcome to hyperctl.") if method == "GET" else _wrong_method()
        if path.rstrip("/") == JOBS:
            return self._all() if method == "GET" else _wrong_method()
        name, slash, operation = path.removeprefix(f"{JOBS}/").partition("/")
        if not path.startswith(f"{JOBS}/") or "/" in operation:
            return Answer(HTTPStatus.NOT_FOUND, {"code": -1, "data": {"msg": "resource not found"}})
        if slash:
            return self._operate(unquote(name), unquote(operation)) if method == "POST" else _wrong_method()
        return self._one(unquote(name)) if method == "GET" else _wrong_method()

    def _all(self) -> Answer:
        states = self._folder.states(self._jobs)
        return _good({"jobs": [self._data(job, states[name]) for name, job in self._jobs.items()]})

    def _one(self, name: str) -> Answer:
        job = self._jobs.get(name)
        if job is None:
            return Answer(HTTPStatus.NOT_FOUND, {"code": -1, "data": {"msg": "resource not found"}})
        return _good(self._data(job, self._folder.states([name])[name]))

    def _operate(self, name: str, operation: str) -> Answer:
        if operation != "kill":
            return _bad(HTTPStatus.NOT_FOUND, f"unknown operation {operation} ")
        if name not in self._jobs:
            return _bad(HTTPStatus.NOT_FOUND, f"job {name} does not exists ")
        state = self._folder.states([name])[name]
        if state is not State.RUNNING or not self._kill(name):
            return _bad(HTTPStatus.CONFLICT, f"job {name} in not in running status but is {state} ")
        return _good({"msg": f"{name} killed"})

    def _data(self, job: Job, state: State) -> dict[str, Any]:
        resource = job.resource
        return {
            "name": job.name,
            "params": job.params,
            "resource": {"cpu": resource.cpu, "ram": resource.ram, "gpu": resource.gpu},
            "working_dir": job.working_dir or str(self._folder.job_path(str(job.name))),
            "assets": job.assets,
            "status": str(state),
        }


def _good(data: dict[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, {"code": 0, "data": data})


def _bad(status: HTTPStatus, words: str) -> Answer:
    return Answer(status, {"code": -1, "data": words})


def _wrong_method() -> Answer:
    return _bad(HTTPStatus.METHOD_NOT_ALLOWED, "HTTP 405: Method Not Allowed")
