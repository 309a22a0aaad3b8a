"""Key files: what is written, what is refused, and that a secret is in nothing that is shown."""

from __future__ import annotations

import os
import re
import stat
import traceback
from pathlib import Path

import pytest
import zmq

from headway_bus import keys
from headway_bus.errors import BusError, ConfigError
from headway_bus.keys import Key


@pytest.fixture
def key() -> Key:
    return keys.make_key("alice", "client", keys.make_key("broker", "broker").public)


@pytest.fixture
def file(tmp_path: Path, key: Key) -> Path:
    keys.write_key(tmp_path / "alice.key", key)
    return tmp_path / "alice.key"


def test_what_is_written_is_read_again(file: Path, key: Key) -> None:
    assert keys.load_key(file) == key


def test_a_key_file_is_its_owners_alone(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_folder_that_is_made_for_a_key_is_its_owners_alone(tmp_path: Path, key: Key) -> None:
    keys.write_key(tmp_path / "new" / "a.key", key)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_key_is_never_overwritten(file: Path, key: Key) -> None:
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="there is a key already"):
        keys.write_key(file, key)
    assert file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_a_key_that_others_may_touch_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600"):
        keys.load_key(file)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_key_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(file, 12345, -1)
    monkeypatch.setattr(os, "getuid", lambda: 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        keys.load_key(file)


def test_a_symlink_does_not_hide_a_loose_file(file: Path, tmp_path: Path) -> None:
    file.chmod(0o644)
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(ConfigError, match="others may read it"):
        keys.load_key(tmp_path / "link")


def test_no_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.key"):
        keys.load_key(tmp_path / "nowhere.key")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: "not = [toml", "not a key file"),
        (lambda text: re.sub("public = .*\n", "", text), "no public"),
        (lambda text: re.sub('public = ".', 'public = "~', text), "40 characters of Z85"),
        (lambda text: re.sub('secret = "....', 'secret = "0000', text), "not halves of one key"),
        (lambda text: text + "x" * 20_000, "no key file"),
    ],
    ids=["toml", "missing", "alphabet", "halves", "size"],
)
def test_a_damaged_key_is_refused_without_showing_it(file: Path, key: Key, change: object, expected: str) -> None:
    file.write_text(change(file.read_text()))  # type: ignore[operator]
    with pytest.raises(ConfigError, match=expected) as caught:
        keys.load_key(file)
    assert key.secret not in "".join(traceback.format_exception_only(caught.value))


def test_a_secret_is_in_no_repr(key: Key) -> None:
    assert key.secret not in f"{key!r} {key}"
    assert key.public in repr(key)


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "x" * 65, "a\0b", "ünicode"])
def test_names_that_no_peer_can_have(name: str) -> None:
    with pytest.raises(ConfigError):
        keys.make_key(name, "client")


@pytest.mark.parametrize(("name", "role"), [("controller", "client"), ("other", "controller"), ("a", "boss")])
def test_roles_and_names_that_do_not_go_together(name: str, role: str) -> None:
    with pytest.raises(ConfigError):
        keys.make_key(name, role)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.9.9.9:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://localhost:1", True),
        ("ipc:///tmp/x", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://*:1", False),
        ("tcp://[::]:1", False),
        ("tcp://192.168.1.1:1", False),
        ("tcp://eth0:1", False),
        ("tcp://localhost.example.org:1", False),
        ("tcp://127.0.0.1.example.org:1", False),
    ],
)
def test_what_is_this_machine(url: str, local: bool) -> None:
    assert keys.is_local(url) is local


@pytest.mark.parametrize("url", ["udp://127.0.0.1:1", "127.0.0.1:1", "tcp://", "", "tcp://[::"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BusError, match="expected tcp://"):
        keys.is_local(url)


def test_beyond_this_machine_a_key_must_be_there(file: Path) -> None:
    assert keys.find_key("", "tcp://127.0.0.1:5570") is None
    assert keys.find_key(str(file), "tcp://hub.example.org:5570") == keys.load_key(file)
    with pytest.raises(ConfigError, match=r"--key-file.*headway keys new"):
        keys.find_key("", "tcp://hub.example.org:5570")


def test_the_brokers_own_key_is_no_peers(tmp_path: Path) -> None:
    keys.write_key(tmp_path / "broker.key", keys.make_key("broker", "broker"))
    with pytest.raises(ConfigError, match="for no peer"):
        keys.find_key(str(tmp_path / "broker.key"), "tcp://hub:1")


def test_a_socket_is_given_its_keys(key: Key) -> None:
    prepare = keys.prepare_with(key)
    assert prepare is not None
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        prepare(socket)
        assert socket.get(zmq.MECHANISM) == zmq.CURVE
    assert keys.prepare_with(None) is None
