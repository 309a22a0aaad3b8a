"""Garbage from one socket, while others work: whoever sends it is told why not, it is counted, and nobody else notices."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from plain_peers import Hub, Peer, wait_until

from headway_bus import messages as m
from headway_bus.codec import encode, for_controller
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.records import Code

DEEP = b"\x94\xa7control\x01\xa4test\x81\xa1x" + b"\x91" * 10_000 + b"\xc0"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(f"ipc://{tmp_path}/bus") as hub:
        yield hub


class Worker:
    """A client and a controller that talk all the time, in a thread of their own: somebody who must notice nothing."""

    def __init__(self, url: str) -> None:
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.exchanged = 0
        self._client = Peer(url)
        self._controller = Peer(url, for_controller())
        self._client.hello("client", "worker")
        self._controller.hello("controller", "controller")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                number, body = self.exchanged + 1, random.randbytes(random.randrange(100_000))
                self._client.say(CONTROLLER, m.AskTask(number, "x"), body)
                while (asked := self._controller.socket.recv_multipart())[0] != b"worker":
                    pass  # others may speak to the controller too, if they said hello
                assert asked == [b"worker", encode(m.AskTask(number, "x")), body]
                self._controller.say(b"worker", m.Accepted(number, 1), body[::-1])
                while (answer := self._client.hear())[0] == BROKER:
                    assert isinstance(answer[1], m.ControllerChanged | m.Pong), answer
                assert answer == (CONTROLLER, m.Accepted(number, 1), [body[::-1]])
                self.exchanged = number
        except BaseException as failure:
            self._failure = failure

    def finish(self) -> None:
        """It still works, and nothing went wrong meanwhile."""
        before = self.exchanged
        wait_until(lambda: self.exchanged > before + 5 or self._failure is not None)
        self._stop.set()
        self._thread.join(20.0)
        self._client.close()
        self._controller.close()
        if self._failure is not None:
            raise self._failure


@pytest.fixture
def worker(hub: Hub) -> Iterator[Worker]:
    worker = Worker(hub.url)
    yield worker
    worker.finish()


OFFENCES: dict[str, tuple[tuple[bytes, ...], Code]] = {
    "no frames but an empty one": ((b"",), Code.MALFORMED),
    "a target alone": ((CONTROLLER,), Code.MALFORMED),
    "an empty header": ((CONTROLLER, b""), Code.FORBIDDEN),
    "an empty header for the broker": ((BROKER, b""), Code.UNKNOWN_MESSAGE),
    "noise": ((CONTROLLER, b"\xc1\xff\x00" * 50), Code.FORBIDDEN),
    "noise for the broker": ((BROKER, b"\xc1\xff\x00" * 50), Code.UNKNOWN_MESSAGE),
    "a message nobody knows": ((CONTROLLER, msgspec.msgpack.encode(["make_tea", 7])), Code.FORBIDDEN),
    "a message of another role": ((CONTROLLER, encode(m.RuntimeLeaving())), Code.FORBIDDEN),
    "a message of the broker's own": ((BROKER, encode(m.ControllerChanged(b"me"))), Code.UNKNOWN_MESSAGE),
    "a header of ten megabytes": ((CONTROLLER, encode(m.Control(7, "x", {"x": "y" * 10_000_000}))), Code.TOO_LARGE),
    "ten megabytes for the broker": ((BROKER, b"\x92\xa9subscribe" + b"\x91" * 10_000_000), Code.TOO_LARGE),
    "a depth of ten thousand": ((BROKER, b"\x92\xa9subscribe" + b"\x91" * 10_000), Code.UNKNOWN_MESSAGE),
    "publishing": ((b"*tasks", encode(m.Event("tasks", "lies"))), Code.FORBIDDEN),
    "a word to another client": ((b"worker", encode(m.Accepted(1, 1))), Code.FORBIDDEN),
    "a second hello": ((BROKER, encode(m.Hello(1, "admin", "boss", b"x"))), Code.STATE),
}


@pytest.mark.parametrize("name", OFFENCES)
def test_the_offender_is_told_why_and_it_is_counted(hub: Hub, worker: Worker, name: str) -> None:
    frames, code = OFFENCES[name]
    with Peer(hub.url) as offender:
        offender.hello("client", "offender")
        offender.raw(*frames)
        rejected = offender.next(m.Rejected)
        assert rejected.code == code and rejected.text
        assert hub.counters[f"rejected.{code}"] == 1
        offender.say(BROKER, m.Ping(5.0))
        assert offender.next(m.Pong).sent == 5.0, "and it may go on"


@pytest.mark.parametrize("name", OFFENCES)
def test_a_stranger_is_told_to_say_hello(hub: Hub, worker: Worker, name: str) -> None:
    frames, _ = OFFENCES[name]
    with Peer(hub.url) as stranger:
        stranger.raw(*frames)
        if name == "a second hello":
            assert stranger.next(m.Welcome).name == "boss"
            return
        assert stranger.next(m.Rejected).code in (Code.NOT_GREETED, Code.MALFORMED, Code.TOO_LARGE)


def test_a_depth_of_ten_thousand_for_the_controller_is_forwarded_and_refused_there(hub: Hub) -> None:
    with Peer(hub.url, for_controller()) as controller, Peer(hub.url) as offender:
        controller.hello("controller", "controller")
        offender.hello("client", "offender")
        offender.raw(CONTROLLER, DEEP)
        controller.next(m.Peers)
        controller.next(m.TopicsChanged)
        controller.next(m.PeerChanged)
        source, header = controller.socket.recv_multipart()
        assert (source, header) == (b"offender", DEEP), "the broker decodes nothing that is not for itself"


def test_a_frame_beyond_the_limit_costs_the_connection_and_nobody_elses(tmp_path: Path) -> None:
    with Hub(f"ipc://{tmp_path}/bus", max_message=1_000_000) as hub:
        worker = Worker(hub.url)
        with Peer(hub.url) as offender:
            offender.hello("client", "offender")
            offender.raw(CONTROLLER, encode(m.AskTask(7, "x")), b"x" * 600_000, b"x" * 600_000)
            rejected = offender.next(m.Rejected)
            assert (rejected.code, rejected.request) == (Code.TOO_LARGE, 7)
            # One frame that is too long is not even read: ZeroMQ ends the connection, and makes another one by itself.
            offender.raw(CONTROLLER, encode(m.AskTask(8, "x")), b"x" * 1_000_001)
            wait_until(
                lambda: (
                    offender.socket.send_multipart([BROKER, encode(m.Ping(1.0))]) is None
                    and offender.socket.poll(50) > 0
                )
            )
            assert offender.next(m.Rejected).code == Code.NOT_GREETED
            assert offender.hello("client", "offender").name == "offender"
        worker.finish()


def pinged(peer: Peer) -> bool:
    """Whether anything comes back: what was said on a connection that is being ended is lost."""
    peer.say(BROKER, m.Ping(1.0))
    return bool(peer.socket.poll(50))


def test_a_flood_of_noise_harms_nobody(hub: Hub, worker: Worker) -> None:
    noise = random.Random(7)
    good = encode(m.Hello(1, "client", "x", b"y")), encode(m.AskTask(7, "x")), encode(m.Subscribe(["tasks"]))
    offenders = [Peer(hub.url) for _ in range(3)]
    for _ in range(1_500):
        offender = noise.choice(offenders)
        header = bytearray(noise.choice(good) if noise.random() < 0.7 else noise.randbytes(noise.randrange(1, 40)))
        for _ in range(noise.randrange(3)):
            header[noise.randrange(len(header))] = noise.randrange(256)
        frames = [noise.choice([BROKER, CONTROLLER, b"worker", b"*tasks", noise.randbytes(5)]), bytes(header)]
        offender.raw(*frames[: noise.choice([1, 2, 2, 2])], *[b"x"] * noise.randrange(3))
    for offender in offenders:
        offender.say(BROKER, m.Hello(1, "client", "", b"z"))
        assert isinstance(offender.hear()[1], m.Welcome | m.Rejected)
        offender.close()
    assert hub.counters.get("messages.failed", 0) == 0


class TestChosenRoutingIds:
    def test_nobody_takes_the_place_of_a_peer_in_the_brokers_process(self, tmp_path: Path) -> None:
        with Hub(f"ipc://{tmp_path}/bus", state=tmp_path) as hub, Peer(hub.url) as victim:
            victim.hello("client", "victim")
            with Peer(hub.url, identity=b"\xffcontroller") as impostor:
                impostor.say(b"victim", m.Accepted(1, 1))
                rejected = impostor.next(m.Rejected)
                assert rejected.code == Code.FORBIDDEN and "routing id" in rejected.text
            victim.say(BROKER, m.Ping(5.0))
            source, message, _ = victim.hear()
            assert (source, message) == (BROKER, m.Pong(5.0)), "it heard nothing from the impostor"

    def test_nobody_takes_the_route_of_another_that_is_connected(self, hub: Hub) -> None:
        with Peer(hub.url, identity=b"mine") as first:
            first.hello("client", "first")
            second = Peer(hub.url, identity=b"mine")
            second.say(BROKER, m.Hello(1, "client", "second", b"other"))
            second.say(CONTROLLER, m.AskTask(1, "x"))
            first.say(BROKER, m.Ping(5.0))
            assert first.next(m.Pong).sent == 5.0
            assert second.socket.poll(0) == 0
            names = {peer["name"] for peer in first_state(first).peers}
            assert names == {"first"}
            second.close()


def first_state(peer: Peer) -> m.BrokerState:
    peer.say(BROKER, m.AskBroker(1))
    return peer.next(m.BrokerState)


def test_a_peer_that_reads_nothing_does_not_stop_the_others(tmp_path: Path) -> None:
    with (
        Hub(f"ipc://{tmp_path}/bus", high_water_mark=50, heartbeat=60.0) as hub,
        Peer(hub.url, for_controller()) as controller,
        Peer(hub.url) as deaf,
        Peer(hub.url) as other,
    ):
        controller.hello("controller", "controller")
        deaf.socket.set(zmq.RCVHWM, 1)
        deaf.hello("client", "deaf")
        other.hello("client", "other")
        for number in range(3_000):
            controller.say(b"deaf", m.Accepted(number, 1), b"x" * 10_000)
            if number % 300 == 0:
                controller.say(b"other", m.Accepted(number, 1))
                assert other.next(m.Accepted).request == number
        undeliverable = controller.next(m.Undeliverable)
        assert (undeliverable.target, undeliverable.kind, undeliverable.code) == ("deaf", "accepted", Code.OVERLOADED)
        told = [message for _, message, _ in controller.waiting if isinstance(message, m.Undeliverable)]
        hub.until(lambda: hub.broker.core.state.counters["refused.full"] > len(told))


def test_a_dead_holder_of_a_name_gives_way_to_the_next(hub: Hub) -> None:
    holder = Peer(hub.url)
    holder.hello("client", "me", b"one")
    with Peer(hub.url) as newcomer:
        newcomer.say(BROKER, m.Hello(1, "client", "me", b"two"))
        assert newcomer.next(m.Rejected).code == Code.NAME_TAKEN
        assert holder.next(m.Pong) == m.Pong(0.0)
        holder.close()  # without a goodbye

        def is_welcome() -> bool:
            newcomer.say(BROKER, m.Hello(1, "client", "me", b"two"))
            return isinstance(newcomer.hear()[1], m.Welcome)

        wait_until(is_welcome)


def test_a_silent_peer_is_gone_after_three_heartbeats(tmp_path: Path) -> None:
    with Hub(f"ipc://{tmp_path}/bus", heartbeat=0.1) as hub, Peer(hub.url) as silent:
        silent.hello("runtime", "silent")
        hub.until(lambda: not hub.broker.core.state.by_name)
        assert hub.counters["peers.silent"] == 1
        silent.say(BROKER, m.Ping(1.0))
        assert silent.next(m.Rejected).code == Code.NOT_GREETED
        assert silent.hello("runtime", "silent").name == "silent"


def test_it_says_what_it_counted(hub: Hub) -> None:
    with Peer(hub.url) as peer:
        peer.hello("client", "me")
        for _ in range(3):
            peer.raw(b"alone")
        state = first_state(peer)
        assert state.counters["rejected.malformed"] == 3
        assert [each["name"] for each in state.peers] == ["me"]
