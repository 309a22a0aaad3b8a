"""What is given the bytes, and what each may do with them: return, or raise the one error that is meant for it."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway_broker.core import Broker
from headway_broker.limits import Limits
from headway_broker.permissions import ASK_CONTROLLER, TELL_CONTROLLER
from headway_bus import payloads, session
from headway_bus.codec import encode, for_broker, for_client, for_controller, for_runtime, name_of, request_of
from headway_bus.errors import ConfigError, PayloadError, ProtocolError
from headway_bus.keyring import Authorized, Invitation, _line_of, _parse_peer
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.messages import PROTOCOL_VERSION, Hello, Message, Register, tag_of
from headway_bus.records import RuntimeInfo
from headway_controller.core import Controller
from headway_controller.effects import Write
from headway_controller.placement import Scheduler
from headway_controller.usage import Quotas

ROOT = Path(__file__).resolve().parents[3]
Target = Callable[[bytes, random.Random], bool]
"""Takes an input; whether it was taken for something correct."""

DECODERS = [for_client(), for_runtime(), for_controller(), for_broker()]


def header_seeds() -> list[bytes]:
    """Every message of the protocol, as docs/protocol.md shows it."""
    path = ROOT / "docs" / "protocol_examples.py"
    spec = importlib.util.spec_from_file_location("fuzz_protocol_examples", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return [encode(message) for message in module.MESSAGES]


def payload_seeds() -> list[bytes]:
    """Values of every form, alone and within one another."""
    import datetime
    import decimal
    import uuid

    values: list[Any] = [
        None, True, -1, 2**70, 1.5, "text", b"bytes", [1, [2, [3]]], {"a": {"b": {1: 2}}}, (1, (2, (3,))), {1, 2}, frozenset({3}),
        datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), datetime.date(2026, 1, 2), datetime.time(1, 2),
        datetime.timedelta(1, 2, 3), decimal.Decimal("1.25"), uuid.UUID(int=7), complex(1, 2), Path("a/b"), range(1, 9, 2),
    ]  # fmt: skip
    found = []
    for value in values:
        try:
            found.append(payloads.encode(value))
        except PayloadError:
            continue  # not every one of them has a form
    found.append(payloads.encode(values[:12]))
    found.append(bytes(payloads.encode_call((1, "a", [2]), {"k": {"n": (1, 2)}}, {})))
    return found


def read_header(data: bytes, rng: random.Random) -> bool:
    """The codec: a message, or a ProtocolError."""
    assert isinstance(name_of(data), str)
    assert request_of(data) >= 0
    try:
        return isinstance(rng.choice(DECODERS).decode(data), Message)
    except ProtocolError:
        return False


def read_payload(data: bytes, rng: random.Random) -> bool:
    """The values: a value, or a PayloadError."""
    try:
        if rng.random() < 0.5:
            payloads.decode(data)
        else:
            payloads.decode_call(data)
    except PayloadError:
        return False
    return True


class SessionTarget:
    """A peer's session hears whatever can be decoded, in any order, and its state stays one of the four."""

    def __init__(self) -> None:
        self.now = 0.0
        self.session = session.Session("client", "", b"instance")

    def __call__(self, data: bytes, rng: random.Random) -> bool:
        self.now += rng.random()
        self.session.on_tick(self.now)
        if rng.random() < 0.01 or self.session.state == "over":
            self.session = session.Session("client", "", b"instance")
        try:
            message = DECODERS[0].decode(data)
        except ProtocolError:
            return False
        self.session.on_heard(self.now)
        self.session.on_message(message, self.now)
        assert self.session.state in ("waiting", "greeting", "up", "over")
        return True


class BrokerTarget:
    """A broker with peers of each role: whoever says whatever, its tables agree and nobody but a receiver hears of it."""

    ROLES = ("client", "runtime", "controller", "edge", "read")
    CHECK_EVERY = 500

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        self.broker = Broker(b"broker-1", 0.0, max_peers=50, limits=Limits(max_topics=100))
        self.routes = [f"\0{role}".encode() for role in self.ROLES]
        for role, route in zip(self.ROLES, self.routes, strict=True):
            self._greet(role, route)

    def _greet(self, role: str, route: bytes) -> None:
        name = "controller" if role == "controller" else f"{role}-1"
        hello = encode(Hello(PROTOCOL_VERSION, role, name, b"instance"))
        self.broker.on_message([route, BROKER, hello], self.now)

    def __call__(self, data: bytes, rng: random.Random) -> bool:
        self.now += 0.001
        self.count += 1
        target = rng.choice([BROKER, BROKER, CONTROLLER, b"client-1", b"runtime-1", b"*logs.x", data[:20]])
        frames = [rng.choice([*self.routes, b"\0new"]), target, data, *[data[:64]] * rng.randrange(3)]
        out = self.broker.on_message(frames[: rng.choice([1, 2, 3, 4, 5, 5, 5, 5])], self.now)
        assert all(isinstance(each.header, bytes | Message) for each in out)
        if self.count % self.CHECK_EVERY == 0:
            self.broker.state.validate()
            for role, route in zip(self.ROLES, self.routes, strict=True):
                if route not in self.broker.state.by_route:
                    self._greet(role, route)
        return bool(out)


class ControllerTarget:
    """A controller's core hears whatever can be decoded from whoever may say it, stores it, and its tables agree."""

    CHECK_EVERY = 200

    def __init__(self) -> None:
        self.now = 1000.0
        self.count = 0
        self._begin()

    def _begin(self) -> None:
        self.core = Controller(b"instance", Scheduler(), wall_offset=1e9, quotas=Quotas(max_tasks=1000))
        self.core.on_message("box-1", Register(RuntimeInfo("box-1", 4.0), b"instance", []), [], self.now)

    def __call__(self, data: bytes, rng: random.Random) -> bool:
        self.count += 1
        try:
            message = DECODERS[2].decode(data)
        except ProtocolError:
            return False
        name = tag_of(type(message).__name__)
        source = "box-1" if name in TELL_CONTROLLER else "client-1" if name in ASK_CONTROLLER else ""
        self.now += rng.random()
        self.core.on_message(source, message, [data[:100]] * rng.randrange(3), self.now)
        self.core.on_time(self.now)
        effects = self.core.finish(self.now)
        while effects:
            for effect in effects:
                if isinstance(effect, Write):
                    self.core.on_stored(effect.ticket, None, [], self.now)
            effects = self.core.finish(self.now)
        if self.count % self.CHECK_EVERY == 0:
            self.core.validate()
        if self.count % 20_000 == 0:
            self._begin()
        return True


def read_list(data: bytes, rng: random.Random) -> bool:
    """A line of authorized_peers, and an invitation: understood, or a ConfigError."""
    text = data.decode("utf-8", "replace")
    try:
        return _parse_peer(text, "line 1") is not None if rng.random() < 0.5 else bool(Invitation.read(text).url)
    except ConfigError:
        return False


def list_seeds() -> list[bytes]:
    key = "a" * 40
    lines = [
        _line_of(Authorized(key, "alice", "client", 1_900_000_000.0, "laptop")),
        _line_of(Authorized(key, "b", "read")),
    ]
    return [*(line.encode() for line in lines), Invitation("tcp://h:1", key, "token", "n").text.encode()]


def targets() -> dict[str, tuple[list[bytes], Target]]:
    """Seeds and target, by name; each with a state of its own."""
    headers = header_seeds()
    return {
        "codec": (headers, read_header),
        "payload": (payload_seeds(), read_payload),
        "session": (headers, SessionTarget()),
        "broker": (headers, BrokerTarget()),
        "controller": (headers, ControllerTarget()),
        "keys": (list_seeds(), read_list),
    }
