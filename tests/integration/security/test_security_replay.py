"""Bytes that were recorded on the way and are sent once more: whoever can listen must not be able to speak."""

from __future__ import annotations

import socket as sockets
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from plain_peers import Hub, Peer
from security_bus import keyed_bus, until_known

from headway_bus.keys import Key, prepare_with

PATIENCE = 30.0
GREETING = 64
"""Bytes with which both sides of ZMTP begin."""

ANSWER = 0.5
"""Seconds for which an answer to a piece is awaited; some have none."""


def place_of(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("tcp://").partition(":")
    return host, int(port)


class Recorder:
    """Stands between one peer and the hub, and keeps what the peer sends, in the pieces in which it came."""

    def __init__(self, hub_url: str) -> None:
        self.heard: list[bytes] = []
        self._hub = place_of(hub_url)
        self._listener = sockets.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._relay)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(PATIENCE)
        self._listener.close()

    def _relay(self) -> None:
        peer, _ = self._listener.accept()
        with peer, sockets.create_connection(self._hub) as hub:
            back = threading.Thread(target=self._pass_on, args=(hub, peer))
            back.start()
            while data := peer.recv(65536):
                self.heard.append(data)
                hub.sendall(data)
            hub.shutdown(sockets.SHUT_RDWR)
            back.join(PATIENCE)

    @staticmethod
    def _pass_on(source: sockets.socket, target: sockets.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            return  # the peer has gone


def greetings(hub: Hub) -> int:
    return sum(hub.counters.get(each, 0) for each in ("peers.welcomed", "peers.resumed"))


def replayed(hub: Hub, key: Key | None) -> int:
    """How many peers the broker has greeted after a peer's bytes came a second time, the peer being gone."""
    with Recorder(hub.url) as recorder:
        with Peer(recorder.url, prepare=prepare_with(key)) as peer:
            peer.hello("client")
        recorder._thread.join(PATIENCE)
    before = greetings(hub)
    stream = b"".join(recorder.heard)
    with sockets.create_connection(place_of(hub.url), timeout=PATIENCE) as again:
        again.sendall(stream[:GREETING])
        heard = 0
        while heard < GREETING:
            heard += len(again.recv(GREETING - heard)) or GREETING
        with suppress(ConnectionError):
            for piece in after_greeting(recorder.heard):  # one by one: a handshake is a conversation
                again.settimeout(ANSWER)
                again.sendall(piece)
                with suppress(TimeoutError):
                    again.recv(65536)
            if key is None:
                hub.until(lambda: greetings(hub) > before)
            again.settimeout(PATIENCE)
            while key is not None and again.recv(65536):
                pass  # until the broker ends the connection
    return greetings(hub) - before


def after_greeting(pieces: list[bytes]) -> list[bytes]:
    left, found = GREETING, []
    for piece in pieces:
        found.append(piece[left:])
        left = max(0, left - len(piece))
    return [piece for piece in found if piece]


def test_what_was_recorded_on_a_bus_with_keys_opens_nothing(tmp_path: Path) -> None:
    with keyed_bus(tmp_path) as (hub, keyring):
        key = keyring.new("alice", "client")
        until_known(hub, key)
        assert replayed(hub, key) == 0


def test_without_keys_the_same_bytes_are_a_peer(tmp_path: Path) -> None:
    """So the first test would see it if the replayed bytes were believed."""
    with Hub("tcp://127.0.0.1:0") as hub:
        assert replayed(hub, None) == 1
