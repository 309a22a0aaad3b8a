"""A whole bus with keys, as people run it: `headway up`, keys, an invitation; and what of the secrets is left behind."""

from __future__ import annotations

import json
import os
import socket as sockets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import headway
from headway_bus.keyring import Invitation, Keyring
from headway_bus.keys import load_key

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runtimes work on Linux")
PATIENCE = 60.0


@dataclass
class Plant:
    """A bus in its own home folder."""

    home: Path
    environment: dict[str, str]
    url: str = ""
    pid: int = 0

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.home / "config" / "headway" / "keys")

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command line of headway."""
        environment = {**self.environment, **({"HEADWAY_BUS": self.url} if self.url else {}), **more}
        command = [sys.executable, "-m", "headway", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)

    def client(self, name: str) -> headway.Client:
        return headway.Client(self.url, key_file=self.keyring.key_path(name), timeout=PATIENCE)

    def written(self) -> dict[Path, bytes]:
        """Every file of the bus but the keys themselves."""
        files = [path for path in self.home.rglob("*") if path.is_file() and path.suffix != ".key"]
        return {path: path.read_bytes() for path in files}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    own = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HEADWAY_BROKER_REQUIRE_KEYS": "true",
        "HEADWAY_LOGS_LEVEL": "debug",
    }
    plant = Plant(tmp_path, {**clean, **own})
    assert plant.run("keys", "init").returncode == 0
    reading, writing = os.pipe()
    with (tmp_path / "up.log").open("wb") as log:
        command = ["up", "--bind", "tcp://127.0.0.1:*", "--slots", "1", "--ready-fd", str(writing)]
        process = subprocess.Popen(
            [sys.executable, "-m", "headway", *command],
            env=plant.environment,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
        )
        os.close(writing)
        try:
            with os.fdopen(reading) as ready:
                line = ready.readline()
            assert line, (tmp_path / "up.log").read_text()
            plant.url, plant.pid = json.loads(line)["url"], process.pid
            yield plant
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_work_is_done_with_keys(plant: Plant) -> None:
    with plant.client("admin") as bus:
        assert bus.submit("statistics:fmean", [1, 2, 4]).result(PATIENCE) == pytest.approx(7 / 3)
        roles = sorted(peer["role"] for peer in bus.broker().peers)
        assert roles == ["admin", "controller", "runtime"]


def test_without_a_key_one_is_told_what_is_missing(plant: Plant) -> None:
    answer = plant.run("ps")
    assert answer.returncode == 3
    assert "takes keys and none was shown" in answer.stderr


def test_an_invited_machine_joins_by_one_line(plant: Plant) -> None:
    invited = plant.run("keys", "invite", "--role", "client", "--name", "bob", "--no-qr")
    assert invited.returncode == 0, invited.stderr
    word = invited.stdout.splitlines()[-1].split()[0].removeprefix("HEADWAY_INVITATION=")
    joined = plant.run("keys", "join", HEADWAY_INVITATION=word)
    assert joined.returncode == 0, joined.stderr
    path = plant.home / "config" / "headway" / "bob.key"
    assert load_key(path).role == "client"
    submitted = plant.run("submit", "statistics:fmean", "[1, 3]", "--wait", "--key-file", str(path))
    assert submitted.stdout.strip() == "2.0"
    assert plant.run("keys", "revoke", "bob").returncode == 0
    again = plant.run("keys", "join", "--timeout", "1", "--out", str(plant.home / "b.key"), HEADWAY_INVITATION=word)
    assert again.returncode == 3, again.stderr


def test_no_secret_is_left_anywhere(plant: Plant) -> None:
    invited = plant.run("keys", "invite", "--role", "client", "--no-qr")
    word = invited.stdout.splitlines()[-1].split()[0].removeprefix("HEADWAY_INVITATION=")
    joined = plant.run("keys", "join", "--name", "bob", HEADWAY_INVITATION=word)
    assert joined.returncode == 0, joined.stderr
    with plant.client("admin") as bus:
        assert bus.command("tr '\\0' '\\n' < /proc/self/environ").result(PATIENCE) is not None
        bus.control("backup", path=str(plant.home / "backup"))
        arguments = [" ".join(process.cmdline()) for process in _tree(plant.pid)]
        shown = plant.run("keys", "list", "--json").stdout + plant.run("keys", "list").stdout
    key_files = list(plant.home.rglob("*.key"))
    assert len(key_files) == 4  # the broker's, admin's, the runtime's, bob's
    secrets = [load_key(path).secret for path in key_files] + [word, Invitation.read(word).token]
    everything = plant.written()
    assert any(path.name == "headway.db" for path in everything)
    assert (plant.home / "up.log") in everything
    for secret in secrets:
        for path, content in everything.items():
            assert secret.encode() not in content, path
        assert not any(secret in line for line in arguments)
        assert secret not in shown + joined.stdout + joined.stderr


def test_arguments_are_in_no_listing_and_no_log(plant: Plant) -> None:
    word = "an-argument-that-is-nobodys-business"
    with plant.client("admin") as bus:
        call = bus.submit("builtins:len", word)
        command = bus.command('test -n "$SECRET"', env={"SECRET": word})
        call.result(PATIENCE)
        command.result(PATIENCE)
        keys = ("--key-file", str(plant.keyring.key_path("admin")))
        shown = [
            plant.run(*line, *keys) for line in (["ps", "--json"], ["ps"], ["jobs"], ["runtimes"], ["doctor", "--json"])
        ]
        for task in (call, command):
            shown += [plant.run(verb, task.id, "--json", *keys) for verb in ("show", "explain")]
            shown.append(plant.run("logs", task.id, *keys))
    assert all(answer.returncode == 0 for answer in shown), [answer.stderr for answer in shown]
    assert call.id in shown[0].stdout
    assert not any(word in answer.stdout + answer.stderr for answer in shown)
    assert word not in (plant.home / "up.log").read_text()


def test_arguments_marked_secret_are_in_no_file(plant: Plant) -> None:
    """Neither while they wait nor afterwards, in the store, its journal, a backup, a log or a runtime's folder."""
    words = [f"nobody-shall-read-{number}-" + "x" * 300 for number in range(4)]
    with plant.client("admin") as bus:
        secret = bus.options(secret=True)
        ended = secret.submit("builtins:len", words[0])
        command = secret.command('test -n "$SECRET"', env={"SECRET": words[1]})
        failed = secret.submit("builtins:int", base=words[2])
        waiting = bus.options(secret=True, delay=3600.0).submit("builtins:len", [words[3]] * 100)
        assert ended.result(PATIENCE) == len(words[0])
        assert command.result(PATIENCE) is not None
        assert failed.exception(PATIENCE) is not None
        bus.control("backup", path=str(plant.home / "backup"))
        arguments = [" ".join(process.cmdline()) for process in _tree(plant.pid)]
        shown = [repr(waiting), repr(failed.exception(PATIENCE))]
        keys = ("--key-file", str(plant.keyring.key_path("admin")))
        for line in (["ps", "--json"], ["show", waiting.id, "--json"], ["explain", waiting.id, "--json"]):
            answer = plant.run(*line, *keys)
            assert answer.returncode == 0, answer.stderr
            shown.append(answer.stdout + answer.stderr)
    everything = plant.written()
    assert {"headway.db", "backup", "up.log"} <= {path.name for path in everything}
    (key,) = plant.home.rglob("arguments.key")
    assert key.stat().st_mode & 0o777 == 0o600
    for word in words:
        for path, content in everything.items():
            assert word[:20].encode() not in content, path
        assert not any(word[:20] in text for text in (*arguments, *shown))


def test_a_task_does_not_get_the_runtimes_key(plant: Plant) -> None:
    with plant.client("admin") as bus:
        names = bus.submit("os:listdir", "/proc/self").result(PATIENCE)
        assert "environ" in names
        task = bus.command("env")
        task.result(PATIENCE)
        text = "\n".join(record.text for record in task.logs())
        assert "HEADWAY_BUS=" in text and ".key" not in text


def _tree(pid: int) -> list[psutil.Process]:
    hub = psutil.Process(pid)
    return [hub, *hub.children(recursive=True)]


def test_the_parts_alone_show_their_keys(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    homes = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    plant = Plant(
        tmp_path, {**clean, **homes, "HEADWAY_BROKER_REQUIRE_KEYS": "true"}, f"tcp://127.0.0.1:{_free_port()}"
    )
    assert plant.run("keys", "init").returncode == 0
    for name, role in (("controller", "controller"), ("gpu-1", "runtime")):
        assert plant.run("keys", "new", name, "--role", role).returncode == 0
    parts = [["broker"], ["controller"], ["runtime", "--slots", "1"]]
    key_files = ["", str(plant.keyring.key_path("controller")), str(plant.keyring.key_path("gpu-1"))]
    with (tmp_path / "parts.log").open("wb") as log:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "headway", *part],
                env={**plant.environment, "HEADWAY_BUS": plant.url, "HEADWAY_KEY_FILE": key_file},
                stdout=log,
                stderr=log,
            )
            for part, key_file in zip(parts, key_files, strict=True)
        ]
        try:
            with plant.client("admin") as bus:
                assert bus.submit("statistics:fmean", [1, 3]).result(PATIENCE) == 2.0
                names = {peer["name"]: peer["role"] for peer in bus.broker().peers}
            assert names == {"admin": "admin", "controller": "controller", "gpu-1": "runtime"}
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait(PATIENCE)


def _free_port() -> int:
    with sockets.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
