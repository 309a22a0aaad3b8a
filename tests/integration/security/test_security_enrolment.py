"""Joining where nobody takes keys: whoever tries is told, in time, what may be wrong."""

from __future__ import annotations

import socket as sockets
import threading
from collections.abc import Iterator

import pytest

from headway import enrolment
from headway_bus.codec import encode
from headway_bus.errors import NoBus
from headway_bus.keyring import Invitation
from headway_bus.keys import make_key
from headway_bus.messages import Message


@pytest.fixture
def rude() -> Iterator[tuple[str, threading.Event]]:
    """A listener that closes every connection at once, and an event that says that it has closed one."""
    closed = threading.Event()
    with sockets.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    server.accept()[0].close()
                    closed.set()
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}", closed
        server.shutdown(sockets.SHUT_RDWR)
        thread.join(10.0)


def test_a_connection_that_is_closed_before_anything_was_said_is_given_up_in_time(
    rude: tuple[str, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send would wait for a connection for ever, because none is made again."""
    url, closed = rude
    broker = make_key("broker", "client", "")

    def late(message: Message) -> bytes:
        assert closed.wait(10.0)
        return encode(message)

    monkeypatch.setattr(enrolment, "encode", late)
    with pytest.raises(NoBus, match="does it take keys"):
        enrolment.enrol(
            Invitation(url, broker.public, "token", "shop-17"), make_key("shop-17", "client", broker.public), 1.5
        )
