"""The door of a bus with keys: who gets through the handshake, and whose key each message came with.

ZeroMQ asks, at every CURVE handshake, whoever is bound to ``inproc://zeromq.zap.01`` in the socket's context (ZAP,
rfc.zeromq.org/spec/27). A key that is on the list gets through; while an invitation is open so does any other, and all
that it may say is ``enrol``. Nobody else is answered at all.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import zmq
from zmq.utils import z85

from headway_broker.limits import allowance
from headway_bus.codec import MAX_HEADER_BYTES, Decoder, for_broker, name_of
from headway_bus.endpoint import Endpoint
from headway_bus.errors import ConfigError, HeadwayError
from headway_bus.keyring import Authorized, Invited, Keyring, usable
from headway_bus.keys import Key
from headway_bus.logs import get_logger
from headway_bus.messages import PROTOCOL_VERSION, Enrol, Enrolled, Message, Rejected
from headway_bus.records import Code

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
ZAP_FRAMES = 9
"""Route, delimiter, version, request, domain, address, identity, mechanism, public key."""

DOMAIN = b"headway"
UNKNOWN_PER_SECOND = 100
"""Messages of unknown keys that are answered: enrolments, and the words of peers that were just revoked."""

POLL = 0.5
"""Seconds between looks at the files: a peer that is revoked is cut off within a second."""

log = get_logger("headway.broker")


class Door:
    """Knows who may come, and keeps it up to date with the files."""

    def __init__(self, keyring: Keyring, counters: Counter[str]) -> None:
        self.keyring = keyring
        self.key: Key = keyring.broker_key()
        self.authorized: dict[str, Authorized] = {}
        self._peers = keyring.peers()
        self._invitations: list[Invited] = []
        self._counters = counters
        self._decoder: Decoder = for_broker()
        self._stamp: object = None
        self._endpoint: Endpoint | None = None
        self._unknown = allowance(UNKNOWN_PER_SECOND, 0, time.monotonic())
        self.look()

    def start(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Answer ZeroMQ's questions in this context; to be called before anything is bound in it."""
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        socket.set(zmq.LINGER, 0)
        socket.bind(ZAP_ADDRESS)
        self._endpoint = Endpoint(socket, self._on_questions, head=ZAP_FRAMES)

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None

    def prepare(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket that will be bound ask at this door."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self.key.secret.encode())
        socket.set(zmq.ZAP_DOMAIN, DOMAIN)

    def look(self) -> bool:
        """Read the files again if they have changed, and the clock; whether others may come than before.

        A file that cannot be read leaves the list as it was: to shut everybody out for a slip of the pen would lose work.
        """
        try:
            stamp = self.keyring.stamp()
            if stamp != self._stamp:
                self._peers = self.keyring.peers()
                self._invitations = self.keyring.invitations(time.time())
                self._stamp = stamp
        except ConfigError as error:
            self._counters["keys.unreadable"] += 1
            self._stamp = stamp  # say it once
            log.error("the list of peers is wrong; the earlier one holds", reason=str(error))
        found = usable(self._peers, time.time())
        changed = found != self.authorized
        self.authorized = found
        return changed

    def on_unknown(self, public: str, target: bytes, header: bytes, now: float) -> Message | None:
        """A message of somebody whose key is not on the list; the answer, if there is one. ``now``: monotonic."""
        if self._unknown.take(0, now):
            self._counters["unknown-keys.unanswered"] += 1
            return None
        if not self._has_invitations() or target or len(header) > MAX_HEADER_BYTES or name_of(header) != "enrol":
            self._counters["rejected.unknown-key"] += 1
            return Rejected(Code.FORBIDDEN, "the broker does not know this key: it was revoked, or has expired")
        try:
            message = self._decoder.decode(header)
            assert isinstance(message, Enrol)
            if message.version != PROTOCOL_VERSION:
                return Rejected(Code.VERSION, f"speaks version {message.version}, the broker {PROTOCOL_VERSION}")
            peer = self.keyring.redeem(message.token, public, message.name, time.time())
        except HeadwayError as error:
            self._counters["rejected.enrolment"] += 1
            log.warning("an enrolment was refused", reason=str(error))
            return Rejected(Code.FORBIDDEN, str(error))
        self._counters["peers.enrolled"] += 1
        log.info("enrolled", name=peer.name, role=peer.role)
        return Enrolled(peer.name, peer.role)

    def _has_invitations(self) -> bool:
        now = time.time()
        return any(each.expires > now for each in self._invitations)

    def _on_questions(self, questions: list[list[Any]]) -> None:
        for frames in questions:
            if self._endpoint is None or len(frames) < 4:
                continue
            public = self._admit(frames)
            self._counters["handshakes.accepted" if public else "handshakes.refused"] += 1
            code, text = (b"200", b"OK") if public else (b"400", b"unknown key")
            self._endpoint.send([frames[0], b"", ZAP_VERSION, frames[3], code, text, public.encode(), b""])

    def _admit(self, frames: list[bytes]) -> str:
        """The key's text if it may come in; else empty."""
        if len(frames) != ZAP_FRAMES or frames[2] != ZAP_VERSION or frames[7] != b"CURVE" or len(frames[8]) != 32:
            return ""
        public = str(z85.encode(frames[8]).decode())
        return public if public in self.authorized or self._has_invitations() else ""
