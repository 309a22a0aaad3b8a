"""The settings: ``config.toml``, the environment, defaults. One frozen record per table.

What counts, the strongest first: what the caller gives (command line options, arguments), the environment
(``HEADWAY_<TABLE>_<KEY>``, ``HEADWAY_BUS`` for the bus's address, ``HEADWAY_KEY_FILE`` for the key), the file, the
default. The file is the first of:
the path given, ``$HEADWAY_CONFIG``, ``$XDG_CONFIG_HOME/headway/config.toml`` (``~/.config`` where that is not set). A
``config.toml`` in the working folder is *not* read: half of all projects have one, and it is not ours.

Anything unknown or out of range is refused with its file, key, value, and what was expected. The repository's
``config.toml`` documents every field with its default, and a test holds it to this file.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Meta

from headway_bus.errors import ConfigError

PREFIX = "HEADWAY_"
BUS_VARIABLE = "HEADWAY_BUS"
FILE_VARIABLE = "HEADWAY_CONFIG"
KEY_VARIABLE = "HEADWAY_KEY_FILE"
TASKS_VARIABLE = "HEADWAY_TASKS_ENVIRONMENT"
"""What a private bus leaves its runtime: the variables that it has set for itself, as its tasks shall find them."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TEN_YEARS = 10 * 365 * 86400.0

# Every number has an upper bound, because TOML knows inf and nan, and a person's slip of a zero should be heard of.
Interval = Annotated[float, Meta(ge=0.05, le=3600.0)]
Span = Annotated[float, Meta(ge=0.0, le=TEN_YEARS)]
Amount = Annotated[float, Meta(ge=0.0, le=1e9)]
Weight = Annotated[float, Meta(ge=0.001, le=1000.0)]
Bytes = Annotated[int, Meta(ge=0, le=1024 * GIB)]
Name = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")]
Url = Annotated[str, Meta(pattern=r"^(tcp|ipc)://\S+$")]
UrlOrNothing = Annotated[str, Meta(pattern=r"^((tcp|ipc)://\S+)?$")]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the tables. Seconds and bytes throughout."""


class Bus(Table, frozen=True):
    """What everybody who speaks on the bus must agree on."""

    url: Url = "tcp://127.0.0.1:5570"
    connect_timeout: Interval = 3.0
    heartbeat: Interval = 2.0
    max_message: Annotated[int, Meta(ge=64 * KIB, le=2 * GIB - 1)] = 64 * MIB
    inline: Annotated[int, Meta(ge=0, le=MIB)] = 16 * KIB
    frame: Annotated[int, Meta(ge=KIB, le=GIB)] = 4 * MIB
    blob_part: Annotated[int, Meta(ge=KIB, le=GIB)] = MIB
    payload_limit: Annotated[int, Meta(ge=KIB, le=1024 * GIB)] = GIB
    file_limit: Annotated[int, Meta(ge=KIB, le=1024 * GIB)] = 64 * GIB
    key_file: str = ""

    def __post_init__(self) -> None:
        if not self.inline <= self.frame <= self.max_message // 2:
            raise ValueError("inline <= frame <= half of max_message is expected")
        if self.blob_part > self.max_message // 2:
            raise ValueError("blob_part of at most half of max_message is expected")


class Broker(Table, frozen=True):
    bind: UrlOrNothing = ""
    high_water_mark: Annotated[int, Meta(ge=100, le=10_000_000)] = 20_000
    max_peers: Annotated[int, Meta(ge=2, le=1_000_000)] = 10_000
    keys: str = ""
    require_keys: bool = False
    handshake_timeout: Annotated[float, Meta(ge=0.1, le=300.0)] = 10.0
    max_half_open: Annotated[int, Meta(ge=10, le=1_000_000)] = 4_096
    messages_per_second: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 20_000
    bytes_per_second: Bytes = GIB
    max_topics: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000


class Controller(Table, frozen=True):
    durability: Literal["full", "normal", "memory"] = "normal"
    state: str = ""
    retention: Span = 30 * 86400.0
    logs_per_task: Annotated[int, Meta(ge=0, le=100_000_000)] = 10_000
    logs_per_second: Annotated[int, Meta(ge=0, le=100_000_000)] = 1_000
    strategy: Annotated[str, Meta(min_length=1, max_length=128)] = "headway_completion"
    predictor: Annotated[str, Meta(min_length=1, max_length=128)] = "learned"
    lookup_table: str = ""
    fifo_queues: list[str] = []
    speculation: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05
    ahead: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.002
    missed_heartbeats: Annotated[int, Meta(ge=1, le=1000)] = 2
    max_tasks: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 10_000_000
    max_tasks_per_client: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 5_000_000
    max_bytes_per_client: Bytes = 8 * GIB
    max_tasks_per_namespace: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    max_bytes_per_namespace: Bytes = 0
    namespace_weights: dict[str, Weight] = {}


class Runtime(Table, frozen=True):
    name: Name = ""
    slots: Annotated[float, Meta(ge=0.0, le=100_000.0)] = 0.0
    cpu: Annotated[float, Meta(ge=0.0, le=100_000.0)] = 0.0
    memory: Bytes = 0
    gpus: list[str] = []
    custom: dict[str, Amount] = {}
    labels: dict[str, str] = {}
    serves: list[str] = []
    models: dict[str, str] = {}
    paths: list[str] = []
    speed: Annotated[float, Meta(ge=0.001, le=1000.0)] = 1.0
    output_limit: Bytes = 16 * MIB
    by_value: bool = False
    grace: Annotated[float, Meta(ge=0.0, le=3600.0)] = 5.0
    drain_deadline: Span = 30.0
    state: str = ""


class Edge(Table, frozen=True):
    """What an edge agent has beside what any runtime has."""

    spool: str = ""
    heartbeat: Interval = 10.0
    gather: Annotated[float, Meta(ge=0.0, le=3600.0)] = 0.1
    window: Annotated[int, Meta(ge=KIB, le=GIB)] = MIB
    bandwidth: Bytes = 0
    part: Annotated[int, Meta(ge=KIB, le=GIB)] = 64 * KIB
    compress_above: Bytes = 512
    output_budget: Bytes = 256 * MIB
    cache: Bytes = 4 * GIB
    plugins: list[str] = []


class Client(Table, frozen=True):
    name: Name = ""
    by_value: bool = False


class Logs(Table, frozen=True):
    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All tables. ``file`` is where they were read from, None if there was no file."""

    bus: Bus = Bus()
    broker: Broker = Broker()
    controller: Controller = Controller()
    runtime: Runtime = Runtime()
    edge: Edge = Edge()
    client: Client = Client()
    logs: Logs = Logs()
    file: Path | None = None


TABLES: dict[str, type[Table]] = {
    "bus": Bus,
    "broker": Broker,
    "controller": Controller,
    "runtime": Runtime,
    "edge": Edge,
    "client": Client,
    "logs": Logs,
}

TYPES = {table: get_type_hints(record, include_extras=True) for table, record in TABLES.items()}
"""The type of every key, by table."""


class _Given(NamedTuple):
    """A value that somebody gave: as TOML or a caller has it, or as the text of an environment variable."""

    value: Any
    where: str
    is_text: bool


_Found = dict[tuple[str, str], _Given]


def load(
    path: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings that hold.

    ``path``: a file that must exist; None searches. ``overrides``: ``{"bus.url": …}``; those that are None were not
    given, and text is understood as in the environment. ``environ``: this process's if not given. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    file = find_file(path, environ)
    found: _Found = _from_file(file) if file is not None else {}
    found |= _from_environment(environ)
    found |= _from_caller(overrides or {})
    return Settings(file=file, **{table: _record(table, found) for table in TABLES})  # type: ignore[arg-type]


def find_file(path: Path | str | None, environ: Mapping[str, str]) -> Path | None:
    """The file that :func:`load` reads. Raises ConfigError where one is named that is not there."""
    for named, by in ((path, "--config"), (environ.get(FILE_VARIABLE), f"${FILE_VARIABLE}")):
        if named:
            file = Path(named).expanduser()
            if not file.is_file():
                raise ConfigError(f"{file}: no such file ({by}); expected a TOML file like the config.toml of headway")
            return file
    usual = config_folder(environ) / "config.toml"
    return usual if usual.is_file() else None


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where state is kept if the settings name no folder: ``$XDG_STATE_HOME/headway``, ``~/.local/state/headway``."""
    return _xdg(os.environ if environ is None else environ, "XDG_STATE_HOME", ".local/state")


def config_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where settings and keys are looked for: ``$XDG_CONFIG_HOME/headway``, ``~/.config/headway``."""
    return _xdg(os.environ if environ is None else environ, "XDG_CONFIG_HOME", ".config")


def _xdg(environ: Mapping[str, str], variable: str, otherwise: str) -> Path:
    base = environ.get(variable, "")
    # The XDG specification tells programs to ignore relative paths here.
    folder = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path.home()) / otherwise
    return folder / "headway"


# ------------------------------------------------------------------------------------------------------ the sources


def _from_file(file: Path) -> _Found:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as TOML: {error}") from None
    found: _Found = {}
    for table, values in tables.items():
        if table not in TABLES:
            raise ConfigError(f"{file}: [{table}] is not a table of headway{_nearest(table, TABLES)}")
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {table} = {_shown(values)}: expected a table, [{table}]")
        for key, value in values.items():
            _check_key(table, key, str(file))
            found[table, key] = _Given(value, str(file), False)
    return found


def _from_environment(environ: Mapping[str, str]) -> _Found:
    found: _Found = {}
    if environ.get(BUS_VARIABLE):
        found["bus", "url"] = _Given(environ[BUS_VARIABLE], f"${BUS_VARIABLE}", True)
    if environ.get(KEY_VARIABLE):
        found["bus", "key_file"] = _Given(environ[KEY_VARIABLE], f"${KEY_VARIABLE}", True)
    for variable in sorted(environ):
        table, _, key = variable.removeprefix(PREFIX).lower().partition("_")
        if variable.startswith(PREFIX) and key and table in TABLES:
            _check_key(table, key, f"${variable}")
            found[table, key] = _Given(environ[variable], f"${variable}", True)
    return found


def _from_caller(overrides: Mapping[str, Any]) -> _Found:
    found: _Found = {}
    for name, value in overrides.items():
        table, _, key = name.partition(".")
        if table not in TABLES:
            raise ConfigError(f"{name!r} is not a setting of headway{_nearest(table, TABLES)}")
        _check_key(table, key, "given")
        if value is not None:
            found[table, key] = _Given(value, "given", isinstance(value, str))
    return found


def _check_key(table: str, key: str, where: str) -> None:
    if key not in TYPES[table]:
        raise ConfigError(f"{where}: [{table}] has no key {key!r}{_nearest(key, TYPES[table])}")


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


# ------------------------------------------------------------------------------------------------------ the values


def _record(table: str, found: _Found) -> Table:
    given = {key: value for (of, key), value in found.items() if of == table}
    values = {key: _converted(table, key, value) for key, value in given.items()}
    try:
        return TABLES[table](**values)
    except ValueError as error:
        places = ", ".join(sorted({value.where for value in given.values()}))
        raise ConfigError(f"{places}: [{table}]: {error}; these are {_shown(values)}") from None


def _converted(table: str, key: str, given: _Given) -> Any:
    kind = TYPES[table][key]
    try:
        value = _parsed(given.value, kind) if given.is_text else given.value
        return msgspec.convert(value, kind, strict=not given.is_text)
    except ValueError as error:  # msgspec's ValidationError is one
        inside = f" ({error})" if getattr(kind, "__origin__", kind) in (list, dict) else ""
        text = f"{given.where}: [{table}] {key} = {_shown(given.value)}: expected {expectation(kind)}{inside}"
        raise ConfigError(text) from None


def _parsed(text: str, kind: Any) -> Any:
    """Text as the type has it: ``a,b`` or JSON for a list, ``a=1,b=2`` or JSON for a table, ``yes`` for a boolean."""
    name = getattr(kind, "__origin__", kind)
    if name is bool:
        return {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower(), text)
    if name not in (list, dict):
        return text
    if text.lstrip()[:1] in ("[", "{"):
        return json.loads(text)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if name is list:
        return parts
    pairs = [part.partition("=") for part in parts]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError("a table is written as name=value,name=value")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def expectation(kind: Any) -> str:
    """What a value of that type must be, in words: "a number from 0 to 10"."""
    base = getattr(kind, "__origin__", kind)
    if kind in (bool, str):
        return "true or false" if kind is bool else "text"
    if base is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(kind))
    if base is list:
        return f"a list, each of it {expectation(get_args(kind)[0])}"
    if base is dict:
        return f"a table of names, each with {expectation(get_args(kind)[1])}"
    meta = kind.__metadata__[0]
    if base is str:
        return _text_expectation(meta)
    noun = "a whole number" if base is int else "a number"
    return f"{noun} from {meta.ge:,} to {meta.le:,}".replace(",", "_").replace(".0 ", " ").removesuffix(".0")


def _text_expectation(meta: Meta) -> str:
    if meta.pattern is not None and "://" not in meta.pattern:
        return "nothing, or up to 64 letters, digits, '.', '_', '-', the first a letter or digit"
    if meta.pattern is not None:
        address = "an address like tcp://127.0.0.1:5570 or ipc:///path"
        return f"nothing or {address}" if meta.pattern.endswith("?$") else address
    least = f"at least {meta.min_length} and " if meta.min_length else ""
    return f"text of {least}at most {meta.max_length} characters"


def environment_of_tasks(environ: Mapping[str, str]) -> dict[str, str]:
    """A runtime's environment without what its private bus has set for itself."""
    found = dict(environ)
    before: dict[str, str | None] = msgspec.json.decode(found.pop(TASKS_VARIABLE, "{}"))
    for name in before:
        found.pop(name, None)
    return found | {name: value for name, value in before.items() if value is not None}
