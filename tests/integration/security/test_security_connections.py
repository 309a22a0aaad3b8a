"""Connections that are cut: too many that say nothing, a message without end, and a revoked peer's."""

from __future__ import annotations

import os
import socket as sockets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from plain_peers import Hub, Peer, wait_until
from security_bus import hello_of, keyed_bus, show, until_known

from headway_broker.limits import Limits
from headway_broker.watch import Watch, address_of, bytes_received
from headway_bus import messages as m
from headway_bus.codec import encode
from headway_bus.link import BROKER
from headway_bus.records import Code

FEW = 20

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
HELLO = encode(m.Hello(m.PROTOCOL_VERSION, "client", "mallory", b"mallory", "by hand"))


def frame(body: bytes, more: bool = False) -> bytes:
    """As on the wire (rfc.zeromq.org/spec/23), up to 255 bytes."""
    return bytes([more, len(body)]) + body


def dial(hub: Hub, from_address: str = "127.0.0.1") -> sockets.socket:
    to = ("127.0.0.1", int(hub.url.rpartition(":")[2]))
    connection = sockets.create_connection(to, source_address=(from_address, 0))
    connection.settimeout(20.0)
    return connection


def is_open(connection: sockets.socket) -> bool:
    """Whether it is still held at the other side, as far as has been heard."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
        return False
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def watch_of(hub: Hub) -> Watch:
    watch = hub.broker._watch
    assert watch is not None
    return watch


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has more than one address at home")
def test_half_open_connections_are_limited_in_number_and_another_machine_comes_in(tmp_path: Path) -> None:
    """Their handshakes would take a minute to time out; it is their number that ends them."""
    with keyed_bus(tmp_path, handshake_timeout=60.0, limits=Limits(max_half_open=FEW)) as (hub, keyring):
        key = keyring.new("alice", "client")
        until_known(hub, key)
        with show(hub, key) as early:
            early.hello("client")
            half_open = [dial(hub, from_address="127.0.0.2") for _ in range(5 * FEW)]
            wait_until(lambda: sum(map(is_open, half_open)) == FEW)
            assert hub.counters["cut.half-open"] == 4 * FEW
            with show(hub, key) as late:
                assert late.hello("client", instance=b"late").name == "alice.2"
            early.say(BROKER, m.Ping(5.0))
            assert early.next(m.Pong).sent == 5.0, "a peer's connection is none of them, however old"
            assert hub.counters["cut.half-open"] <= 4 * FEW + 1
        for each in half_open:
            each.close()
        hub.until(lambda: not watch_of(hub).connections.opened)


def test_who_says_nothing_after_the_handshake_is_cut_when_its_time_is_up() -> None:
    with Hub(handshake_timeout=0.5, heartbeat=0.2) as hub, dial(hub) as silent, Peer(hub.url) as peer:
        peer.hello("client", "peer")
        silent.sendall(GREETING + READY)
        wait_until(lambda: not is_open(silent))
        assert hub.counters["cut.half-open"] == 1
        peer.say(BROKER, m.Ping(5.0))
        assert peer.next(m.Pong).sent == 5.0


def test_connections_that_ended_the_handshake_and_say_no_hello_are_limited_too(tmp_path: Path) -> None:
    with Hub(limits=Limits(max_half_open=FEW), heartbeat=0.2) as hub, Peer(hub.url) as peer:
        peer.hello("client", "early")
        strangers = [Peer(hub.url) for _ in range(2 * FEW)]
        for each in strangers:
            each.socket.set(zmq.RECONNECT_IVL, -1)
            each.say(BROKER, m.Ping(1.0))
        hub.until(lambda: hub.broker.core.state.counters["cut.half-open"] >= FEW)
        peer.say(BROKER, m.Ping(5.0))
        assert peer.next(m.Pong).sent == 5.0
        for each in strangers:
            each.close()


def test_a_whole_plant_that_comes_at_once_gets_in(tmp_path: Path) -> None:
    with Hub(limits=Limits(max_half_open=FEW), heartbeat=30.0) as hub:
        peers = [Peer(hub.url) for _ in range(2 * FEW)]
        for number, each in enumerate(peers):
            each.say(BROKER, m.Hello(m.PROTOCOL_VERSION, "client", f"peer-{number}", b"%d" % number, "a plain peer"))
        for number, each in enumerate(peers):
            while not each.socket.poll(100):  # cut before it spoke: what it said is lost, and it came again
                each.say(BROKER, m.Hello(m.PROTOCOL_VERSION, "client", f"peer-{number}", b"%d" % number, "again"))
            assert each.next(m.Welcome).name == f"peer-{number}"
        for each in peers:
            each.close()


@pytest.fixture
def endless() -> Iterator[Hub]:
    with Hub(max_message=1_000_000, heartbeat=0.4) as hub:
        yield hub


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a connection has received")
def test_a_message_without_end_costs_the_connection(endless: Hub) -> None:
    """By hand: ZeroMQ's own sockets send nothing before the last frame is there."""
    with dial(endless) as mallory, Peer(endless.url) as peer:
        peer.hello("client", "peer")
        mallory.sendall(GREETING + READY)
        heard = b""
        while b"READY" not in heard:
            heard += mallory.recv(4096)
        mallory.sendall(frame(BROKER, more=True) + frame(HELLO))
        endless.until(lambda: b"mallory" in endless.broker.core.state.by_name)
        answered, sent = 0, 0
        try:
            while not endless.counters.get("cut.endless"):
                mallory.sendall(frame(b"x" * 200, more=True) * 100)
                sent += 1
                peer.say(BROKER, m.Ping(float(answered)))
                assert peer.next(m.Pong).sent == float(answered)
                answered += 1
        except ConnectionError:
            endless.until(lambda: endless.broker.core.state.counters["cut.endless"] > 0)
        assert sent > 100, "it had sent more than two messages may have"
        endless.until(lambda: len(watch_of(endless).connections.opened) == 1)
        peer.say(BROKER, m.Ping(0.5))
        assert peer.next(m.Pong).sent == 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a connection has received")
def test_what_was_received_is_counted() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as server, sockets.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            sender.sendall(b"x" * 12_345)
            wait_until(lambda: bytes_received(receiver.fileno()) >= 12_345)
            assert bytes_received(receiver.fileno()) == 12_345
    with pytest.raises(OSError), Path(os.devnull).open() as nothing:
        bytes_received(nothing.fileno())


def accepted(server: sockets.socket, client: sockets.socket) -> str:
    """Where the server sees the client."""
    with client, server:
        connection, _ = server.accept()
        with connection:
            return address_of(connection.fileno())


def test_a_connections_address_is_that_of_its_machine() -> None:
    server = sockets.create_server(("127.0.0.1", 0))
    assert accepted(server, sockets.create_connection(server.getsockname())) == "127.0.0.1"
    ours, theirs = sockets.socketpair()
    with ours, theirs:
        assert address_of(ours.fileno()) == "", "a local one has none"
    assert address_of(1_000_000) == "", "nor one that has ended"


@pytest.mark.skipif(not sockets.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_of_ipv6_it_is_the_network() -> None:
    server = sockets.create_server(("", 0), family=sockets.AF_INET6, dualstack_ipv6=True)
    port = server.getsockname()[1]
    assert accepted(server.dup(), sockets.create_connection(("::1", port))) == "::/64"
    assert accepted(server, sockets.create_connection(("127.0.0.1", port))) == "127.0.0.1"


def test_a_revoked_peers_connection_is_ended(tmp_path: Path) -> None:
    with keyed_bus(tmp_path, heartbeat=30.0) as (hub, keyring):
        key, other = keyring.new("mallory", "client"), keyring.new("alice", "client")
        until_known(hub, key, other)
        with show(hub, key) as revoked, show(hub, other) as peer:
            revoked.say(BROKER, hello_of(key))
            revoked.next(m.Welcome)
            peer.say(BROKER, hello_of(other))
            peer.next(m.Welcome)
            assert len(watch_of(hub).connections.opened) == 2
            keyring.revoke("mallory")
            assert revoked.next(m.Rejected).code == Code.NOT_GREETED, "it is told why before"
            hub.until(lambda: hub.broker.core.state.counters["cut.revoked"] == 1)
            hub.until(lambda: len(watch_of(hub).connections.opened) == 1)
            peer.say(BROKER, m.Ping(5.0))
            assert peer.next(m.Pong).sent == 5.0


def test_a_descriptor_that_stands_for_something_else_by_now_is_left_alone(tmp_path: Path) -> None:
    """Its connection has ended, the broker has not read so yet, and the system has given its number to others."""
    with Hub() as hub:
        connection = dial(hub)
        hub.until(lambda: len(watch_of(hub).connections.opened) == 1)

        def cut_late() -> bool:
            watch = watch_of(hub)
            (number,) = watch.connections.opened
            hub.loop.remove_reader(int(watch._monitor.FD))  # type: ignore[union-attr]
            ours, theirs = sockets.socketpair()
            connection.close()
            wait_until(lambda: not _is_descriptor(number))
            os.dup2(ours.fileno(), number)
            watch.cut([number], "half-open")
            theirs.sendall(b"still open")
            heard = ours.recv(100)
            os.close(number)
            ours.close()
            theirs.close()
            return heard == b"still open" and not watch.connections.opened

        assert hub.call(cut_late)
        assert "cut.half-open" not in hub.counters


def _is_descriptor(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
