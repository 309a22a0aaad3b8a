"""The records of a batch file, every documented field of them, checked.

What is wrong is told with the file, the path in it, and what was expected; keys that nobody knows are warned of.
"""

from __future__ import annotations

import difflib
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headway.batch.errors import BatchFileError
from headway.batch.names import file_name
from headway.batch.reading import read_tree

DATA_DIR_VARIABLE = "HYPERCTL_BATCHES_DATA_DIR"
DEFAULT_DATA_DIR = "~/hyperctl-batches-data-dir"
NAMELESS = uuid.UUID("6e0b0c6e-5a2f-4b52-9d0c-6a3f0b1d7c11")
"""The namespace of names that are made for jobs without one."""

Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(min_length=1, max_length=1000)]
Amount = Annotated[float, Meta(ge=0.0, le=1e9)]
Seconds = Annotated[float, Meta(ge=0.0, le=10 * 365 * 86400.0)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Value = str | int | float | bool
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the records."""


class Resource(Part, frozen=True):
    """What a job occupies while it runs. ``ram``: bytes, or a text such as "512MiB"; it is its limit, too."""

    cpu: Amount = 0.0
    ram: Annotated[float, Meta(ge=0.0)] | str = 0
    gpu: Amount = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.ram, str) and not _SIZE.fullmatch(self.ram):
            raise ValueError(f"ram {self.ram!r}: expected bytes, or a text such as '512MiB' or '2G'")

    @property
    def is_asked(self) -> bool:
        return bool(self.cpu or self.memory or self.gpu)

    @property
    def memory(self) -> int:
        """Bytes."""
        if not isinstance(self.ram, str):
            return int(self.ram)
        match = _SIZE.fullmatch(self.ram)
        assert match is not None
        unit = 1024 if match[3] else 1000
        return int(float(match[1]) * unit ** " kmgt".index(match[2].lower() or " "))


class Job(Part, frozen=True):
    """One command with its parameters. ``timeout``: seconds of one attempt, 0: none."""

    name: Name | None = None
    params: dict[str, Any] = {}
    command: Text | None = None
    working_dir: Text | None = None
    assets: list[Text] = []
    resource: Resource = Resource()
    timeout: Seconds = 0.0
    max_attempts: Annotated[int, Meta(ge=1, le=1000)] = 1


class LocalBackend(Part, frozen=True, tag_field="type", tag="local"):
    """This machine. ``slots``: jobs at the same time, None: one for each core."""

    environments: dict[str, Value] = {}
    slots: Annotated[float, Meta(gt=0, le=100_000)] | None = None


class Connection(Part, frozen=True):
    """The way to a machine. What is not said is read in ``~/.ssh/config``.

    ``ssh_rsa_file``: a private key of any kind. ``host_key``: the fingerprint that the machine must show, "SHA256:…".
    ``known_hosts``: another file than ``~/.ssh/known_hosts``.
    """

    hostname: Text
    username: Text | None = None
    password: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    ssh_rsa_file: str | None = None
    passphrase: str | None = None
    host_key: Annotated[str, Meta(pattern=r"^SHA256:\S+$")] | None = None
    known_hosts: Text | None = None


class Machine(Part, frozen=True):
    """A machine that is reached over SSH. ``slots``: jobs at the same time, None: one for each of its cores.

    ``python``: what runs headway there. ``temporary_dir``: where the batch's folder is made there, None: as its system says.
    """

    connection: Connection
    environments: dict[str, Value] = {}
    slots: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    python: Text = "python3"
    temporary_dir: Text | None = None


class RemoteBackend(Part, frozen=True, tag_field="type", tag="remote"):
    """Machines that are reached over SSH."""

    machines: Annotated[list[Machine], Meta(min_length=1)]


Backend = LocalBackend | RemoteBackend


class Server(Part, frozen=True):
    """Where the batch answers questions over HTTP."""

    host: Text = "localhost"
    port: Port = 8060


class Scheduler(Part, frozen=True):
    """``interval``: milliseconds; accepted and not needed, because a job starts when there is room, not at a tick."""

    interval: Annotated[int, Meta(ge=0)] = 5000
    exit_on_finish: bool | None = None


class Config(Part, frozen=True):
    """A batch file."""

    name: Name
    jobs: Annotated[list[Job], Meta(min_length=1)]
    job_command: Text | None = None
    backend: Backend = LocalBackend()
    server: Server | None = None
    scheduler: Scheduler = Scheduler()
    batches_data_dir: Text | None = None
    version: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A checked configuration: every job has its name and its command. ``folder``: what relative paths start from."""

    config: Config
    folder: Path
    source: str
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def jobs(self) -> list[Job]:
        return self.config.jobs

    @property
    def batches_folder(self) -> Path:
        """Where batches lie: the file's word, else the variable's, else the default."""
        return data_folder(self.config.batches_data_dir, self.folder)

    @property
    def environments(self) -> dict[str, str]:
        """The variables of every job: on machines, those that all of them have in common."""
        backend = self.config.backend
        if isinstance(backend, LocalBackend):
            return {name: plain_text(value) for name, value in backend.environments.items()}
        first, *others = [each.environments for each in backend.machines]
        return {
            name: plain_text(value)
            for name, value in first.items()
            if all(name in each and each[name] == value for each in others)
        }


def data_folder(named: str | None, base: Path | None = None) -> Path:
    """The folder of all batches; ``named`` may be relative to ``base``."""
    chosen = named or os.environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR
    return ((base or Path.cwd()) / Path(chosen).expanduser()).absolute()


def plain_text(value: Value) -> str:
    """A value of the file as the text of an environment variable: ``true`` as JSON has it, not as Python prints it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def load_file(path: Path) -> Loaded:
    """Read and check a batch file. Raises BatchFileError."""
    return load(read_tree(path), str(path), path.absolute().parent)


def load(tree: Mapping[str, Any], source: str, folder: Path) -> Loaded:
    """Check a batch as plain data. ``source``: what errors call it. Raises BatchFileError."""
    tree = _normal(tree, source)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise BatchFileError(f"{source}: {told(error)}") from None
    loaded = Loaded(_complete(config, source), folder, source, tuple(unknown_keys(tree, Config, source)))
    check_places(loaded)
    return loaded


def _normal(tree: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Both spellings become one: ``job`` is ``jobs``, ``backend.conf.machines`` is ``backend.machines``."""
    found = dict(tree)
    if "job" in found:
        if "jobs" in found:
            raise BatchFileError(f"{source}: 'jobs' and 'job' are the same; expected one of them")
        found["jobs"] = found.pop("job")
    jobs = found.get("jobs")
    if isinstance(jobs, list):
        found["jobs"] = [_normal_job(job, source, at) for at, job in enumerate(jobs)]
    backend = found.get("backend")
    if isinstance(backend, dict):
        found["backend"] = _normal_backend(backend)
    return {name: value for name, value in found.items() if value is not None}


def _normal_job(job: Any, source: str, at: int) -> Any:
    if not isinstance(job, dict):
        return job
    if "job_command" in job:
        if "command" in job:
            raise BatchFileError(
                f"{source}: jobs[{at}]: 'command' and 'job_command' are the same; expected one of them"
            )
        job = {**job, "command": job["job_command"]}
        del job["job_command"]
    return {name: value for name, value in job.items() if value is not None}


def _normal_backend(backend: dict[str, Any]) -> dict[str, Any]:
    conf = backend.get("conf")
    if isinstance(conf, dict):
        backend = {**{name: value for name, value in backend.items() if name != "conf"}, **conf}
    kind = backend.get("type")
    if kind is None:
        backend = {"type": "remote" if "machines" in backend else "local", **backend}
    return {name: value for name, value in backend.items() if value is not None}


def told(error: msgspec.ValidationError) -> str:
    """The error as "path: what was expected"."""
    message, _, path = str(error).partition(" - at `$")
    place = path.rstrip("`").removeprefix(".")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
    if missing:
        return f"{place + ': ' if place else ''}{missing[1]!r} is missing"
    if place == "backend.type":
        return f"backend.type: {message.removeprefix('Invalid value ')} is no backend; expected 'local' or 'remote'"
    if place == "jobs" and "length" in message:
        return "jobs: there is no job in it; expected at least one"
    message = message[:1].lower() + message[1:].replace("`", "")
    for word, plain in (("array", "list"), ("str", "text"), ("int", "whole number"), ("float", "number")):
        message = re.sub(rf"\b{word}\b", plain, message)
    return f"{place or 'the top'}: {message}"


_INSIDE: dict[tuple[type[Part], str], type[Part]] = {
    (Config, "jobs"): Job,
    (Config, "server"): Server,
    (Config, "scheduler"): Scheduler,
    (Job, "resource"): Resource,
    (RemoteBackend, "machines"): Machine,
    (Machine, "connection"): Connection,
}


@cache
def _keys_of(record: type[Part]) -> list[str]:
    """Kept, because msgspec evaluates all annotations anew for each of the thousands of jobs of a batch."""
    tag = record.__struct_config__.tag_field
    return [each.encode_name for each in msgspec.structs.fields(record)] + ([str(tag)] if tag else [])


def unknown_keys(tree: Mapping[str, Any], record: type[Part], source: str, path: str = "") -> Iterator[str]:
    """A sentence for each key that no record has."""
    known = _keys_of(record)
    for name, value in tree.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            yield f"{source}: {where} is not known and has no effect{f'; did you mean {near[0]!r}?' if near else ''}"
            continue
        inner = _INSIDE.get((record, name))
        if name == "backend" and isinstance(value, dict):
            inner = RemoteBackend if value.get("type") == "remote" else LocalBackend
        if inner is None:
            continue
        if isinstance(value, list):
            for at, item in enumerate(value):
                yield from unknown_keys(item, inner, source, f"{where}[{at}]")
        else:
            yield from unknown_keys(value, inner, source, where)


def _complete(config: Config, source: str) -> Config:
    """Give every job its command and its name, and see that no two share one."""
    jobs: list[Job] = []
    taken: dict[str, int] = {}
    places: dict[str, int] = {}
    for at, job in enumerate(config.jobs):
        command = job.command or config.job_command
        if not command:
            raise BatchFileError(f"{source}: jobs[{at}]: 'command' is missing, and the batch has no 'job_command'")
        name = job.name or _made_name(job, command, taken)
        for before in (taken.get(name), places.get(file_name(name))):
            if before is not None:
                raise BatchFileError(
                    f"{source}: jobs[{at}].name: {name!r} is the name of jobs[{before}] already; expected another"
                )
        taken[name] = places[file_name(name)] = at
        jobs.append(msgspec.structs.replace(job, name=name, command=command))
    return msgspec.structs.replace(config, jobs=jobs)


def _made_name(job: Job, command: str, taken: Mapping[str, int]) -> str:
    """A uuid made from what the job is, so that it is the same one when the batch is run again."""
    content = msgspec.json.encode([command, job.params, job.working_dir, job.assets], order="deterministic").decode()
    for twin in range(len(taken) + 1):
        name = str(uuid.uuid5(NAMELESS, f"{content}{twin or ''}"))
        if name not in taken:
            return name
    raise AssertionError("more names are taken than there are")


def check_places(loaded: Loaded) -> None:
    """Folders and assets that do not exist, and variables that are none, are told before anything runs."""
    backend = loaded.config.backend
    if isinstance(backend, LocalBackend):
        _check_environments(backend.environments, f"{loaded.source}: backend.environments")
    else:
        for at, machine in enumerate(backend.machines):
            _check_environments(machine.environments, f"{loaded.source}: backend.machines[{at}].environments")
    for at, job in enumerate(loaded.jobs):
        _check_job_places(loaded, at, job)


def _check_environments(environments: Mapping[str, Value], where: str) -> None:
    for name, value in environments.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in plain_text(value):
            raise BatchFileError(f"{where}: {name!r} cannot be exported; expected a name")


def _check_job_places(loaded: Loaded, at: int, job: Job) -> None:
    here = f"{loaded.source}: jobs[{at}]"
    if "\0" in str(job.command):
        raise BatchFileError(f"{here}.command: a zero byte cannot stand in a command")
    here_only = isinstance(loaded.config.backend, LocalBackend)  # what is on other machines is seen when the job starts
    if here_only and job.working_dir and not place(job.working_dir, loaded.folder).is_dir():
        raise BatchFileError(f"{here}.working_dir: {job.working_dir!r} is not a folder; make it, or name another")
    seen: dict[str, int] = {}
    for number, asset in enumerate(job.assets):
        found = place(asset, loaded.folder)
        if not found.exists():
            raise BatchFileError(f"{here}.assets[{number}]: {asset!r} does not exist; expected a file or a folder")
        if found.name in seen:
            raise BatchFileError(
                f"{here}.assets[{number}]: {found.name!r} would lie in resources/ twice (assets[{seen[found.name]}])"
            )
        seen[found.name] = number


def place(path: str, folder: Path) -> Path:
    """A path of the file, absolute and without links that go back: ``..`` has no name of its own in resources/."""
    return Path(os.path.normpath(folder / Path(path).expanduser()))
