"""A bus with keys on this machine, and peers that show them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from plain_peers import Hub, Peer
from zmq.utils.monitor import recv_monitor_message

from headway_bus import messages as m
from headway_bus.codec import for_controller, for_runtime
from headway_bus.keyring import Keyring
from headway_bus.keys import Key, prepare_with
from headway_bus.link import BROKER

URL = "tcp://127.0.0.1:0"
DECODERS = {"runtime": for_runtime, "edge": for_runtime, "controller": for_controller}


@contextmanager
def keyed_bus(folder: Path, **settings: Any) -> Iterator[tuple[Hub, Keyring]]:
    """A broker with keys, and its folder; with a controller if ``state`` is given."""
    keyring = Keyring(folder / "keys")
    if not keyring.exists:
        keyring.init()
    with Hub(URL, keyring=keyring, **settings) as hub:
        yield hub, keyring


def show(hub: Hub, key: Key) -> Peer:
    """A connection with that key, which has said nothing yet."""
    decoder = DECODERS[key.role]() if key.role in DECODERS else None
    return Peer(hub.url, decoder, prepare=prepare_with(key))


def hello_of(key: Key, name: str = "") -> m.Hello:
    role = key.role if key.role in DECODERS else "client"
    return m.Hello(m.PROTOCOL_VERSION, role, name, key.public[:8].encode(), "a plain peer")


def until_known(hub: Hub, *peers: Key) -> None:
    """Wait until the broker has read the list with these on it."""
    door = hub.broker._door
    assert door is not None
    hub.until(lambda: all(each.public in door.authorized for each in peers))


def handshake(url: str, key: Key | None, seconds: float = 10.0) -> str:
    """How a connection ends that shows this key (None: no CURVE at all): the name of ZeroMQ's event."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RECONNECT_IVL, -1)
        prepare = prepare_with(key)
        if prepare is not None:
            prepare(socket)
        monitor = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_DISCONNECTED
        )
        try:
            socket.connect(url)
            deadline = time.monotonic() + seconds
            while monitor.poll(max(1, round((deadline - time.monotonic()) * 1000))):
                event = recv_monitor_message(monitor)["event"]
                return str(zmq.Event(event).name)
            return "nothing"
        finally:
            socket.disable_monitor()
            monitor.close(0)


def enrol(hub: Hub, key: Key, token: str, name: str) -> m.Message:
    """What the broker says to an enrolment by this key."""
    with show(hub, key) as peer:
        peer.say(BROKER, m.Enrol(m.PROTOCOL_VERSION, token, name))
        return peer.hear()[1]
