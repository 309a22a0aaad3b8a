"""Settings: where they come from, which of them counts, and what is refused."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway_bus import config
from headway_bus.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty home folder and nothing else."""
    return {"HOME": str(tmp_path)}


def _write(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text)
    return file


# ------------------------------------------------------------------------------------------------------ config.toml


def test_every_field_stands_in_config_toml_with_its_default() -> None:
    tables = tomllib.loads((ROOT / "config.toml").read_text())
    assert list(tables) == list(config.TABLES)
    for table, record in config.TABLES.items():
        assert list(tables[table].items()) == list(msgspec.structs.asdict(record()).items()), table


def test_every_field_in_config_toml_has_a_comment() -> None:
    said = _page_maker().comments((ROOT / "config.toml").read_text())
    for table, keys in config.TYPES.items():
        assert said[table], table
        for key in keys:
            assert len(said[f"{table}.{key}"]) > 10, f"{table}.{key}"


def test_config_toml_is_read_as_the_defaults(home: dict[str, str]) -> None:
    settings = config.load(ROOT / "config.toml", environ=home)
    assert settings == msgspec.structs.replace(config.Settings(), file=ROOT / "config.toml")


def test_page_is_what_its_maker_writes() -> None:
    maker = _page_maker()
    assert maker.PAGE.read_text() == maker.page(), "run python docs/make_configuration.py"


def _page_maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_configuration", ROOT / "docs" / "make_configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------------------ precedence


def test_defaults_without_anything(home: dict[str, str]) -> None:
    assert config.load(environ=home) == config.Settings()


def test_stronger_sources_win_key_by_key(home: dict[str, str], tmp_path: Path) -> None:
    file = _write(tmp_path, '[bus]\nurl = "tcp://1:1"\nheartbeat = 1\ninline = 1\n[runtime]\nslots = 3\n')
    environ = home | {"HEADWAY_BUS_URL": "tcp://2:2", "HEADWAY_BUS_HEARTBEAT": "1.5"}
    settings = config.load(file, {"bus.url": "tcp://3:3", "bus.heartbeat": None}, environ)
    assert (settings.bus.url, settings.bus.heartbeat, settings.bus.inline) == ("tcp://3:3", 1.5, 1)
    assert settings.runtime.slots == 3.0
    assert settings.file == file


def test_short_variable_is_the_address_and_the_long_one_counts_more(home: dict[str, str]) -> None:
    assert config.load(environ=home | {"HEADWAY_BUS": "ipc:///a"}).bus.url == "ipc:///a"
    assert config.load(environ=home | {"HEADWAY_BUS": ""}).bus.url == config.Bus().url
    both = home | {"HEADWAY_BUS": "ipc:///a", "HEADWAY_BUS_URL": "ipc:///b"}
    assert config.load(environ=both).bus.url == "ipc:///b"


def test_files_are_searched_in_order(home: dict[str, str], tmp_path: Path) -> None:
    usual = tmp_path / ".config" / "headway" / "config.toml"
    xdg = tmp_path / "xdg" / "headway" / "config.toml"
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    for name, file in (("usual", usual), ("xdg", xdg), ("named", named), ("given", given)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'[client]\nname = "{name}"\n')
    assert config.load(environ=home).client.name == "usual"
    home["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert config.load(environ=home).client.name == "xdg"
    home["HEADWAY_CONFIG"] = str(named)
    assert config.load(environ=home).client.name == "named"
    assert config.load(given, environ=home).client.name == "given"
    assert config.load(str(given), environ=home).file == given


def test_config_toml_of_the_working_folder_is_not_ours(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[another_program]\n")
    monkeypatch.chdir(tmp_path)
    assert config.load(environ=home) == config.Settings()


def test_relative_xdg_folder_is_ignored(home: dict[str, str]) -> None:
    assert config.state_folder(home | {"XDG_STATE_HOME": "here"}) == Path(home["HOME"]) / ".local/state/headway"
    assert config.state_folder(home | {"XDG_STATE_HOME": "/there"}) == Path("/there/headway")


@pytest.mark.parametrize(
    ("variable", "text", "table", "key", "value"),
    [
        ("HEADWAY_RUNTIME_SLOTS", "2", "runtime", "slots", 2.0),
        ("HEADWAY_RUNTIME_MEMORY", "1000", "runtime", "memory", 1000),
        ("HEADWAY_RUNTIME_BY_VALUE", "yes", "runtime", "by_value", True),
        ("HEADWAY_RUNTIME_BY_VALUE", "1", "runtime", "by_value", True),
        ("HEADWAY_RUNTIME_BY_VALUE", "Off", "runtime", "by_value", False),
        ("HEADWAY_RUNTIME_GPUS", "a, b", "runtime", "gpus", ["a", "b"]),
        ("HEADWAY_RUNTIME_GPUS", '["a,b"]', "runtime", "gpus", ["a,b"]),
        ("HEADWAY_RUNTIME_GPUS", "", "runtime", "gpus", []),
        ("HEADWAY_RUNTIME_LABELS", "zone=lab, rack = 3", "runtime", "labels", {"zone": "lab", "rack": "3"}),
        ("HEADWAY_RUNTIME_CUSTOM", "licence=2", "runtime", "custom", {"licence": 2.0}),
        ("HEADWAY_RUNTIME_CUSTOM", '{"licence": 2}', "runtime", "custom", {"licence": 2.0}),
        ("HEADWAY_RUNTIME_NAME", "17", "runtime", "name", "17"),
        ("HEADWAY_LOGS_LEVEL", "debug", "logs", "level", "debug"),
        ("HEADWAY_CONTROLLER_MISSED_HEARTBEATS", "5", "controller", "missed_heartbeats", 5),
    ],
)
def test_environment_is_parsed_by_type(
    home: dict[str, str], variable: str, text: str, table: str, key: str, value: Any
) -> None:
    found = getattr(getattr(config.load(environ=home | {variable: text}), table), key)
    assert found == value
    assert type(found) is type(value)


def test_other_variables_of_headway_are_left_alone(home: dict[str, str]) -> None:
    others = {"HEADWAY_TASK": "x", "HEADWAY_ATTEMPT": "1", "HEADWAY_REPORT_FD": "3", "HEADWAY_SOMETHING_ELSE": "x"}
    assert config.load(environ=home | others) == config.Settings()


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bus]\nheartbeat = 0", r"\[bus\] heartbeat = 0: expected a number from 0\.05 to 3_600$"),
        ("[bus]\nheartbeat = inf", r"heartbeat = inf: expected a number"),
        ("[bus]\nheartbeat = nan", r"heartbeat = nan: expected a number"),
        ('[bus]\nheartbeat = "2"', r"heartbeat = '2': expected a number"),
        ("[bus]\ninline = 1.5", r"inline = 1\.5: expected a whole number from 0 to 1_048_576$"),
        ("[bus]\ninline = true", r"inline = True: expected a whole number"),
        ('[bus]\nurl = "http://x"', r"url = 'http://x': expected an address like tcp://127\.0\.0\.1:5570"),
        ('[broker]\nbind = "x"', r"bind = 'x': expected nothing or an address"),
        ('[controller]\ndurability = "much"', r'expected one of "full", "normal", "memory"$'),
        ('[client]\nname = "a b"', r"name = 'a b': expected nothing, or up to 64 letters"),
        ('[controller]\nstrategy = ""', r"strategy = '': expected text of at least 1"),
        ('[runtime]\nby_value = "yes"', r"expected true or false$"),
        ("[runtime]\ngpus = [1]", r"gpus = \[1\]: expected a list, each of it text \(.*\[0\]"),
        ("[runtime]\nlabels = {a = 1}", r"expected a table of names, each with text"),
        ("[bus]\nhartbeat = 1", r"\[bus\] has no key 'hartbeat'; did you mean 'heartbeat'\?$"),
        ("[bus]\nzzz = 1", r"\[bus\] has no key 'zzz'; known are url, connect_timeout"),
        ("[buss]\n", r"\[buss\] is not a table of headway; did you mean 'bus'\?$"),
        ("bus = 3", r"bus = 3: expected a table, \[bus\]$"),
        ("[bus\n", r"cannot be read as TOML: .*line 1"),
        ("[bus]\nframe = 1_073_741_824", r"\[bus\]: inline <= frame <= half of max_message is expected; these are"),
        ("[bus]\nblob_part = 1_073_741_824", r"\[bus\]: blob_part of at most half of max_message"),
    ],
)
def test_bad_file_is_refused_with_file_key_value_and_expectation(
    home: dict[str, str], tmp_path: Path, text: str, message: str
) -> None:
    file = _write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(file, environ=home)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HEADWAY_BUS_HEARTBEAT": "fast"}, r"^\$HEADWAY_BUS_HEARTBEAT: \[bus\] heartbeat = 'fast': expected a number"),
        ({"HEADWAY_BUS_HARTBEAT": "1"}, r"^\$HEADWAY_BUS_HARTBEAT: .* did you mean 'heartbeat'"),
        ({"HEADWAY_BUS": "nowhere"}, r"^\$HEADWAY_BUS: \[bus\] url = 'nowhere'"),
        ({"HEADWAY_RUNTIME_LABELS": "zone"}, r"labels = 'zone': .*\(a table is written as name=value"),
        ({"HEADWAY_RUNTIME_LABELS": "{zone"}, r"labels = '{zone': expected a table"),
        ({"HEADWAY_CONFIG": "/no/such/file"}, r"^/no/such/file: no such file \(\$HEADWAY_CONFIG\)"),
    ],
)
def test_bad_environment_is_refused_with_its_variable(
    home: dict[str, str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(environ=home | environ)


def test_bad_override_is_refused(home: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^given: \[runtime\] slots = -1: expected a number from 0"):
        config.load(overrides={"runtime.slots": -1}, environ=home)
    with pytest.raises(ConfigError, match=r"^'runtme\.slots' is not a setting of headway; did you mean 'runtime'\?"):
        config.load(overrides={"runtme.slots": 1}, environ=home)
    with pytest.raises(ConfigError, match=r"^given: \[runtime\] has no key 'slot'; did you mean 'slots'\?"):
        config.load(overrides={"runtime.slot": 1}, environ=home)


def test_file_that_is_named_must_be_there(home: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file \(--config\)"):
        config.load(tmp_path / "none.toml", environ=home)


def test_text_of_an_override_is_understood_as_in_the_environment(home: dict[str, str]) -> None:
    settings = config.load(overrides={"runtime.labels": "zone=lab", "runtime.slots": "2"}, environ=home)
    assert settings.runtime.labels == {"zone": "lab"}
    assert settings.runtime.slots == 2.0


def test_tasks_find_what_was_there_before_their_private_bus_came() -> None:
    own = {"HEADWAY_RUNTIME_SERVES": "command", "HEADWAY_LOGS_LEVEL": "warning", "PATH": "/bin"}
    told = {config.TASKS_VARIABLE: '{"HEADWAY_RUNTIME_SERVES": null, "HEADWAY_LOGS_LEVEL": "debug"}'}
    assert config.environment_of_tasks(own | told) == {"HEADWAY_LOGS_LEVEL": "debug", "PATH": "/bin"}
    assert config.environment_of_tasks(own) == own
