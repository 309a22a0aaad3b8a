"""The hub's decisions: hellos, names, routing, topics, silence, and input that no correct peer sends."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import pytest

from headway_broker.core import Broker, Deliver
from headway_bus import messages as m
from headway_bus.codec import MAX_HEADER_BYTES, encode
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.records import Code, Kind, Options

Answer = TypeVar("Answer")
HELLO_VERSION = m.PROTOCOL_VERSION


class Hub:
    """A broker and the deliveries of the last event."""

    def __init__(self, **settings: int) -> None:
        self.now = 100.0
        self.broker = Broker(b"broker-1", self.now, **settings)
        self.out: list[Deliver] = []
        self._routes = 0

    def raw(self, *frames: bytes) -> list[Deliver]:
        self.out = self.broker.on_message(list(frames), self.now)
        self.broker.state.validate()
        return self.out

    def say(self, route: bytes, target: bytes, message: m.Message, *payload: bytes) -> list[Deliver]:
        return self.raw(route, target, encode(message), *payload)

    def hello(
        self, role: str, name: str = "", instance: bytes = b"one", route: bytes = b"", version: int = HELLO_VERSION
    ) -> bytes:
        """Say hello on a new connection; its route."""
        self._routes += 1
        route = route or b"\0route%d" % self._routes
        self.say(route, BROKER, m.Hello(version, role, name, instance))
        return route

    def join(self, role: str, name: str = "", instance: bytes = b"one") -> bytes:
        """The same, and it was welcome."""
        route = self.hello(role, name, instance)
        assert isinstance(self.to(route)[0], m.Welcome)
        return route

    def to(self, route: bytes) -> list[m.Message]:
        """What the broker itself said to that route."""
        return [each.header for each in self.out if each.route == route and isinstance(each.header, m.Message)]

    def only(self, route: bytes, kind: type[Answer]) -> Answer:
        (message,) = self.to(route)
        assert isinstance(message, kind)
        return message

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.out = self.broker.on_tick(self.now)
        self.broker.state.validate()

    @property
    def counters(self) -> dict[str, int]:
        return self.broker.state.counters


@pytest.fixture
def hub() -> Hub:
    return Hub()


def submit(request: int = 7) -> m.Submit:
    return m.Submit(request, [m.Group(Options(Kind.CALL, "a:f"), [])])


class TestHello:
    def test_a_welcome_says_all_that_the_peer_must_know(self, hub: Hub) -> None:
        route = hub.hello("client", "me")
        assert hub.only(route, m.Welcome) == m.Welcome(HELLO_VERSION, "me", b"broker-1", 2.0, 1 << 26, b"")

    def test_one_without_a_name_is_given_one_of_its_own(self, hub: Hub) -> None:
        names = {hub.only(hub.hello("client"), m.Welcome).name for _ in range(5)}
        assert len(names) == 5 and all(name.startswith("client-") for name in names)

    @pytest.mark.parametrize(("version", "who"), [(HELLO_VERSION + 1, "upgrade the broker"), (0, "upgrade this peer")])
    def test_another_version_is_refused_with_whom_to_upgrade(self, hub: Hub, version: int, who: str) -> None:
        rejected = hub.only(hub.hello("client", version=version), m.Rejected)
        assert rejected.code == Code.VERSION
        assert who in rejected.text
        assert hub.counters["rejected.version"] == 1

    @pytest.mark.parametrize("role", ["", "king", "CLIENT", "x" * 1_000_000])
    def test_an_unknown_role_is_refused_with_those_there_are(self, hub: Hub, role: str) -> None:
        rejected = hub.only(hub.hello(role), m.Rejected)
        assert rejected.code == Code.MALFORMED
        assert "admin, client, controller, edge" in rejected.text and len(rejected.text) < 300

    @pytest.mark.parametrize("name", ["a b", "-a", "a/b", "ä", "a\n", "a" * 65, "*logs", "\0", "controller"])
    def test_a_name_that_cannot_be_one_is_refused(self, hub: Hub, name: str) -> None:
        assert hub.only(hub.hello("client", name), m.Rejected).code == Code.MALFORMED
        assert not hub.broker.state.by_name

    def test_a_controller_of_another_name_is_refused(self, hub: Hub) -> None:
        assert hub.only(hub.hello("controller", "boss"), m.Rejected).code == Code.MALFORMED

    def test_a_second_hello_on_a_connection_is_refused_and_changes_nothing(self, hub: Hub) -> None:
        route = hub.join("client", "me")
        hub.hello("runtime", "other", route=route)
        rejected = hub.only(route, m.Rejected)
        assert rejected.code == Code.STATE and "'me'" in rejected.text
        assert set(hub.broker.state.by_name) == {b"me"}

    def test_a_taken_name_is_refused_and_its_holder_is_asked_whether_it_lives(self, hub: Hub) -> None:
        holder = hub.join("client", "me", b"one")
        newcomer = hub.hello("client", "me", b"two")
        assert hub.only(newcomer, m.Rejected).code == Code.NAME_TAKEN
        assert hub.only(holder, m.Pong) == m.Pong(0.0)
        assert hub.broker.state.by_name[b"me"].route == holder

    def test_the_name_of_a_dead_one_is_free_at_the_second_attempt(self, hub: Hub) -> None:
        holder = hub.join("client", "me", b"one")
        hub.hello("client", "me", b"two")
        hub.broker.on_unreachable(holder, hub.now)  # the question finds nobody
        assert hub.only(hub.hello("client", "me", b"two"), m.Welcome).name == "me"

    def test_the_same_process_on_a_new_connection_takes_its_own_place(self, hub: Hub) -> None:
        controller = hub.join("controller", "controller")
        old = hub.join("client", "me")
        hub.say(old, BROKER, m.Subscribe(["tasks"]))
        new = hub.hello("client", "me")
        assert isinstance(hub.to(new)[0], m.Welcome)
        assert hub.to(controller)[-1] == m.PeerChanged("me", "client", b"one", "up")
        assert hub.counters["peers.resumed"] == 1
        hub.say(controller, b"*tasks", m.Event("tasks", "changed"))
        assert [each.route for each in hub.out] == [new], "what it followed it follows still"
        assert hub.say(old, CONTROLLER, submit()) and hub.only(old, m.Rejected).code == Code.NOT_GREETED

    def test_the_same_process_in_another_role_is_another(self, hub: Hub) -> None:
        hub.join("client", "me")
        assert hub.only(hub.hello("runtime", "me"), m.Rejected).code == Code.NAME_TAKEN

    def test_beyond_the_limit_of_peers_it_is_refused_with_the_setting(self) -> None:
        hub = Hub(max_peers=2)
        hub.join("client", "a")
        hub.join("client", "b")
        rejected = hub.only(hub.hello("client", "c"), m.Rejected)
        assert rejected.code == Code.LIMIT and "broker.max_peers" in rejected.text
        hub.join("client", "a")  # on a new connection: it is one of them


class TestStrangers:
    @pytest.mark.parametrize("target", [BROKER, CONTROLLER, b"me", b"*tasks"])
    def test_before_the_hello_nothing_else_is_heard(self, hub: Hub, target: bytes) -> None:
        hub.join("controller", "controller")
        hub.say(b"\0stranger", target, submit(9))
        rejected = hub.only(b"\0stranger", m.Rejected)
        assert (rejected.code, rejected.request) == (Code.NOT_GREETED, 9)

    def test_a_hello_that_cannot_be_read_is_refused(self, hub: Hub) -> None:
        hub.raw(b"\0stranger", BROKER, msgspec.msgpack.encode(["hello", "one", 2]))
        assert hub.only(b"\0stranger", m.Rejected).code == Code.MALFORMED

    def test_a_hello_to_somebody_else_is_refused(self, hub: Hub) -> None:
        hub.say(b"\0stranger", CONTROLLER, m.Hello(HELLO_VERSION, "client", "x", b"y"))
        assert hub.only(b"\0stranger", m.Rejected).code == Code.NOT_GREETED


class TestRouting:
    def test_header_and_payload_pass_as_they_are(self, hub: Hub) -> None:
        controller, client = hub.join("controller", "controller"), hub.join("client", "me")
        header, payload = encode(submit()), memoryview(b"x" * 1000)
        hub.raw(client, CONTROLLER, header, payload)
        (delivery,) = hub.out
        assert delivery == Deliver(controller, b"me", header, [payload])
        assert delivery.frames[0] is payload
        hub.say(controller, b"me", m.Accepted(7, 1))
        assert [(each.route, each.source) for each in hub.out] == [(client, CONTROLLER)]

    def test_without_a_controller_it_says_so(self, hub: Hub) -> None:
        client = hub.join("client", "me")
        hub.say(client, CONTROLLER, submit())
        answer = hub.only(client, m.Undeliverable)
        assert (answer.target, answer.kind, answer.code) == ("controller", "submit", Code.NO_CONTROLLER)
        assert hub.counters["undeliverable.no-controller"] == 1

    def test_to_nobody_it_says_so(self, hub: Hub) -> None:
        controller = hub.join("controller", "controller")
        hub.say(controller, b"nobody", m.Accepted(7, 1))
        assert hub.only(controller, m.Undeliverable).code == Code.UNKNOWN_TARGET

    def test_to_one_that_takes_nothing_the_sender_is_told(self, hub: Hub) -> None:
        controller, client = hub.join("controller", "controller"), hub.join("client", "me")
        (delivery,) = hub.say(controller, b"me", m.Accepted(7, 1))
        hub.out = hub.broker.on_full(delivery, hub.now)
        answer = hub.only(controller, m.Undeliverable)
        assert (answer.target, answer.kind, answer.code) == ("me", "accepted", Code.OVERLOADED)
        assert hub.counters["refused.full"] == 1
        assert client in hub.broker.state.by_route

    def test_the_brokers_own_word_to_one_that_takes_nothing_is_only_counted(self, hub: Hub) -> None:
        client = hub.join("client", "me")
        assert hub.broker.on_full(Deliver(client, BROKER, m.Pong(1.0)), hub.now) == []
        assert hub.counters["refused.full"] == 1

    def test_one_that_took_nothing_when_the_controller_came_is_told_again_when_it_speaks(self, hub: Hub) -> None:
        client = hub.join("client", "me")
        hub.join("controller", "controller")
        (told,) = [each for each in hub.out if isinstance(each.header, m.ControllerChanged)]
        hub.broker.on_full(told, hub.now)
        for controllers in ([told.header], []):
            answers = [each.header for each in hub.say(client, b"", m.Ping(1.0))]
            assert answers == [m.Pong(1.0), *controllers]

    def test_it_is_told_before_what_it_says_to_the_controller_is_passed_on(self, hub: Hub) -> None:
        runtime = hub.join("runtime", "r")
        controller = hub.join("controller", "controller")
        (told,) = [each for each in hub.out if isinstance(each.header, m.ControllerChanged)]
        hub.broker.on_full(told, hub.now)
        first, second = hub.say(runtime, CONTROLLER, m.Heartbeat(1.0, 0, 0, 0))
        assert (first.route, first.header, second.route) == (runtime, told.header, controller)
        assert len(hub.say(runtime, CONTROLLER, m.Heartbeat(1.0, 0, 0, 0))) == 1

    def test_one_that_cannot_be_reached_is_gone_and_the_controller_knows(self, hub: Hub) -> None:
        controller, client = hub.join("controller", "controller"), hub.join("client", "me")
        hub.out = hub.broker.on_unreachable(client, hub.now)
        assert hub.only(controller, m.PeerChanged).state == "gone"
        assert hub.broker.on_unreachable(client, hub.now) == []
        assert hub.counters["unreachable"] == 2


class TestWhatNoCorrectPeerSends:
    @pytest.mark.parametrize("frames", [(), (b"",), (b"controller",), (b"x" * 100,)])
    def test_too_few_frames(self, hub: Hub, frames: tuple[bytes, ...]) -> None:
        client = hub.join("client", "me")
        hub.raw(client, *frames)
        assert hub.only(client, m.Rejected).code == Code.MALFORMED
        assert hub.counters["rejected.malformed"] == 1

    @pytest.mark.parametrize("header", [b"", b"\x00", b"\xc1", b"\xff" * 100, b"\x91" * 10_000, b"\x92\xa4ping\xa1x"])
    def test_a_header_for_the_broker_that_it_cannot_read(self, hub: Hub, header: bytes) -> None:
        client = hub.join("client", "me")
        hub.raw(client, BROKER, header)
        rejected = hub.only(client, m.Rejected)
        assert rejected.code == Code.UNKNOWN_MESSAGE and rejected.text
        assert client in hub.broker.state.by_route

    @pytest.mark.parametrize("header", [b"", b"\x00", b"\xff" * 100, b"\x91" * 10_000, b"\x91\xa7unknown"])
    def test_a_header_for_another_without_a_name_that_may_be_said(self, hub: Hub, header: bytes) -> None:
        hub.join("controller", "controller")
        client = hub.join("client", "me")
        hub.raw(client, CONTROLLER, header)
        assert hub.only(client, m.Rejected).code == Code.FORBIDDEN

    def test_a_header_of_ten_megabytes(self, hub: Hub) -> None:
        controller, client = hub.join("controller", "controller"), hub.join("client", "me")
        header = encode(m.Control(7, "test", {"x": "y" * 10_000_000}))
        for target in (CONTROLLER, BROKER):
            hub.raw(client, target, header)
            rejected = hub.only(client, m.Rejected)
            assert (rejected.code, rejected.request) == (Code.TOO_LARGE, 7)
            assert str(MAX_HEADER_BYTES) in rejected.text
        assert hub.counters["rejected.too-large"] == 2
        assert not hub.to(controller)

    def test_a_message_of_too_many_bytes(self) -> None:
        hub = Hub(max_message=1000)
        hub.join("controller", "controller")
        client = hub.join("client", "me")
        hub.say(client, CONTROLLER, submit(7), b"x" * 600, b"x" * 401)
        rejected = hub.only(client, m.Rejected)
        assert (rejected.code, rejected.request) == (Code.TOO_LARGE, 7)
        assert "bus.max_message" in rejected.text
        assert hub.say(client, CONTROLLER, submit(7), b"x" * 600, b"x" * 200)[0].source == b"me"

    def test_a_message_of_another_direction(self, hub: Hub) -> None:
        client = hub.join("client", "me")
        hub.say(client, BROKER, m.Welcome(1, "x", b"", 1.0, 1))
        assert hub.only(client, m.Rejected).code == Code.UNKNOWN_MESSAGE

    def test_a_target_that_is_no_text(self, hub: Hub) -> None:
        controller = hub.join("controller", "controller")
        hub.say(controller, b"\xff\xfe", m.Accepted(1, 1))
        assert hub.only(controller, m.Undeliverable).code == Code.UNKNOWN_TARGET
        hub.say(controller, b"*\xff\xfe", m.Event("x", "y"))
        assert hub.out == []


class TestTopics:
    def test_a_copy_goes_to_every_follower_and_to_nobody_else(self, hub: Hub) -> None:
        controller = hub.join("controller", "controller")
        routes = [hub.join("client", name) for name in "abc"]
        for route in routes[:2]:
            hub.say(route, BROKER, m.Subscribe(["tasks"]))
        hub.say(controller, b"*tasks", m.Event("tasks", "changed"), b"payload")
        assert {each.route for each in hub.out} == set(routes[:2])
        assert all(each.frames == [b"payload"] for each in hub.out)
        assert hub.counters["published"] == 2

    def test_the_controller_learns_of_first_and_last_followers_only(self, hub: Hub) -> None:
        controller, first, second = hub.join("controller", "controller"), hub.join("client"), hub.join("client")
        hub.say(first, BROKER, m.Subscribe(["a", "b"]))
        assert hub.only(controller, m.TopicsChanged) == m.TopicsChanged(["a", "b"], [])
        hub.say(second, BROKER, m.Subscribe(["a"]))
        assert hub.out == []
        hub.say(first, BROKER, m.Unsubscribe(["a", "b", "never"]))
        assert hub.only(controller, m.TopicsChanged) == m.TopicsChanged([], ["b"])
        hub.say(second, BROKER, m.Bye())
        assert hub.to(controller)[-1] == m.TopicsChanged([], ["a"])

    def test_following_twice_is_following_once(self, hub: Hub) -> None:
        controller, client = hub.join("controller", "controller"), hub.join("client")
        hub.say(client, BROKER, m.Subscribe(["a", "a"]))
        hub.say(client, BROKER, m.Subscribe(["a"]))
        hub.say(controller, b"*a", m.Event("a", "x"))
        assert len(hub.out) == 1

    def test_topics_beyond_count_or_length_are_refused_and_those_before_stay(self, hub: Hub) -> None:
        controller, client = hub.join("controller", "controller"), hub.join("client")
        hub.say(client, BROKER, m.Subscribe([str(n) for n in range(100_000)]))
        assert hub.only(client, m.Rejected).code == Code.LIMIT
        added = hub.only(controller, m.TopicsChanged).added
        assert added == [str(n) for n in range(len(added))] and 0 < len(added) < 100_000
        assert hub.broker.state.by_route[client].topics == set(added)
        other = hub.join("client")
        hub.say(other, BROKER, m.Subscribe(["x" * 201]))
        assert hub.only(other, m.Rejected).code == Code.LIMIT

    @pytest.mark.parametrize("role", ["runtime", "edge"])
    def test_only_those_who_may_follow_do(self, hub: Hub, role: str) -> None:
        route = hub.join(role)
        hub.say(route, BROKER, m.Subscribe(["tasks"]))
        assert hub.only(route, m.Rejected).code == Code.FORBIDDEN

    @pytest.mark.parametrize("role", ["client", "admin", "runtime", "edge"])
    def test_only_the_controller_publishes(self, hub: Hub, role: str) -> None:
        route = hub.join(role)
        hub.say(route, b"*tasks", m.Event("tasks", "changed"))
        assert hub.only(route, m.Rejected).code == Code.FORBIDDEN


class TestComingAndGoing:
    def test_a_controller_learns_who_is_there_and_everybody_learns_of_it(self, hub: Hub) -> None:
        client, runtime = hub.join("client", "me"), hub.join("runtime", "r")
        hub.say(client, BROKER, m.Subscribe(["tasks"]))
        controller = hub.hello("controller", "controller", b"first")
        welcome, peers, topics = hub.to(controller)
        assert isinstance(welcome, m.Welcome) and isinstance(peers, m.Peers)
        assert {(peer.name, peer.role) for peer in peers.peers} == {("me", "client"), ("r", "runtime")}
        assert topics == m.TopicsChanged(["tasks"], [])
        assert (
            hub.only(client, m.ControllerChanged)
            == hub.only(runtime, m.ControllerChanged)
            == m.ControllerChanged(b"first")
        )

    def test_a_controller_that_goes_is_told_to_all(self, hub: Hub) -> None:
        client, controller = hub.join("client"), hub.join("controller", "controller")
        hub.say(controller, BROKER, m.Bye())
        assert hub.only(client, m.ControllerChanged).controller == b""
        hub.say(client, CONTROLLER, submit())
        assert hub.only(client, m.Undeliverable).code == Code.NO_CONTROLLER

    def test_another_controller_waits_until_the_first_is_gone(self, hub: Hub) -> None:
        client, first = hub.join("client"), hub.join("controller", "controller", b"first")
        second = hub.hello("controller", "controller", b"second")
        assert hub.only(second, m.Rejected).code == Code.NAME_TAKEN
        hub.broker.on_unreachable(first, hub.now)
        second = hub.hello("controller", "controller", b"second")
        assert hub.only(client, m.ControllerChanged).controller == b"second"
        hub.say(client, CONTROLLER, submit())
        assert hub.out[0].route == second
        hub.say(first, b"client", m.Accepted(1, 1))
        assert hub.only(first, m.Rejected).code == Code.NOT_GREETED, "the first has no say any more"

    def test_a_bye_is_told_as_one(self, hub: Hub) -> None:
        controller, runtime = hub.join("controller", "controller"), hub.join("runtime", "r")
        hub.say(runtime, BROKER, m.Bye("done"))
        assert hub.only(controller, m.PeerChanged) == m.PeerChanged("r", "runtime", b"one", "bye")

    def test_silence_is_told_after_three_heartbeats(self, hub: Hub) -> None:
        controller, runtime = hub.join("controller", "controller"), hub.join("runtime", "r")
        for _ in range(3):
            hub.tick(1.9)
            hub.say(controller, BROKER, m.Ping(1.0))
        assert runtime in hub.broker.state.by_route
        hub.tick(0.4)
        assert hub.only(controller, m.PeerChanged).state == "gone"
        assert hub.counters["peers.silent"] == 1
        hub.say(runtime, BROKER, m.Ping(1.0))
        assert hub.only(runtime, m.Rejected).code == Code.NOT_GREETED

    def test_whatever_is_said_is_a_sign_of_life(self, hub: Hub) -> None:
        hub.join("controller", "controller")
        client = hub.join("client", "me")
        for _ in range(20):
            hub.tick(1.0)
            hub.say(client, CONTROLLER, submit())
        assert client in hub.broker.state.by_route

    def test_silence_while_the_broker_itself_stood_still_says_nothing(self, hub: Hub) -> None:
        client = hub.join("client", "me")
        hub.now += 3600.0
        hub.broker.on_stood_still(hub.now)
        hub.tick(0.0)
        assert client in hub.broker.state.by_route

    def test_a_peer_in_this_process_is_never_silent(self, hub: Hub) -> None:
        hub.out = hub.broker.on_local_peer(b"controller", "controller", b"\xffcontroller", b"local", hub.now)
        assert isinstance(hub.to(b"\xffcontroller")[0], m.Welcome)
        hub.tick(3600.0)
        assert hub.broker.state.controller is not None
        client = hub.join("client", "me")
        hub.say(client, CONTROLLER, submit())
        assert hub.out[0].route == b"\xffcontroller"


def test_a_ping_is_answered_with_its_own_time(hub: Hub) -> None:
    client = hub.join("client", "me")
    hub.say(client, BROKER, m.Ping(12.5))
    assert hub.only(client, m.Pong).sent == 12.5


def test_it_says_what_it_knows_of_itself(hub: Hub) -> None:
    client = hub.join("client", "me")
    hub.now += 3.0
    hub.say(client, BROKER, m.AskBroker(5))
    state = hub.only(client, m.BrokerState)
    assert (state.request, state.started) == (5, 3.0)
    assert [(peer["name"], peer["role"], peer["connected"]) for peer in state.peers] == [("me", "client", 3.0)]
    assert state.counters["peers.welcomed"] == 1
