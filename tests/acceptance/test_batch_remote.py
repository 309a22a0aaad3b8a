"""Batches on machines over SSH: real servers on loopback, each with a home and a temporary folder of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from acceptance_shell import PATIENCE, Done, Shell, start_up, wait_for_file
from batch_shell import begun, hyperctl, job, ran, record_of, text_of, write_batch

pytest.importorskip("asyncssh", reason="machines over SSH need asyncssh: pip install 'headway[ssh]'")

import asyncssh
from batch_machine import PASSWORD, Machine, machine

WAITING = "echo begun; touch {0}/started; while ! test -e {0}/release; do sleep 0.05; done; echo ended"


@pytest.fixture
def one(shell: Shell, tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path / "one") as made:
        yield made


@pytest.fixture
def two(shell: Shell, tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path / "two") as made:
        yield made


def left_on(made: Machine) -> list[Any]:
    """Files and processes of batches that are still on the machine, which may take a moment to see that nobody is there."""
    files: list[Any] = []
    for _ in range(PATIENCE * 20):
        processes = [each for each in psutil.process_iter() if is_of(each, made)]
        files = list(made.temporary.iterdir())
        if not processes and not files:
            return []
        psutil.wait_procs(processes, timeout=0.05) if processes else threading.Event().wait(0.05)
    return [*files, *processes]


def wait_for_text(path: Path, text: str) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE * 20):
        if path.exists() and path.read_text() == text:
            return
        pause.wait(0.05)
    raise AssertionError(f"{path} has not got to {text!r}")


def is_of(process: psutil.Process, made: Machine) -> bool:
    with suppress(psutil.Error):
        return process.environ().get("TEST_MACHINE") == str(made.home) and process.status() != psutil.STATUS_ZOMBIE
    return False


def remote(*machines: Machine, connection: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The backend of a batch file. They are slow to be set up, so one job at a time is enough."""
    each = {"python": sys.executable, "slots": 1, **fields}
    login = {"password": PASSWORD, **(connection or {})}
    return {"type": "remote", "machines": [{"connection": made.connection(**login), **each} for made in machines]}


def run(shell: Shell, file: Path, *words: str) -> Done:
    return shell("run", "--config", file, "--json", *words)


def test_jobs_run_there_and_their_files_come_back(shell: Shell, one: Machine) -> None:
    assets = shell.home / "assets"
    (assets / "sub dir").mkdir(parents=True)
    (assets / "empty").mkdir()
    (assets / "sub dir" / "b.txt").write_text("b in a sub folder\n")
    (assets / "large").write_bytes(b"x" * 1_000_000)
    reads = "python3 -c 'from headway import hyperctl; print(hyperctl.get_job_params())'"
    large = "cat resources/assets/large >large; head -c 2000000 /dev/zero | tr '\\0' y"
    file = write_batch(
        shell,
        job("asset ü/1", "cat 'resources/assets/sub dir/b.txt'; test -d resources/assets/empty", assets=["assets"]),
        job("params", reads, params={"tol": 1}),
        job("large", large, assets=["assets"]),
        job(
            "files",
            'mkdir -p out/deep; echo "$X" >out/deep/model; mkdir out/none; ln -s /etc/passwd link; echo no >&2; exit 7',
        ),
        job("home", "pwd", working_dir="~"),
        job("nowhere", "echo ran", working_dir="/does/not/exist"),
        backend=remote(one, environments={"X": "a b  c", "SECRET_KEY": "hunter2"}),
    )
    done = run(shell, file)
    assert done.status == 1, done.err
    states = done.json["states"]
    assert {name for name, state in states.items() if state != "succeed"} == {"files", "nowhere"}, (states, done.err)
    folder = shell.home / "data" / "b"
    (first,) = folder.glob("asset*-*/stdout")
    assert first.read_text() == "b in a sub folder\n"
    assert text_of(shell, "params") == "{'tol': 1}\n"
    assert (folder / "large" / "large").read_bytes() == b"x" * 1_000_000
    assert text_of(shell, "large") == "y" * 2_000_000
    assert (folder / "files" / "out" / "deep" / "model").read_text() == "a b  c\n"
    assert (folder / "files" / "out" / "none").is_dir()
    assert not os.path.lexists(folder / "files" / "link")
    assert text_of(shell, "files", "stderr") == "no\n"
    assert Path(text_of(shell, "home").strip()).samefile(one.home)
    assert text_of(shell, "nowhere") == ""
    record = record_of(shell, "files")
    assert (record["exit_code"], record["host"], record["ext"]["backend_type"]) == (7, "127.0.0.1", "remote")
    assert left_on(one) == []
    assert shell.processes() == []
    for each in folder.rglob("*.json"):
        assert PASSWORD not in each.read_text()
    again = run(shell, file)
    assert (again.json["n_skipped"], again.json["n_allocated"]) == (4, 2)


def test_two_machines_share_the_jobs_and_one_that_goes_away_gives_its_own_to_the_other(
    shell: Shell, one: Machine, two: Machine, tmp_path: Path
) -> None:
    starts = f'echo "$HOME" >>{tmp_path}/"$HYPERCTL_JOB_NAME"; '
    jobs = [job(name, starts + WAITING.format(f"{tmp_path}/$HYPERCTL_JOB_NAME-")) for name in ("a", "b")]
    for name in ("a", "b"):
        (tmp_path / f"{name}-").mkdir()
    running = begun(shell, write_batch(shell, *jobs, backend=remote(one, two)))
    for name in ("a", "b"):
        wait_for_file(tmp_path / f"{name}-" / "started")
        wait_for_text(shell.home / "data" / "b" / name / "stdout", "begun\n")  # it comes back while the job runs
    homes = {name: (tmp_path / name).read_text().strip() for name in ("a", "b")}
    assert len(set(homes.values())) == 2
    gone = next(made for made in (one, two) if str(made.home) == homes["a"])
    gone.break_down()
    (tmp_path / "b-" / "release").touch()
    wait_for_file(shell.home / "data" / "b" / "b.succeed")
    (tmp_path / "a-" / "release").touch()
    assert running.wait(PATIENCE) == 0
    assert text_of(shell, "a") == "begun\nended\n"
    assert (tmp_path / "a").read_text().split() == [homes["a"], homes["b"]]
    assert shell.processes() == []
    assert [left_on(made) for made in (one, two)] == [[], []]


def test_machines_join_a_bus_that_is_there_and_run_nothing_of_others(
    shell: Shell, one: Machine, tmp_path: Path
) -> None:
    up = start_up(shell, "--slots", "1", "--state", shell.home / "state")
    where = "echo $HOME; "
    file = write_batch(shell, job("a", where + WAITING.format(tmp_path)), job("b", where), backend=remote(one, slots=2))
    try:
        running = begun(shell, file, "--bus", up.url)
        wait_for_file(tmp_path / "started")
        wait_for_file(shell.home / "data" / "b" / "b.succeed")
        # The machine has a free slot, and this one is busy.
        others = [shell("run-command", "--bus", up.url, "echo $HOME", "--wait") for _ in range(3)]
        assert {done.out.strip() for done in others} == {str(shell.home)}, others
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        assert left_on(one) == []
        (tmp_path / "release").touch()
        done = run(shell, file, "--bus", up.url)
        assert (done.status, done.json["n_skipped"]) == (0, 1), done.err
        assert text_of(shell, "a") == f"{one.home}\nbegun\nended\n"
        assert (text_of(shell, "b"), record_of(shell, "b")["host"]) == (f"{one.home}\n", "127.0.0.1")
        assert left_on(one) == []
    finally:
        assert up.interrupt() == 0


def test_h_w7_a_machine_that_is_away_is_tried_again(shell: Shell, one: Machine, two: Machine, tmp_path: Path) -> None:
    two.break_down()
    jobs = [job("waits", WAITING.format(tmp_path)), job("other", 'echo "$HOME"')]
    running = begun(shell, write_batch(shell, *jobs, backend=remote(two, one)))
    wait_for_file(tmp_path / "started")
    two.listen()
    wait_for_file(shell.home / "data" / "b" / "other.succeed")
    (tmp_path / "release").touch()
    assert running.wait(PATIENCE) == 0
    assert text_of(shell, "other").strip() == str(two.home)


def test_a_key_with_a_passphrase_and_the_configuration_of_ssh(shell: Shell, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "id", passphrase="a phrase")
    key.write_public_key(tmp_path / "id.pub")
    with machine(tmp_path / "machine", key=tmp_path / "id.pub") as made:
        (shell.home / ".ssh").mkdir()
        words = f"Host lab\n  HostName 127.0.0.1\n  Port {made.port}\n  User someone\n"
        (shell.home / ".ssh" / "config").write_text(words)
        login = {"hostname": "lab", "ssh_rsa_file": str(tmp_path / "id"), "passphrase": "a phrase"}
        backend = {"type": "remote", "machines": [{"connection": login, "python": sys.executable, "slots": 1}]}
        file = write_batch(shell, job("j", "echo there"), backend=backend)
        done = run(shell, file, "--accept-new-hosts")
        assert done.status == 0, done.err
        assert made.fingerprint in done.err
        assert f"[127.0.0.1]:{made.port} ssh-" in (shell.home / ".ssh" / "known_hosts").read_text()
        assert record_of(shell, "j")["host"] == "lab"


def test_what_is_wrong_with_a_machine_is_said(shell: Shell, one: Machine, tmp_path: Path) -> None:
    def said(connection: dict[str, Any] | None = None, made: Machine = one, **fields: Any) -> str:
        done = run(shell, write_batch(shell, job("j", "true"), backend=remote(made, connection=connection, **fields)))
        assert done.status == 1
        assert not (shell.home / "data" / "b" / "j").exists()
        return done.err

    assert 'name another one: "python" of the machine' in said(python="no-such-python")
    one.break_down()
    assert "it cannot be reached" in said()
    assert left_on(one) == []
    far = run(shell, write_batch(shell, job("j", "true"), backend=remote(one)), "--bus", "tcp://192.0.2.1:5570")
    assert (far.status, "is one with keys" in far.err) == (2, True)


def test_a_python_without_packages_is_lent_them(shell: Shell, one: Machine, tmp_path: Path) -> None:
    """-S: nothing of site-packages is there, as on a machine where nobody has installed anything."""
    bare = tmp_path / "bare python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    ran(shell, write_batch(shell, job("j", "echo there"), backend=remote(one, python=str(bare))))
    assert text_of(shell, "j") == "there\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing_there(shell: Shell, one: Machine, tmp_path: Path, number: int) -> None:
    file = write_batch(shell, job("j", WAITING.format(tmp_path)), backend=remote(one))
    running = begun(shell, file)
    wait_for_file(tmp_path / "started")
    running.send_signal(number)
    running.wait(PATIENCE)
    (tmp_path / "release").touch()
    assert ran(shell, file)["n_allocated"] == 1
    assert text_of(shell, "j") == "begun\nended\n"
    assert shell.processes() == []
    assert left_on(one) == []


def test_h_a5_a_job_on_a_machine_is_killed(shell: Shell, one: Machine, tmp_path: Path) -> None:
    command = f"echo begun; sh -c 'sleep 41; true' & touch {tmp_path}/started; sleep 42; true"
    running = begun(shell, write_batch(shell, job("long", command), backend=remote(one)))
    wait_for_file(tmp_path / "started")
    killed = hyperctl(shell, "job", "kill", "-b", "b", "-j", "long")
    assert (killed.status, killed.json) == (0, {"msg": "long killed"}), killed.err
    assert [each for each in psutil.process_iter() if is_of(each, one) and "sleep" in each.name()] == []
    assert running.wait(PATIENCE) == 1
    assert (record_of(shell, "long")["status"], text_of(shell, "long")) == ("killed", "begun\n")


def test_h_a3_the_remote_example_of_the_manual_is_read(shell: Shell) -> None:
    """Its address is of another network, which is told; with one of this machine it is the machine that is not there."""
    pytest.importorskip("uvicorn", reason="the example has a server: pip install 'headway[http]'")
    example = {
        "name": "local_backend_example",
        "jobs": [{"name": "job1", "params": {"param1": 1}, "command": "sleep 3"}],
        "backend": {
            "type": "remote",
            "machines": [{"connection": {"hostname": "host1.invalid", "username": "hyperctl", "password": "hyperctl"}}],
        },
        "server": {"host": "192.0.2.206"},
    }
    (shell.home / "batch.json").write_text(json.dumps(example))
    done = run(shell, shell.home / "batch.json")
    assert (done.status, "server: cannot listen at 192.0.2.206, port 8060" in done.err) == (2, True)
    (shell.home / "batch.json").write_text(json.dumps({**example, "server": {"host": "localhost", "port": 0}}))
    done = run(shell, shell.home / "batch.json")
    assert (done.status, "host1.invalid: it cannot be reached" in done.err) == (1, True)
