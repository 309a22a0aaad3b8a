"""docs/edge.md, walked as a stranger does: what the page says is typed, on two machines that share nothing but an address.

Only the installation is left out, because it needs a network; and the hub's address is 127.0.0.1, where it takes keys by the
setting that the page names for that.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from acceptance_shell import HEADWAY, PATIENCE, Shell, start_up

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "edge.md").read_text(encoding="utf-8")
PUBLIC = "tcp://hub.example:5570"
NEEDS_A_NETWORK = ("git clone ", "python3 -m venv ", ". .venv/")


@dataclass
class Machine(Shell):
    """A person's home folder on one of the two machines, with what was exported there."""

    exported: dict[str, str] = field(default_factory=dict)
    url: str = ""
    agent: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        own = super().environment
        return own | {"PATH": f"{HEADWAY.parent}:{own['PATH']}"} | self.exported

    def type(self, line: str) -> str:
        """A line at a prompt, which must succeed; what it printed."""
        done = subprocess.run(
            ["bash", "-c", line], env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    found = {}
    for name in ("hub", "edge"):
        (tmp_path / name).mkdir()
        found[name] = Machine(tmp_path / name)
    yield found
    for name in ("edge", "hub"):
        if (running := found[name].agent) is not None:
            running.terminate()
            running.wait(timeout=PATIENCE)
        found[name].end_all()


def settings_of(machine: Machine, text: str) -> None:
    file = machine.home / ".config/headway/config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def put_plugin(edge: Machine) -> None:
    """The plugin and the settings of the section on messages."""
    (code,) = blocks(section("Messages"), "text")
    (settings,) = blocks(section("Messages"), "toml")
    (folder,) = tomllib.loads(settings)["runtime"]["paths"]
    (edge.home / "plugins").mkdir()
    (edge.home / "plugins" / "shop_plugin.py").write_text(code)
    settings_of(edge, settings.replace(folder, str(edge.home / "plugins")))


def until_listed(hub: Machine, name: str) -> None:
    for _ in range(PATIENCE):
        if re.search(rf"^{name}\s+online", hub.type("headway edges"), flags=re.MULTILINE):
            return
        assert hub.agent is None or hub.agent.poll() is None
    raise AssertionError(f"{name} is not listed as online")


def walk(line: str, machine: Machine, machines: dict[str, Machine]) -> str:
    """What a person does with one line of the page."""
    hub, edge = machines["hub"], machines["edge"]
    line = line.replace(PUBLIC, hub.url or PUBLIC)
    if line.startswith("export "):
        name, value = line.removeprefix("export ").split("=")
        machine.exported[name] = machine.type(f"echo {value}").strip()
        return ""
    if line.startswith("headway up "):
        assert shlex.split(line)[2:] == ["--bind", "tcp://0.0.0.0:5570"]
        up = start_up(machine)  # another port, and this machine's address
        machine.agent, hub.url = up.process, up.url
        machine.exported["HEADWAY_BUS"] = up.url  # the page's port is the one that is looked at by default
        return ""
    if line.startswith("headway edge --bus "):
        with (machine.home / "agent.log").open("w") as log:
            machine.agent = machine.start(*shlex.split(machine.type(f"echo {line}"))[1:], stdout=log, stderr=log)
        until_listed(hub, "shop-17")
        return ""
    said = machine.type(line)
    if line.startswith("headway keys invite --role edge"):
        joined = edge.type(said.splitlines()[-1])  # pasted there
        assert joined.startswith("joined as shop-17, an edge; the key is ")
    return said


def test_a_stranger_comes_from_nothing_to_a_working_agent(machines: dict[str, Machine]) -> None:
    hub, edge = machines["hub"], machines["edge"]
    text = section("From nothing to a working agent")
    assert "`require_keys = true` stands under `[broker]` in `~/.config/headway/config.toml`" in text
    settings_of(hub, "[broker]\nrequire_keys = true\n")
    put_plugin(edge)
    said = {}
    for block in [*blocks(text, "sh"), *blocks(section("Messages"), "sh")]:
        where, *lines = block.splitlines()
        for line in lines:
            if not line.startswith(NEEDS_A_NETWORK):
                said[line] = walk(line, machines[where.removeprefix("# on the ")], machines)
    assert "Mounted on" in said["headway edge run shop-17 'df -h /'"]
    files = edge.home / ".local/state/headway/edges/shop-17/files"
    assert said["headway edge push shop-17 model.txt"].strip() == str(files / "model.txt")
    assert (files / "model.txt").read_text() == "0.7\n"
    assert (hub.home / "counts.csv").read_text() == (files / "counts.csv").read_text() != ""
    assert said["headway edge tell shop-17 '{\"threshold\": 0.7}'"] == "set\n"
    (program,) = [block for block in blocks(text, "text") if "import headway" in block]
    (hub.home / "program.py").write_text(program)
    assert hub.type(f"{sys.executable} program.py").startswith("2.33")
    assert "nothing is wrong" in hub.type("headway doctor")
    edge.exported |= {"HEADWAY_BUS": hub.url, "HEADWAY_KEY_FILE": str(edge.home / ".config/headway/shop-17.key")}
    assert "knows this key" in edge.type("headway doctor")


def test_what_starts_it_with_the_machine_is_the_line_that_was_typed() -> None:
    text = section("From nothing to a working agent")
    (typed,) = re.findall(r"^headway (edge --bus .*)$", text, flags=re.MULTILINE)
    (started,) = re.findall(r"^ExecStart=/home/shop/headway/.venv/bin/headway (.*)$", text, flags=re.MULTILINE)
    assert started == typed.replace("~", "/home/shop")


def test_what_is_installed_is_there_to_be_installed() -> None:
    (extra,) = set(re.findall(r"pip install '\.\[(\w+)\]'", section("From nothing to a working agent")))
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
