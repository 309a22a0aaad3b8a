"""The connection to a machine: who is let in, which host keys are trusted, and what a person is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("asyncssh", reason="machines over SSH need asyncssh: pip install 'headway[ssh]'")

import asyncssh
from batch_machine import PASSWORD, Machine, machine

from headway.batch.config import Connection
from headway.batch.remote import ssh
from headway.batch.remote.errors import MachineError, MachineRefused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


def attempt(server: Machine, accept_new: bool = False, **fields: Any) -> str:
    """What is said of it; nothing if the connection came about."""
    place = msgspec.convert(server.connection(**{"password": PASSWORD, **fields}), Connection)

    async def connect() -> None:
        async with ssh.connected(place, accept_new):
            pass

    try:
        asyncio.run(connect())
    except MachineError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_the_right_password_and_the_right_key(server: Machine) -> None:
    assert attempt(server) == ""


def test_what_a_person_has_to_mend_is_told_apart_from_what_may_pass(server: Machine, tmp_path: Path) -> None:
    assert attempt(server, password="wrong").startswith("MachineRefused: it does not let someone in")
    assert "and the batch file expects SHA256:other" in attempt(server, host_key="SHA256:other")
    assert attempt(server, ssh_rsa_file="none").startswith("MachineRefused: ssh_rsa_file 'none' does not exist")
    (tmp_path / "broken").write_text("no key")
    assert "cannot be read" in attempt(server, ssh_rsa_file=str(tmp_path / "broken"))
    assert attempt(server, port=1).startswith("MachineError: it cannot be reached")
    assert attempt(server, hostname="nowhere.invalid").startswith("MachineError: it cannot be reached")


def test_a_new_host_key_is_refused_accepted_and_kept(server: Machine, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "known_hosts"
    unknown = {"host_key": None, "known_hosts": str(file)}
    refused = attempt(server, **unknown)
    assert f"its host key {server.fingerprint} is not in {file}" in refused
    assert "--accept-new-hosts" in refused
    assert not file.exists()
    assert attempt(server, True, **unknown) == ""
    assert file.read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")
    assert attempt(server, **unknown) == ""
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    file.write_text(f"[127.0.0.1]:{server.port} {other}\n")
    changed = attempt(server, True, **unknown)
    assert changed.startswith("MachineRefused")
    assert "somebody stands in between" in changed
    assert attempt(server, **{**unknown, "host_key": server.fingerprint}) == ""


def test_where_the_library_is_missing_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "asyncssh", None)
    with pytest.raises(Exception, match=r"pip install 'headway\[ssh\]'"):
        ssh.check_installed()


def test_refusals_are_errors_of_machines() -> None:
    assert issubclass(MachineRefused, MachineError)


def test_the_key_that_the_batch_file_names_is_the_only_one(server: Machine, tmp_path: Path) -> None:
    """A file of known hosts may vouch for the machine's true key: it is still not the one that was named."""
    file = tmp_path / "known_hosts"
    assert attempt(server, True, host_key=None, known_hosts=str(file)) == ""
    refused = attempt(server, host_key="SHA256:other", known_hosts=str(file))
    assert "and the batch file expects SHA256:other" in refused


def test_a_file_of_known_hosts_that_is_not_there_is_not_replaced_by_the_usual_one(
    server: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    usual = {"host_key": None, "known_hosts": None}
    assert attempt(server, True, **usual) == ""
    assert attempt(server, **usual) == ""
    assert "is not in" in attempt(server, host_key=None, known_hosts=str(tmp_path / "none"))
