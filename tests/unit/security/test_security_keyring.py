"""The broker's folder: who may come, who is invited, and what is wrong in a file that a person wrote."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway_bus import keys
from headway_bus.errors import ConfigError
from headway_bus.keyring import BROKER_KEY, INVITATIONS, PEERS, Authorized, Invitation, Keyring, usable

NOW = 1_900_000_000.0
URL = "tcp://hub.example.org:5570"


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Keyring]:
    keyring = Keyring(tmp_path / "keys")
    keyring.init()
    yield keyring
    for path in keyring.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def public() -> str:
    return keys.make_key("x", "client").public


def test_a_folder_without_keys_says_how_to_make_them(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "none")
    assert not keyring.exists
    with pytest.raises(ConfigError, match="headway keys init"):
        keyring.broker_key()
    with pytest.raises(ConfigError, match="headway keys init"):
        keyring.authorize(Authorized(public(), "a", "client"))


def test_init_is_not_done_twice(keyring: Keyring) -> None:
    before = keyring.broker_key()
    with pytest.raises(ConfigError, match="there is a key already"):
        keyring.init()
    assert keyring.broker_key() == before


def test_a_peer_that_is_made_is_on_the_list(keyring: Keyring) -> None:
    key = keyring.new("alice", "client", expires=NOW, comment="her laptop\nnot a line of its own")
    assert keyring.peers() == [Authorized(key.public, "alice", "client", NOW, "her laptop not a line of its own")]
    assert keys.load_key(keyring.key_path("alice")) == key
    assert key.broker == keyring.broker_key().public


def test_a_name_is_given_once(keyring: Keyring) -> None:
    keyring.new("alice", "client")
    with pytest.raises(ConfigError, match="headway keys revoke alice"):
        keyring.new("alice", "runtime", keyring.folder / "other.key")
    assert not (keyring.folder / "other.key").exists()


def test_a_revoked_peer_is_off_the_list_and_the_others_are_on_it(keyring: Keyring) -> None:
    keyring.new("alice", "client")
    bob = keyring.new("bob", "runtime")
    assert keyring.revoke("alice").name == "alice"
    assert [each.public for each in keyring.peers()] == [bob.public]
    with pytest.raises(ConfigError, match="no peer 'alice' is authorized; there are: bob"):
        keyring.revoke("alice")


def test_a_name_never_leaves_the_folder(keyring: Keyring) -> None:
    for name in ("../x", "/etc/x", "a/../../b", "a\0"):
        with pytest.raises(ConfigError):
            keyring.new(name, "client")


def test_who_has_expired_may_not_come(keyring: Keyring) -> None:
    early, late, never = (
        Authorized(public(), name, "client", at) for name, at in (("a", 10.0), ("b", 20.0), ("c", 0.0))
    )
    assert usable([early, late, never], 15.0) == {late.public: late, never.public: never}


def test_writers_at_the_same_time_lose_no_line(keyring: Keyring) -> None:
    names = [f"peer-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: Keyring(keyring.folder).authorize(Authorized(public(), name, "client")), names))
    assert sorted(each.name for each in keyring.peers()) == sorted(names)


def test_keys_that_begin_like_a_comment_are_keys(keyring: Keyring) -> None:
    peer = Authorized("#" + "a" * 39, "odd", "client", 0.0, "a # in # it")
    keyring.authorize(peer)
    assert keyring.peers() == [peer]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{key} alice", "PUBLIC-KEY NAME ROLE"),
        ("short alice client", "PUBLIC-KEY NAME ROLE"),
        ("{key} ../alice client", "name '../alice'"),
        ("{key} alice boss", "role 'boss'"),
        ("{key} controller client", "cannot be that of a client"),
        ("{key} alice controller", "cannot be that of a controller"),
        ("{key} alice client until=2030", "expected namespaces=A,B"),
        ("{key} alice client namespaces=a/b", "expected up to 32 letters"),
        ("{key} alice client namespaces=a,a", "each once"),
        ("{key} alice runtime namespaces=a", "are for the roles read and client"),
        ("{key} alice client labels=zone=lab", "are for the roles runtime and edge"),
        ("{key} alice runtime labels=zone", "expected KEY=VALUE"),
        ("{key} alice client expires=soon", "2030-01-31T12:00:00Z"),
        ("{key} alice client\n{key} bob client", "line 2: .* twice"),
        ("{key} alice client\n{other} alice client", "line 2: .* twice"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(keyring: Keyring, line: str, expected: str) -> None:
    (keyring.folder / PEERS).write_text(line.format(key=public(), other=public()) + "\n")
    with pytest.raises(ConfigError, match=rf"(?s)line \d.*{expected}|{expected}"):
        keyring.peers()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
@pytest.mark.parametrize("which", [PEERS, ""])
def test_a_list_that_others_may_write_is_not_read(keyring: Keyring, which: str, mode: int) -> None:
    path = keyring.folder / which
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode | (0o700 if not which else 0))
    with pytest.raises(ConfigError, match="others may write it"):
        keyring.peers()
    path.chmod(before)
    assert keyring.peers() == []


def test_the_stamp_changes_with_the_lists(keyring: Keyring) -> None:
    first = keyring.stamp()
    assert keyring.stamp() == first
    keyring.new("alice", "client")
    second = keyring.stamp()
    keyring.invite(URL, "runtime", "", 60.0, NOW)
    assert len({first, second, keyring.stamp()}) == 3


# ------------------------------------------------------------------------------------------------------ invitations


def test_an_invitation_is_good_once(keyring: Keyring) -> None:
    invitation = Invitation.read(keyring.invite(URL, "runtime", "", 60.0, NOW).text)
    assert (invitation.url, invitation.broker) == (URL, keyring.broker_key().public)
    key = public()
    peer = keyring.redeem(invitation.token, key, "gpu-1", NOW + 1)
    assert (peer.name, peer.role, peer.public) == ("gpu-1", "runtime", key)
    assert keyring.peers() == [peer]
    with pytest.raises(ConfigError, match="not known, was used, or has expired"):
        keyring.redeem(invitation.token, public(), "gpu-2", NOW + 2)
    assert keyring.peers() == [peer]


def test_an_invitation_expires(keyring: Keyring) -> None:
    invitation = keyring.invite(URL, "runtime", "", 60.0, NOW)
    with pytest.raises(ConfigError, match="has expired"):
        keyring.redeem(invitation.token, public(), "gpu-1", NOW + 61)


def test_an_invitation_with_a_name_is_for_that_name(keyring: Keyring) -> None:
    invitation = keyring.invite(URL, "runtime", "gpu-1", 60.0, NOW)
    with pytest.raises(ConfigError, match="this invitation is for 'gpu-1'"):
        keyring.redeem(invitation.token, public(), "gpu-2", NOW)
    assert keyring.redeem(invitation.token, public(), "gpu-1", NOW).name == "gpu-1"


def test_a_refusal_does_not_use_an_invitation_up(keyring: Keyring) -> None:
    keyring.new("gpu-1", "runtime")
    invitation = keyring.invite(URL, "runtime", "", 60.0, NOW)
    for name, why in (("gpu-1", "is taken"), ("../x", "expected up to 64"), ("controller", "nobody is invited as")):
        with pytest.raises(ConfigError, match=why):
            keyring.redeem(invitation.token, public(), name, NOW)
    assert keyring.redeem(invitation.token, public(), "gpu-2", NOW).role == "runtime"


def test_of_many_at_the_same_time_one_is_let_in(keyring: Keyring) -> None:
    invitation = keyring.invite(URL, "runtime", "", 60.0, NOW)

    def redeem(number: int) -> bool:
        try:
            Keyring(keyring.folder).redeem(invitation.token, public(), f"gpu-{number}", NOW)
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(redeem, range(16))) == 1
    assert len(keyring.peers()) == 1


def test_the_folder_does_not_keep_the_token(keyring: Keyring) -> None:
    invitation = keyring.invite(URL, "runtime", "", 60.0, NOW)
    assert invitation.token not in (keyring.folder / INVITATIONS).read_text()
    assert invitation.token not in repr(invitation)


@pytest.mark.parametrize("role", ["controller", "broker", "boss"])
def test_nobody_is_invited_as(keyring: Keyring, role: str) -> None:
    with pytest.raises(ConfigError, match="role"):
        keyring.invite(URL, role, "", 60.0, NOW)


@pytest.mark.parametrize("text", ["", "hw1.", "hw1.!!!", "hw1.W10", "hw1." + "A" * 5000, "hw2.W10", "hw1.WzEsMiwzLDRd"])
def test_what_is_no_invitation_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError, match="this is no invitation") as caught:
        Invitation.read(text)
    assert not text or text[4:] == "" or text[4:] not in str(caught.value)


def test_a_peers_key_in_the_brokers_place_is_refused(keyring: Keyring) -> None:
    (keyring.folder / BROKER_KEY).unlink()
    keys.write_key(keyring.folder / BROKER_KEY, keys.make_key("alice", "client"))
    with pytest.raises(ConfigError, match="not of a broker"):
        keyring.broker_key()
