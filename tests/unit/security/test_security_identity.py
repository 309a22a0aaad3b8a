"""Who somebody is comes from the key: names, roles, revocation, and rates, against the broker's pure core."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from headway_broker.core import Broker, Deliver
from headway_broker.limits import Limits, allowance
from headway_broker.permissions import ASK_BROKER, ROLES, TO_BROKER
from headway_bus import messages as m
from headway_bus.codec import encode
from headway_bus.keyring import Authorized
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.records import Code

PEERS = {
    "K-alice": Authorized("K-alice", "alice", "client"),
    "K-audit": Authorized("K-audit", "audit", "read"),
    "K-root": Authorized("K-root", "root", "admin"),
    "K-gpu": Authorized("K-gpu", "gpu", "runtime"),
    "K-edge": Authorized("K-edge", "edge", "edge"),
    "K-control": Authorized("K-control", "controller", "controller"),
    "K-alice.2": Authorized("K-alice.2", "alice.2", "client"),
}


class Hub:
    """A broker with keys."""

    def __init__(self, limits: Limits = Limits(), peers: Mapping[str, Authorized] = PEERS) -> None:  # noqa: B008
        self.now = 10.0
        self.broker = Broker(b"broker", self.now, limits=limits)
        self.broker.on_authorized(peers, self.now)

    def say(self, route: bytes, key: str, target: bytes, message: m.Message, *payload: bytes) -> list[Deliver]:
        out = self.broker.on_message([route, target, encode(message), *payload], self.now, key)
        self.broker.state.validate()
        return out

    def hello(self, key: str, role: str, name: str = "", route: bytes = b"", instance: bytes = b"") -> m.Message:
        route = route or f"\0{key}".encode()
        hello = m.Hello(m.PROTOCOL_VERSION, role, name, instance or route)
        answers = [each.header for each in self.say(route, key, BROKER, hello) if each.route == route]
        assert isinstance(answers[0], m.Message)
        return answers[0]


def refused(answer: m.Message, code: Code = Code.FORBIDDEN) -> str:
    assert isinstance(answer, m.Rejected) and answer.code == code, answer
    return answer.text


@pytest.mark.parametrize("name", ["", "gpu"])
def test_name_and_role_are_the_keys(name: str) -> None:
    hub = Hub()
    welcome = hub.hello("K-gpu", "runtime", name)
    assert isinstance(welcome, m.Welcome) and welcome.name == "gpu"
    assert hub.broker.state.by_name[b"gpu"].role == "runtime"


def test_a_key_that_is_not_known_is_nobodys() -> None:
    assert "does not know this key" in refused(Hub().hello("K-mallory", "client"))
    assert "does not know this key" in refused(Hub().hello("", "client"))


@pytest.mark.parametrize("key", sorted(PEERS))
@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_is_not_chosen(key: str, role: str) -> None:
    own = PEERS[key].role
    answer = Hub().hello(key, role)
    if role == own or (role == "client" and own in ("read", "admin")):
        assert isinstance(answer, m.Welcome)
    else:
        assert f"of the role {own}" in refused(answer)


@pytest.mark.parametrize("name", ["gpu", "bob", "alice.x", "alice.", "alice2", "controller"])
def test_a_name_is_not_chosen(name: str) -> None:
    assert "this key is that of 'alice'" in refused(Hub().hello("K-alice", "client", name))


def test_no_runtime_speaks_as_another() -> None:
    hub = Hub()
    hub.hello("K-gpu", "runtime")
    assert "this key is that of 'edge'" in refused(hub.hello("K-edge", "edge", "gpu"))
    stolen = hub.say(b"\0K-gpu", "K-edge", CONTROLLER, m.RuntimeLeaving("gone"))
    assert "this connection's key" in refused(stolen[0].header)  # type: ignore[arg-type]
    assert [each.route for each in stolen] == [b"\0K-gpu"]


def test_two_runtimes_do_not_share_a_key() -> None:
    hub = Hub()
    hub.hello("K-gpu", "runtime", route=b"\x00one")
    assert "taken" in refused(hub.hello("K-gpu", "runtime", route=b"\x00two"), Code.NAME_TAKEN)


def test_a_client_may_have_several_terminals() -> None:
    hub = Hub(Limits(per_key=3))
    names = []
    for number in range(3):
        welcome = hub.hello("K-alice", "client", route=f"\0{number}".encode())
        assert isinstance(welcome, m.Welcome)
        names.append(welcome.name)
    assert names == ["alice", "alice.3", "alice.4"]  # alice.2 is the name of somebody else's key
    assert "3 connections" in refused(hub.hello("K-alice", "client", route=b"\x00more"), Code.LIMIT)
    back = hub.hello("K-alice", "client", "alice.3", route=b"\0new", instance=b"\x001")
    assert isinstance(back, m.Welcome) and back.name == "alice.3"


def test_the_same_instance_with_another_key_resumes_nothing() -> None:
    hub = Hub()
    hub.hello("K-alice", "client", route=b"\0a", instance=b"known")
    welcome = hub.hello("K-alice.2", "client", route=b"\0b", instance=b"known")
    assert isinstance(welcome, m.Welcome) and welcome.name == "alice.2"


def test_the_controller_in_this_process_is_replaced_by_nobody() -> None:
    hub = Hub()
    hub.broker.on_local_peer(CONTROLLER, "controller", b"\xffcontroller", b"known", hub.now)
    refused(hub.hello("K-control", "controller", instance=b"known"), Code.NAME_TAKEN)


def test_nor_without_keys() -> None:
    broker = Broker(b"broker", 0.0)
    broker.on_local_peer(CONTROLLER, "controller", b"\xffcontroller", b"known", 0.0)
    hello = m.Hello(m.PROTOCOL_VERSION, "controller", "controller", b"known")
    out = broker.on_message([b"\0x", BROKER, encode(hello)], 0.0)
    assert broker.state.controller is not None and broker.state.controller.route == b"\xffcontroller"
    assert isinstance(out[-1].header, m.Rejected)


# ------------------------------------------------------------------------------------------------------ revocation


def test_a_revoked_peer_is_cut_off_and_the_controller_is_told() -> None:
    hub = Hub()
    hub.broker.on_local_peer(CONTROLLER, "controller", b"\xffcontroller", b"c", hub.now)
    hub.hello("K-gpu", "runtime")
    hub.hello("K-alice", "client")
    hub.say(b"\0K-alice", "K-alice", BROKER, m.Subscribe(["tasks"]))
    out = hub.broker.on_authorized({"K-gpu": PEERS["K-gpu"]}, hub.now)
    headers = {each.route: [e.header for e in out if e.route == each.route] for each in out}
    assert [type(each) for each in headers[b"\0K-alice"]] == [m.Rejected]
    assert m.PeerChanged("alice", "client", b"\0K-alice", "revoked") in headers[b"\xffcontroller"]
    assert m.TopicsChanged([], ["\0tasks"]) in headers[b"\xffcontroller"]
    assert set(hub.broker.state.by_name) == {b"controller", b"gpu"}
    assert hub.broker.state.counters["peers.revoked"] == 1
    refused(hub.hello("K-alice", "client"))


@pytest.mark.parametrize("changed", [Authorized("K-gpu", "gpu", "edge"), Authorized("K-gpu", "other", "runtime")])
def test_a_key_that_means_another_now_is_cut_off(changed: Authorized) -> None:
    hub = Hub()
    hub.hello("K-gpu", "runtime")
    hub.broker.on_authorized({"K-gpu": changed}, hub.now)
    assert b"gpu" not in hub.broker.state.by_name


def test_who_is_still_on_the_list_notices_nothing() -> None:
    hub = Hub()
    hub.hello("K-gpu", "runtime")
    hub.hello("K-alice", "client", route=b"\0one")
    hub.hello("K-alice", "client", route=b"\0two")
    assert hub.broker.on_authorized(dict(PEERS), hub.now) == []


# ------------------------------------------------------------------------------------------------------ the broker's own


@pytest.mark.parametrize("key", sorted(PEERS))
@pytest.mark.parametrize("name", sorted(ASK_BROKER))
def test_what_each_role_may_ask_of_the_broker(key: str, name: str) -> None:
    examples = {
        "hello": m.Hello(m.PROTOCOL_VERSION, PEERS[key].role, "", b"i"),
        "ping": m.Ping(1.0),
        "bye": m.Bye(),
        "subscribe": m.Subscribe(["logs.x"]),
        "unsubscribe": m.Unsubscribe(["logs.x"]),
        "ask_broker": m.AskBroker(1),
        "enrol": m.Enrol(m.PROTOCOL_VERSION, "token", "x"),
    }
    hub = Hub()
    hub.hello(key, PEERS[key].role)
    before = hub.broker.state.counters[f"rejected.{Code.FORBIDDEN}"]
    hub.say(f"\0{key}".encode(), key, BROKER, examples[name])
    forbidden = hub.broker.state.counters[f"rejected.{Code.FORBIDDEN}"] - before
    assert forbidden == (name not in TO_BROKER[PEERS[key].role])


def test_no_runtime_follows_anybodys_logs() -> None:
    hub = Hub()
    hub.hello("K-gpu", "runtime")
    out = hub.say(b"\0K-gpu", "K-gpu", BROKER, m.Subscribe(["logs.0123"]))
    refused(out[0].header)  # type: ignore[arg-type]
    assert not hub.broker.state.topics


# ------------------------------------------------------------------------------------------------------ limits


def test_a_flood_of_messages_is_refused_told_once_and_counted() -> None:
    hub = Hub(Limits(messages_per_second=100))
    hub.hello("K-alice", "client")
    out = [each for _ in range(1000) for each in hub.say(b"\0K-alice", "K-alice", BROKER, m.Ping(1.0))]
    pongs = [each for each in out if isinstance(each.header, m.Pong)]
    told = [each.header for each in out if isinstance(each.header, m.Rejected)]
    assert len(pongs) == 200 and len(told) == 1
    assert "broker.messages_per_second" in refused(told[0], Code.OVERLOADED)
    assert hub.broker.state.counters["refused.messages-per-second"] == 800
    hub.now += 0.5
    out = [each for _ in range(1000) for each in hub.say(b"\0K-alice", "K-alice", BROKER, m.Ping(1.0))]
    assert len([each for each in out if isinstance(each.header, m.Pong)]) == 50


def test_a_flood_of_bytes_is_refused_and_another_peer_is_not() -> None:
    hub = Hub(Limits(bytes_per_second=100_000_000))
    hub.broker.on_local_peer(CONTROLLER, "controller", b"\xffcontroller", b"c", hub.now)
    for key in ("K-alice", "K-root"):
        hub.hello(key, "client")
    message, body = m.AskTask(7, "x"), bytes(1_000_000)
    out = [each for _ in range(300) for each in hub.say(b"\0K-alice", "K-alice", CONTROLLER, message, body)]
    assert 195 <= len([each for each in out if each.route == b"\xffcontroller"]) <= 200
    assert hub.broker.state.counters["refused.bytes-per-second"] >= 100
    assert hub.say(b"\0K-root", "K-root", CONTROLLER, message, body)[0].route == b"\xffcontroller"


def test_the_largest_message_passes_whatever_the_rate() -> None:
    assert allowance(0, 1, 0.0, 64_000_000).take(64_000_000, 0.0) == ""


def test_no_rate_is_no_limit() -> None:
    free = allowance(0, 0, 0.0)
    assert not any(free.take(10**9, 0.0) for _ in range(10_000))


def test_strangers_beyond_a_rate_are_not_answered() -> None:
    hub = Hub(Limits(strangers_per_second=10))
    out = [each for _ in range(100) for each in hub.say(b"\0x", "K-alice", CONTROLLER, m.AskTask(1, "x"))]
    assert len(out) == 20
    assert hub.broker.state.counters["strangers.unanswered"] == 80


def test_topics_are_counted() -> None:
    hub = Hub(Limits(max_topics=3))
    hub.hello("K-alice", "client")
    out = hub.say(b"\0K-alice", "K-alice", BROKER, m.Subscribe([f"t{number}" for number in range(5)]))
    assert "broker.max_topics" in refused(out[-1].header, Code.LIMIT)  # type: ignore[arg-type]
    assert len(hub.broker.state.topics) == 3
