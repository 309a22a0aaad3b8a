"""A bus with keys over real sockets: who gets in, as whom, and how fast somebody is out again."""

from __future__ import annotations

import socket as sockets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from plain_peers import Hub, Peer
from security_bus import enrol, handshake, hello_of, keyed_bus, show, until_known

from headway_broker.authentication import POLL
from headway_broker.service import BrokerService, check_bind
from headway_bus import config, keys
from headway_bus import messages as m
from headway_bus.errors import BusError, ConfigError
from headway_bus.keyring import Keyring
from headway_bus.keys import Key, prepare_with
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.records import Code

Bus = tuple[Hub, Keyring]

MISMATCHED = ("HANDSHAKE_FAILED_NO_DETAIL", "HANDSHAKE_FAILED_PROTOCOL")
"""Which of the two it is depends on whether the broker's refusal or the end of the connection is seen first."""


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with keyed_bus(tmp_path) as bus:
        yield bus


def stranger(keyring: Keyring, role: str = "client") -> Key:
    """A key that is on no list."""
    return keys.make_key("mallory", role, keyring.broker_key().public)


# ------------------------------------------------------------------------------------------------------ the door


@pytest.mark.parametrize("url", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://192.0.2.1:0", "tcp://eth0:0"])
def test_nothing_beyond_this_machine_is_bound_without_keys(url: str, tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"beyond this machine a bus needs keys.*headway keys init"):
        check_bind(url)
    settings = config.load(None, {"broker.bind": url, "broker.keys": str(tmp_path / "none")}, {"HOME": str(tmp_path)})
    with pytest.raises(BusError, match=r"headway keys init"):
        BrokerService.from_settings(settings)


def test_with_keys_it_is_bound(tmp_path: Path) -> None:
    Keyring(tmp_path / "keys").init()
    settings = config.load(
        None, {"broker.bind": "tcp://0.0.0.0:5570", "broker.keys": str(tmp_path / "keys")}, {"HOME": str(tmp_path)}
    )
    check_bind("tcp://0.0.0.0:5570", with_keys=True)
    assert settings.broker.keys  # not bound here: a test opens no door to others


def test_on_this_machine_keys_are_used_when_they_are_required(tmp_path: Path) -> None:
    given = {"broker.require_keys": True, "broker.keys": str(tmp_path / "keys"), "bus.url": "tcp://127.0.0.1:0"}
    settings = config.load(None, given, {"HOME": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"require_keys .*headway keys init"):
        BrokerService.from_settings(settings)


def test_a_known_key_gets_in_and_has_its_name(bus: Bus) -> None:
    hub, keyring = bus
    key = keyring.new("alice", "client")
    until_known(hub, key)
    with show(hub, key) as peer:
        assert peer.hello("client").name == "alice"


@pytest.mark.parametrize("role", ["client", "runtime", "controller"])
def test_an_unknown_key_does_not_get_through_the_handshake(bus: Bus, role: str) -> None:
    hub, keyring = bus
    name = "controller" if role == "controller" else "x"
    unknown = keys.make_key(name, role, keyring.broker_key().public)
    assert handshake(hub.url, unknown) == "HANDSHAKE_FAILED_AUTH"
    assert hub.counters["handshakes.refused"] == 1
    assert not hub.broker.core.state.by_route


def test_nobody_gets_in_without_a_key(bus: Bus) -> None:
    assert handshake(bus[0].url, None) in MISMATCHED


def test_nobody_speaks_to_the_wrong_broker(bus: Bus) -> None:
    hub, keyring = bus
    key = keyring.new("alice", "client")
    until_known(hub, key)
    other = Key(key.name, key.role, key.public, key.secret, keys.make_key("broker", "broker").public)
    assert handshake(hub.url, other) in MISMATCHED


def test_another_mechanism_is_refused(bus: Bus) -> None:
    """By a bare socket: ZeroMQ's own client now and then never ends after a handshake that failed (libzmq issue 2733)."""
    hub, _ = bus
    host, _, port = hub.url.removeprefix("tcp://").partition(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32)
    with sockets.create_connection((host, int(port)), timeout=30.0) as connection:
        connection.sendall(greeting)
        answer = b""
        while data := connection.recv(4096):
            answer += data
    assert len(answer) <= 64, "at most its own greeting, and then the end of the connection"
    assert not hub.broker.core.state.by_route


def test_an_expired_key_is_out(bus: Bus) -> None:
    hub, keyring = bus
    key = keyring.new("alice", "client", expires=time.time() + 1.5)
    until_known(hub, key)
    with show(hub, key) as peer:
        peer.hello("client")
        hub.until(lambda: not hub.broker.core.state.by_name)
        assert peer.next(m.Rejected).code == Code.NOT_GREETED
    assert handshake(hub.url, key) == "HANDSHAKE_FAILED_AUTH"


# ------------------------------------------------------------------------------------------------------ identity


def test_a_runtime_does_not_take_anothers_name(bus: Bus) -> None:
    hub, keyring = bus
    one, two = keyring.new("one", "runtime"), keyring.new("two", "runtime")
    until_known(hub, one, two)
    with show(hub, one) as first, show(hub, two) as second:
        assert first.hello("runtime").name == "one"
        second.say(BROKER, hello_of(two, "one"))
        assert second.next(m.Rejected).code == Code.FORBIDDEN
        second.say(BROKER, m.Hello(m.PROTOCOL_VERSION, "controller", "controller", b"x"))
        assert second.next(m.Rejected).code == Code.FORBIDDEN


def test_a_routing_id_is_no_identity(bus: Bus) -> None:
    """The frames of another peer, replayed under the routing id that it had: the key decides."""
    hub, keyring = bus
    one, two = keyring.new("one", "runtime"), keyring.new("two", "runtime")
    until_known(hub, one, two)
    with Peer(hub.url, identity=b"chosen", prepare=prepare_with(one)) as first:
        first.say(BROKER, hello_of(one))
        hub.until(lambda: b"one" in hub.broker.core.state.by_name)
    # Its connection has ended without a goodbye, and the broker does not know that yet.
    with Peer(hub.url, identity=b"chosen", prepare=prepare_with(two)) as second:
        second.say(CONTROLLER, m.RuntimeLeaving("not my own words"))
        rejected = second.next(m.Rejected)
        assert rejected.code == Code.FORBIDDEN and "key is not that of the peer" in rejected.text


def test_no_socket_is_a_peer_of_the_brokers_process(bus: Bus) -> None:
    hub, keyring = bus
    key = keyring.new("one", "runtime")
    until_known(hub, key)
    with Peer(hub.url, identity=b"\xffcontroller", prepare=prepare_with(key)) as peer:
        peer.say(BROKER, hello_of(key))
        assert peer.next(m.Rejected).code == Code.FORBIDDEN


def test_a_runtime_speaks_to_no_runtime_and_reads_no_logs(bus: Bus) -> None:
    hub, keyring = bus
    one, two = keyring.new("one", "runtime"), keyring.new("two", "runtime")
    until_known(hub, one, two)
    with show(hub, one) as first, show(hub, two) as second:
        first.hello("runtime")
        second.hello("runtime")
        for target, message in (
            (b"two", m.Assign(1, [])),
            (b"two", m.Report(1)),
            (b"*logs.x", m.Event("logs.x", "log")),
            (BROKER, m.Subscribe(["logs.x"])),
            (BROKER, m.AskBroker(1)),
        ):
            first.say(target, message)
            assert first.next(m.Rejected).code == Code.FORBIDDEN
        second.say(BROKER, m.Ping(1.0))
        assert isinstance(second.hear()[1], m.Pong)  # and nothing before it


def test_a_reader_changes_nothing_and_a_client_operates_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with keyed_bus(tmp_path, state=tmp_path / "state") as (hub, keyring):
        reader, client, admin = (
            keyring.new(name, role) for name, role in (("r", "read"), ("c", "client"), ("a", "admin"))
        )
        until_known(hub, reader, client, admin)
        with show(hub, reader) as r, show(hub, client) as c, show(hub, admin) as a:
            for peer in (r, c, a):
                peer.hello("client")
                assert peer.ask(m.AskJobs, m.JobPage).jobs == []
            for message in (m.Submit(9, []), m.Cancel(9), m.Purge(9), m.Control(9, "pause")):
                r.say(CONTROLLER, message)
                assert r.next(m.Rejected).code == Code.FORBIDDEN
            for message in (m.Control(9, "pause"), m.DrainRuntime(9, "x")):
                c.say(CONTROLLER, message)
                assert c.next(m.Rejected).code == Code.FORBIDDEN
            assert a.ask(lambda request: m.Control(request, "pause"), m.ControllerState).state == {"done": "pause"}


# ------------------------------------------------------------------------------------------------------ revocation


def test_a_revoked_peer_is_cut_off_within_a_second(bus: Bus) -> None:
    hub, keyring = bus
    key, other = keyring.new("gpu", "runtime"), keyring.new("alice", "client")
    controller = keyring.new("controller", "controller")
    until_known(hub, key, other, controller)
    with show(hub, key) as peer, show(hub, other) as witness, show(hub, controller) as brain:
        brain.hello("controller", "controller")
        peer.hello("runtime")
        witness.hello("client")
        keyring.revoke("gpu")
        while (changed := brain.next(m.PeerChanged)) != m.PeerChanged("gpu", "runtime", b"instance", "revoked"):
            assert changed.state == "up"
        assert peer.next(m.Rejected).code == Code.NOT_GREETED
        peer.say(BROKER, hello_of(key))
        assert peer.next(m.Rejected).code == Code.FORBIDDEN
        peer.say(CONTROLLER, m.RuntimeLeaving("still here"))
        assert peer.next(m.Rejected).code == Code.FORBIDDEN
        witness.say(BROKER, m.Ping(1.0))
        witness.next(m.Pong)
    assert handshake(hub.url, key) == "HANDSHAKE_FAILED_AUTH"
    assert POLL < 1.0  # between two looks at the list; what follows a look is done at once


def test_a_list_that_cannot_be_read_leaves_everybody_where_they_are(bus: Bus) -> None:
    hub, keyring = bus
    key = keyring.new("alice", "client")
    until_known(hub, key)
    with show(hub, key) as peer:
        peer.hello("client")
        (keyring.folder / "authorized_peers").write_text("rubbish\n")
        hub.until(lambda: hub.broker.core.state.counters["keys.unreadable"] == 1)
        peer.say(BROKER, m.Ping(1.0))
        peer.next(m.Pong)


# ------------------------------------------------------------------------------------------------------ enrolment


def test_an_invited_machine_is_enrolled_and_comes_in(bus: Bus) -> None:
    hub, keyring = bus
    invitation = keyring.invite(hub.url, "runtime", "", 60.0, time.time())
    hub.until(lambda: bool(hub.broker._door and hub.broker._door._invitations))
    key = stranger(keyring)
    assert enrol(hub, key, invitation.token, "gpu-1") == m.Enrolled("gpu-1", "runtime")
    mine = Key("gpu-1", "runtime", key.public, key.secret, key.broker)
    with show(hub, mine) as peer:
        assert peer.hello("runtime").name == "gpu-1"
    late = stranger(keyring)
    assert handshake(hub.url, late) == "HANDSHAKE_FAILED_AUTH"  # it was used up: the door is shut again


def test_an_uninvited_key_may_say_nothing_but_enrol(bus: Bus) -> None:
    hub, keyring = bus
    keyring.invite(hub.url, "runtime", "", 60.0, time.time())
    hub.until(lambda: bool(hub.broker._door and hub.broker._door._invitations))
    with show(hub, stranger(keyring)) as peer:
        for target, message in (
            (BROKER, hello_of(stranger(keyring))),
            (BROKER, m.AskBroker(1)),
            (CONTROLLER, m.AskJobs(1)),
            (b"*logs.x", m.Event("logs.x", "log")),
            (BROKER, m.Enrol(m.PROTOCOL_VERSION, "a wrong token", "gpu-1")),
            (BROKER, m.Enrol(99, "a wrong token", "gpu-1")),
        ):
            peer.say(target, message)
            assert isinstance(peer.hear()[1], m.Rejected), message
    assert not hub.broker.core.state.by_route and keyring.peers() == []


# ------------------------------------------------------------------------------------------------------ the wire


def test_nothing_on_the_wire_can_be_read(bus: Bus) -> None:
    """A relay between peer and broker sees the bytes of a conversation, and none of its words."""
    hub, keyring = bus
    key = keyring.new("alice", "client")
    until_known(hub, key)
    port = int(hub.url.rpartition(":")[2])
    listening = sockets.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def pump(source: sockets.socket, target: sockets.socket) -> None:
        # Not closed here: the other direction still reads from it.
        with suppress(OSError):
            while data := source.recv(65536):
                seen.append(data)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(sockets.SHUT_WR)

    def relay() -> None:
        near, _ = listening.accept()
        with near, sockets.create_connection(("127.0.0.1", port)) as far:
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join()

    relaying = threading.Thread(target=relay, daemon=True)
    relaying.start()
    word = b"a-word-that-nobody-reads"
    with Peer(f"tcp://127.0.0.1:{listening.getsockname()[1]}", prepare=prepare_with(key)) as peer:
        peer.hello("client")
        peer.say(CONTROLLER, m.AskTask(1, word.decode()), word)
        peer.next(m.Undeliverable)
    listening.close()
    relaying.join(30.0)
    everything = b"".join(seen)
    assert len(everything) > 500 and b"CURVE" in everything
    assert word not in everything and b"hello" not in everything and b"undeliverable" not in everything


def test_a_thousand_half_open_connections_harm_nobody(tmp_path: Path) -> None:
    with keyed_bus(tmp_path, handshake_timeout=1.0) as (hub, keyring):
        key = keyring.new("alice", "client")
        until_known(hub, key)
        port = int(hub.url.rpartition(":")[2])
        with show(hub, key) as peer:
            peer.hello("client")
            half_open = [sockets.create_connection(("127.0.0.1", port)) for _ in range(1000)]
            for number, each in enumerate(half_open):
                each.sendall([b"", b"\xff", b"\xff" + bytes(8) + b"\x7f\x03", b"GET / HTTP/1.1\r\n\r\n"][number % 4])
                if number % 10 == 0:
                    peer.say(BROKER, m.Ping(float(number)))
                    assert peer.next(m.Pong) == m.Pong(float(number))
            ended = [each for each in half_open if _is_closed(each)]
            assert len(ended) == len(half_open)  # by the broker, when their time was up
            for each in half_open:
                each.close()
            with show(hub, key) as another:
                assert another.hello("client", instance=b"another").name == "alice.2"


def _is_closed(connection: sockets.socket) -> bool:
    connection.settimeout(20.0)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True
