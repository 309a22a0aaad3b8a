"""A peer made of nothing but a socket and the wire's messages: it says whatever it is told to say."""

from __future__ import annotations

import os
import time
from typing import TypeVar

import zmq

from headway_bus import codec
from headway_bus.messages import Hello, Message, Register, Rejected, Welcome
from headway_bus.records import Held, RuntimeInfo

PATIENCE_MS = 20_000
Wanted = TypeVar("Wanted", bound=Message)


class Peer:
    """``with Peer(url, "runtime", "liar") as peer``. Blocking; every wait ends after 20 s with an error."""

    def __init__(self, url: str, role: str, name: str) -> None:
        self.role = role
        self.name = name
        self.instance = os.urandom(8)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(url)
        self._decoder = codec.for_runtime() if role in ("runtime", "edge") else codec.for_client()
        self.heard: list[Message] = []

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(0)
        self._context.term()

    def say(self, message: Message, target: bytes = b"controller") -> None:
        self._socket.send_multipart([target, codec.encode(message)])

    def hello(self, version: int = 1) -> Welcome | Rejected:
        """Say hello; the broker's answer."""
        self.say(Hello(version, self.role, self.name, self.instance), b"")
        return self.wait_for(Welcome, Rejected)  # type: ignore[return-value]

    def register(self, held: list[Held], slots: float = 0.0, assigned: int = 0) -> None:
        """As a runtime that holds these. Without slots it is given nothing. ``assigned``: the last batch that it took in."""
        self.say(Register(RuntimeInfo(self.name, slots=slots, edge=self.role == "edge"), self.instance, held, assigned))

    def wait_for(self, *kinds: type[Message]) -> Message:
        """The next message of one of these kinds; those before it are kept in ``heard``."""
        while True:
            message = self._next(PATIENCE_MS)
            assert message is not None, f"{self.name} waited for {kinds} and heard {self.heard[-5:]}"
            if isinstance(message, kinds):
                return message

    def listen(self, seconds: float) -> list[Message]:
        """Everything that comes within that time."""
        end = time.monotonic() + seconds
        found = []
        while (left := end - time.monotonic()) > 0:
            message = self._next(int(left * 1000) + 1)
            if message is not None:
                found.append(message)
        return found

    def _next(self, patience_ms: int) -> Message | None:
        if not self._socket.poll(patience_ms):
            return None
        _, header, *_ = self._socket.recv_multipart()
        message = self._decoder.decode(header)
        self.heard.append(message)
        return message
