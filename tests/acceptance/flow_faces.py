"""The two ways by which a person reaches a bus, with the same verbs: the library, and the command line in a shell.

Each verb gives plain data, so that one test asks the same of both. A task is named by its id.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from acceptance_shell import PATIENCE, Shell

import headway
from headway.cli.views import full_task_data


class Refusal(Exception):  # not an error of the test's, but what is expected
    """The bus or the face said no; the text says why."""


class Face(Protocol):
    """What a person can do."""

    def run(self, folder: Path, entry: str, *args: str, **options: Any) -> str: ...
    def union(self, script: Path, edges: str, **options: Any) -> str: ...
    def show(self, task: str) -> dict[str, Any]: ...
    def listed(self, name: str) -> list[dict[str, Any]]: ...
    def edges_of(self, union: str) -> dict[str, tuple[str, str]]: ...
    def records(self, task: str, follow: bool = False) -> Iterator[dict[str, Any]]: ...
    def stop(self, task: str) -> bool: ...
    def describe(self, task: str, text: str) -> None: ...
    def outputs(self, task: str) -> dict[str, bytes]: ...
    def deploy(self, task: str, path: str, to: str, name: str, script: Path) -> str: ...
    def tell(self, edge: str, value: Any) -> Any: ...
    @contextmanager
    def listening(self, edge: str) -> Iterator[Iterator[Any]]: ...


class Library:
    """A program of the person's."""

    def __init__(self, bus: headway.Client) -> None:
        self.bus = bus

    def run(self, folder: Path, entry: str, *args: str, **options: Any) -> str:
        return self.bus.options(**options).bundle(folder, args, entry).id

    def union(self, script: Path, edges: str, **options: Any) -> str:
        return self.bus.options(edges=edges, **options).script(script).id

    def show(self, task: str) -> dict[str, Any]:
        return full_task_data(self._task(task).info(), 0.0)

    def listed(self, name: str) -> list[dict[str, Any]]:
        return [full_task_data(info, 0.0) for info in self.bus.tasks(name=name)]

    def edges_of(self, union: str) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = self.bus.union_of(union).state().get("edges", {})
        return {edge: (part, status) for edge, (part, status) in found.items()}

    def records(self, task: str, follow: bool = False) -> Iterator[dict[str, Any]]:
        for record in self._task(task).logs(follow=follow):
            yield {"stream": record.stream, "text": record.text, "sequence": record.sequence, "at_seconds": record.at}

    def stop(self, task: str) -> bool:
        return self._task(task).cancel()

    def describe(self, task: str, text: str) -> None:
        with refusals():
            self._task(task).describe(text)

    def outputs(self, task: str) -> dict[str, bytes]:
        found: dict[str, bytes] = self._task(task).result(PATIENCE)["outputs"]
        return found

    def deploy(self, task: str, path: str, to: str, name: str, script: Path) -> str:
        there = self.bus.deploy(self.outputs(task)[path], name, to)
        return self.bus.options(edges=to, after=there.task).script(script).id

    def tell(self, edge: str, value: Any) -> Any:
        return self.bus.tell(edge, value).result(PATIENCE)

    @contextmanager
    def listening(self, edge: str) -> Iterator[Iterator[Any]]:
        events = self.bus.subscribe("messages", timeout=PATIENCE)
        yield (event.records[0].fields["value"] for event in events if event.data["runtime"] == edge)

    def _task(self, task: str) -> headway.ClientTask:
        with refusals():
            return self.bus.task(task)


class CommandLine:
    """A person at a shell."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def run(self, folder: Path, entry: str, *args: str, **options: Any) -> str:
        return self._ok("bundle", folder, "--entry", entry, *words_of(options), "--", *args).strip()

    def union(self, script: Path, edges: str, **options: Any) -> str:
        return self._ok("script", script, "--edges", edges, *words_of(options)).strip()

    def show(self, task: str) -> dict[str, Any]:
        return self._json("show", task)

    def listed(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._json("ps", "--name", name)
        return found

    def edges_of(self, union: str) -> dict[str, tuple[str, str]]:
        return {edge: (part, status) for edge, (part, status) in self._json("union", union).get("edges", {}).items()}

    def records(self, task: str, follow: bool = False) -> Iterator[dict[str, Any]]:
        process = self.shell.start("logs", task, "--json", *(["--follow"] if follow else []))
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
        finally:
            end(process)

    def stop(self, task: str) -> bool:
        return bool(self._json("cancel", task)["count"])

    def describe(self, task: str, text: str) -> None:
        self._ok("describe", task, text)

    def outputs(self, task: str) -> dict[str, bytes]:
        folder = self.shell.home / f"outputs-{task}"
        found = self._json("outputs", task, folder)
        return {each["path"]: (folder / each["path"]).read_bytes() for each in found}

    def deploy(self, task: str, path: str, to: str, name: str, script: Path) -> str:
        return str(self._json("deploy", task, path, "--to", to, "--as", name, "--run", script)["script"])

    def tell(self, edge: str, value: Any) -> Any:
        return self._json("edge", "tell", edge, json.dumps(value))["result"]

    @contextmanager
    def listening(self, edge: str) -> Iterator[Iterator[Any]]:
        process = self.shell.start("edge", "listen", edge, "--json")
        assert process.stdout is not None and process.stderr is not None
        try:
            assert "listening" in process.stderr.readline()
            yield (json.loads(line)["value"] for line in process.stdout)
        finally:
            end(process)

    def _ok(self, *words: str | Path) -> str:
        done = self.shell(*words)
        if done.status != 0:
            raise Refusal(f"{done.status}: {done.err}")
        return done.out

    def _json(self, *words: str | Path) -> Any:
        return json.loads(self._ok(*words, "--json"))


def words_of(options: dict[str, Any]) -> Sequence[str]:
    """Options of the library as they are typed."""
    names = {"outputs": "output"}
    return [word for name, value in options.items() for word in (f"--{names.get(name, name)}", str(value))]


@contextmanager
def refusals() -> Iterator[None]:
    """What the library raises for what a person can cause, as the other face has it."""
    try:
        yield
    except headway.Refused as error:
        raise Refusal(str(error)) from error
    except (TypeError, ValueError) as error:
        raise Refusal(str(error)) from error


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=PATIENCE)
