"""From what a person wrote to what travels: options record and encoded arguments. Touches no socket and no loop.

The same for the asynchronous and the blocking client, and safe in any thread.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from headway.options import Choice
from headway.parcels import MESSAGE_TASKS
from headway.targets import name_of, target_of
from headway_bus import ids, payloads
from headway_bus.errors import TooLarge
from headway_bus.ids import TaskId
from headway_bus.records import File, Kind, Options

Row = TypeVar("Row")
Target = str | Callable[..., Any]
FileSource = str | Path | bytes
Files = Sequence[str | Path] | Mapping[str, FileSource]

MAX_RECORDS = 256
SECRET_BYTES = 262_144
"""The longest secret arguments: they travel and are stored in line, because blobs are not encrypted."""


class Caller:
    """A choice of options and the records made from it: the same options are the same object, so they share a group."""

    __slots__ = ("_records", "choice", "files", "limit")

    def __init__(self, choice: Choice, limit: int, files: Sequence[File] = ()) -> None:
        self.choice = choice
        self.limit = limit
        self.files = list(files)  # that go with calls
        self._records: dict[Any, Options] = {}

    def with_(self, given: Mapping[str, object]) -> Caller:
        return Caller(self.choice.with_(given), self.limit, self.files)

    def with_files(self, files: Sequence[File]) -> Caller:
        """The same with these files, too; of two with one name the later counts."""
        known = {file.path: file for file in (*self.files, *files)}
        return Caller(self.choice, self.limit, list(known.values()))

    def union(
        self,
        target: Target,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        merge: Target | None,
        rounds: int | None,
        initial: Any,
    ) -> tuple[Options, bytes]:
        """The record of a union and its arguments: merge and rounds as far as they are given; rounds feed one another, and
        the first of them has the initial value. Raises what :meth:`call` and :meth:`encode` raise, and BadOption."""
        given: dict[str, object] = {"merge": merge} if merge is not None else {}
        if rounds is not None:
            given |= {"rounds": rounds, "feeds": rounds > 1}
            args = (initial, *args)
        caller = self.with_(given)
        record = caller.call(target)
        if record.union is None:
            raise ValueError("a union needs the option edges: bus.options(edges='region=north').union(…)")
        return record, caller.encode(target, args, kwargs)

    def call(self, target: Target) -> Options:
        """The record for calls of this target. Raises ValueError or TypeError if it cannot be named."""
        try:
            return self._records[target]
        except KeyError:
            pass
        except TypeError:  # an object that cannot be hashed cannot be kept either
            return self.choice.record(Kind.CALL, target_of(target), self.files)
        if self.choice.by_value:
            if isinstance(target, str):
                raise TypeError(f"target {target!r}: with by_value=True, pass the function itself, not its path")
            return self._keep(target, Kind.CALL, name_of(target))
        return self._keep(target, Kind.CALL, target_of(target))

    def other(self, kind: Kind, target: str) -> Options:
        """The record for a command or a model."""
        return self._records.get((kind, target)) or self._keep((kind, target), kind, target)

    def script(self, name: str, files: list[File]) -> Options:
        return self.choice.record(Kind.SCRIPT, name, files)

    def encode(self, target: Target, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The arguments of one call. Raises CannotEncode, TooLarge."""
        if self.choice.by_value and not isinstance(target, str):
            return self._checked(payloads.encode_by_value(target, args, kwargs, self.limit))
        return self._checked(payloads.encode_call(args, kwargs, None, self.limit))

    def encode_extras(self, args: Sequence[Any], extras: Mapping[str, Any]) -> bytes:
        """The arguments of a command or script. Raises ValueError where a secret would stand in its command line."""
        if self.choice.secret and (args or extras.get("params")):
            raise ValueError(
                "option secret: arguments and params stand in the command line, which every user of the machine can read "
                "with ps; hand the secret over by env"
            )
        return self._checked(payloads.encode_call(args, {}, extras, self.limit))

    def _checked(self, data: bytes) -> bytes:
        if self.choice.secret and len(data) > SECRET_BYTES:
            raise TooLarge(
                f"{len(data)} bytes of secret arguments, at most {SECRET_BYTES}: what is larger lies in files that are not "
                "encrypted. Hand over a key to the data instead"
            )
        return data

    def new_id(self, namespace: str) -> TaskId:
        """A fresh id, or the one that the caller's own key stands for. ``namespace``: where it goes without the option."""
        choice = self.choice
        return ids.named_task_id(choice.key, choice.namespace or namespace) if choice.key else ids.new_task_id()

    def check_several(self) -> None:
        if self.choice.key:
            raise ValueError(
                "option key: it names one task, and a map makes many; submit them one by one with a key each"
            )

    def _keep(self, key: Any, kind: Kind, target: str) -> Options:
        if len(self._records) >= MAX_RECORDS:
            self._records.clear()
        files = self.files if kind in (Kind.CALL, Kind.MODEL) else None
        record = self._records[key] = self.choice.record(kind, target, files)
        return record


def chunks(rows: Iterable[Row], size: int | None) -> Iterator[list[Row]]:
    """The rows in lists of at most ``size``, taken from their source as they are needed."""
    if size is not None and size < 1:
        raise ValueError(f"chunksize={size}: expected 1 or more")
    source = iter(rows)
    while chunk := list(islice(source, min(size or MESSAGE_TASKS, MESSAGE_TASKS))):
        yield chunk


def command_line(line: str, params: Mapping[str, Any] | None) -> str:
    """The line with each ``{name}`` of ``params`` replaced, quoted for the shell as one word.

    Other braces are the shell's: ``{a,b}``, ``${HOME}`` and ``awk '{print $1}'`` stay as they are.
    """
    if not params:
        return line
    names = "|".join(re.escape(name) for name in params)
    return re.sub(rf"(?<!\$)\{{({names})\}}", lambda found: shlex.quote(str(params[found[1]])), line)


def command_extras(
    params: Mapping[str, Any] | None, env: Mapping[str, str] | None, cwd: str | Path | None
) -> dict[str, Any]:
    """What goes with a command or script beside its arguments."""
    extras: dict[str, Any] = {}
    if params:
        extras["params"] = dict(params)
    if env:
        wrong = [name for name, value in env.items() if not isinstance(value, str)]
        if wrong:
            raise TypeError(f"env[{wrong[0]!r}]={env[wrong[0]]!r}: expected a str")
        extras["env"] = dict(env)
    if cwd is not None:
        extras["cwd"] = str(cwd)
    return extras


def script_files(script: str | Path, files: Files | None) -> tuple[str, dict[str, bytes | Path]]:
    """The script's name, and every file that goes with it, or its content, by its path in the attempt's folder.

    A sequence of paths: each lies beside the script under its own name, folders with all that is in them. A mapping says
    where each goes.
    """
    script = Path(script)
    return script.name, {script.name: _present(script)} | file_contents(files)


def _present(path: Path) -> Path:
    """A file that is there: what is not is said before anything is sent."""
    if path.exists() and not path.is_file():
        raise OSError(
            errno.EINVAL, "not a regular file: what a folder, a pipe or a device holds is not sent", str(path)
        )
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path


def file_contents(files: Files | None) -> dict[str, bytes | Path]:
    """Every file, or its content, by its name. A folder stands for all that is in it."""
    contents: dict[str, bytes | Path] = {}
    named = files if isinstance(files, Mapping) else {Path(each).name: each for each in files or ()}
    for name, source in named.items():
        where = Path(name)
        if where.is_absolute() or ".." in where.parts or not where.parts:
            raise ValueError(f"file {name!r}: expected a relative path, without '..'")
        if isinstance(source, bytes):
            contents[where.as_posix()] = source
        elif Path(source).is_dir():
            inside = sorted(path for path in Path(source).rglob("*") if path.is_file())
            contents.update({(where / path.relative_to(source)).as_posix(): path for path in inside})
        else:
            contents[where.as_posix()] = _present(Path(source))
    return contents
