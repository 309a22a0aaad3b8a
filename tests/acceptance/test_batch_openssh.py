"""A batch on a machine with OpenSSH's server, where it is installed: its own way of forwarding sockets and of ending sessions."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_shell import Shell
from batch_shell import job, text_of, write_batch

asyncssh = pytest.importorskip("asyncssh", reason="machines over SSH need asyncssh: pip install 'headway[ssh]'")

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
SETTINGS = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/id.pub
PidFile none
StrictModes no
UsePAM no
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a server that lets this user in with ``id``."""
    if SSHD is None:
        pytest.skip("no OpenSSH server is installed (apt install openssh-server)")
    for name in ("host_key", "id"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(tmp_path / name)
        key.write_public_key(tmp_path / f"{name}.pub")
        (tmp_path / name).chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(SETTINGS.format(port=number, folder=tmp_path))
    command = [SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        for line in server.stderr:
            said += line
            if "listening" in line:
                break
        else:
            pytest.skip(f"the OpenSSH server does not run for this user: {said.strip()}")
        yield number
        server.terminate()


def test_a_batch_through_openssh(shell: Shell, port: int, tmp_path: Path) -> None:
    (shell.home / "asset").write_text("an asset")
    login = {"hostname": "127.0.0.1", "port": port, "username": getpass.getuser(), "ssh_rsa_file": str(tmp_path / "id")}
    login["known_hosts"] = str(tmp_path / "known_hosts")
    machine = {"connection": login, "python": sys.executable, "slots": 1}
    command = 'printf "%s|" "$HEADWAY_BATCH_ROOT"; cat resources/asset; echo made >made'
    file = write_batch(shell, job("j", command, assets=["asset"]), backend={"type": "remote", "machines": [machine]})
    done = shell("run", "--config", file, "--json", "--accept-new-hosts")
    assert done.status == 0, done.err
    root, _, words = text_of(shell, "j").partition("|")
    assert words == "an asset"
    assert (shell.home / "data" / "b" / "j" / "made").read_text() == "made\n"
    assert json.loads(done.out)["states"] == {"j": "succeed"}
    assert root
    assert not Path(root).exists()
