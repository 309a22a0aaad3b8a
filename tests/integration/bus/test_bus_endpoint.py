"""A raw socket on the loop: nothing is lost, nothing is out of order, nothing blocks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
from pathlib import Path
from typing import Any

import pytest
import zmq
from bus_bench import run

from headway_bus import endpoint as endpoints
from headway_bus.endpoint import Endpoint
from headway_bus.errors import BusError


class Ends:
    """A ROUTER and a DEALER, both on the loop."""

    def __init__(self, folder: Path, *, high_water: int = 1000, reading: bool = True) -> None:
        url = f"ipc://{folder}/socket"
        self.at_router: list[list[Any]] = []
        self.at_dealer: list[list[Any]] = []
        self.changed = asyncio.Event()
        context = zmq.Context.instance()
        router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        dealer: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        for socket in (router, dealer):
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.SNDHWM, high_water)
            socket.set(zmq.RCVHWM, high_water)
        router.set(zmq.ROUTER_MANDATORY, 1)
        router.bind(url)
        dealer.connect(url)
        self._socket = router
        self.router = Endpoint(router, self._take(self.at_router), head=2) if reading else None
        self.dealer = Endpoint(dealer, self._take(self.at_dealer), head=1)

    def read(self) -> None:
        """Begin to read at the router."""
        self.router = Endpoint(self._socket, self._take(self.at_router), head=2)

    def _take(self, place: list[list[Any]]) -> Any:
        def take(messages: list[list[Any]]) -> None:
            place.extend(messages)
            self.changed.set()

        return take

    async def until(self, place: list[list[Any]], count: int) -> None:
        while len(place) < count:
            self.changed.clear()
            await self.changed.wait()

    def close(self) -> None:
        self.dealer.close()
        if self.router is not None:
            self.router.close()
        else:
            self._socket.close(0)


def test_bursts_of_a_thousand_arrive_whole_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        ends = Ends(tmp_path)
        for burst in range(5):
            for number in range(1000):
                ends.dealer.send_or_keep([b"%d" % (burst * 1000 + number)])
            await ends.until(ends.at_router, (burst + 1) * 1000)
        assert [int(frames[1]) for frames in ends.at_router] == list(range(5000))
        route = ends.at_router[0][0]
        assert ends.router is not None
        for number in range(900):  # below the high-water mark: a router's sends are never kept
            ends.router.send([route, b"%d" % number])
        await ends.until(ends.at_dealer, 900)
        assert [int(frames[0]) for frames in ends.at_dealer] == list(range(900))
        ends.close()

    run(main())


def test_a_message_of_a_thousand_frames_arrives_as_one(tmp_path: Path) -> None:
    async def main() -> None:
        ends = Ends(tmp_path)
        frames = [b"%d" % number for number in range(1000)]
        ends.dealer.send_or_keep(frames)
        await ends.until(ends.at_router, 1)
        assert [bytes(frame) for frame in ends.at_router[0][1:]] == frames
        ends.close()

    run(main())


def test_large_frames_arrive_as_they_were_though_they_are_lent_and_not_copied(tmp_path: Path) -> None:
    async def main() -> None:
        ends = Ends(tmp_path)
        digests = []
        for size in (endpoints.ZERO_COPY_BYTES - 1, endpoints.ZERO_COPY_BYTES, 3_000_000):
            for _ in range(3):
                content = os.urandom(size)
                digests.append(hashlib.sha256(content).digest())
                ends.dealer.send_or_keep([b"head", content, memoryview(content)[1:]])
                del content  # only ZeroMQ has it now
        await ends.until(ends.at_router, 9)
        for frames, digest in zip(ends.at_router, digests, strict=True):
            _, head, whole, rest = frames
            assert (bytes(head), hashlib.sha256(whole).digest()) == (b"head", digest)
            assert bytes(whole)[1:] == bytes(rest)
        ends.close()

    run(main())


def test_what_a_slow_receiver_does_not_take_waits_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        ends = Ends(tmp_path, high_water=10, reading=False)
        body = b"x" * 100_000  # so that the system's own buffers are full soon
        for number in range(500):
            ends.dealer.send_or_keep([b"%d" % number, body])
        assert ends.dealer._backlog, "some of it must have to wait"
        ends.read()
        await ends.until(ends.at_router, 500)
        assert [int(frames[1]) for frames in ends.at_router] == list(range(500))
        assert ends.dealer._backlog_bytes == 0
        ends.close()

    run(main())


def test_the_word_that_a_receiver_takes_more_is_never_missed(tmp_path: Path) -> None:
    """The receiver reads in a thread of its own, so that it makes room at any moment of the sender's look."""
    count = 3_000

    def read(socket: zmq.Socket[bytes], numbers: list[int]) -> None:
        while len(numbers) < count:
            numbers.append(int(socket.recv_multipart()[1]))

    async def main() -> None:
        ends = Ends(tmp_path, high_water=1, reading=False)
        ends._socket.set(zmq.RCVTIMEO, 15_000)
        for number in range(count):
            ends.dealer.send_or_keep([b"%d" % number, b"x" * 10_000])
        assert ends.dealer._backlog
        numbers: list[int] = []
        await asyncio.get_running_loop().run_in_executor(None, read, ends._socket, numbers)
        assert numbers == list(range(count))
        ends.close()

    run(main())


def test_a_backlog_beyond_all_reason_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "BACKLOG_BYTES", 1_000_000)

    async def main() -> None:
        ends = Ends(tmp_path, high_water=10, reading=False)
        with pytest.raises(BusError, match="the limit is 1000000"):
            for _ in range(1_000):
                ends.dealer.send_or_keep([b"x" * 100_000])
        ends.close()

    run(main())


def test_a_router_says_when_nobody_is_there_and_when_somebody_takes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        ends = Ends(tmp_path, high_water=5)
        assert ends.router is not None
        with pytest.raises(zmq.ZMQError) as raised:
            ends.router.send([b"nobody", b"x"])
        assert raised.value.errno == zmq.EHOSTUNREACH
        ends.dealer.send_or_keep([b"here I am"])
        await ends.until(ends.at_router, 1)
        route = ends.at_router[0][0]
        with pytest.raises(zmq.Again):  # the dealer cannot read while this loop does not turn
            for _ in range(10_000):
                ends.router.send([route, b"x" * 10_000])
        ends.close()

    run(main())


def test_a_send_that_fails_loses_nothing_that_has_come(tmp_path: Path) -> None:
    """It swallows the word that there is something to read, as every send may."""

    async def main() -> None:
        ends = Ends(tmp_path)
        assert ends.router is not None
        ends.dealer.send_or_keep([b"first"])
        await ends.until(ends.at_router, 1)
        for count in range(2, 6):
            ends.dealer.send_or_keep([b"next"])
            select.select([int(ends._socket.FD)], [], [])
            with pytest.raises(zmq.ZMQError):
                ends.router.send([b"nobody", b"x"])
            await ends.until(ends.at_router, count)
        ends.close()

    run(main())


def test_after_closing_nothing_is_handed_over_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    async def main() -> None:
        ends = Ends(tmp_path)
        ends.dealer.send_or_keep([b"first"])
        await ends.until(ends.at_router, 1)
        ends.dealer.send_or_keep([b"second"])
        ends.close()
        ends.close()
        await asyncio.sleep(0)
        assert len(ends.at_router) == 1

    run(main())


def test_a_flood_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    """However much lies in the socket, a wake-up takes a bounded share of it."""

    async def main() -> None:
        ends = Ends(tmp_path, high_water=100_000, reading=False)
        for number in range(5 * endpoints.DRAIN_BUDGET):
            ends.dealer.send_or_keep([b"%d" % number])
        batches: list[int] = []
        turns = 0
        router = Endpoint(ends._socket, lambda messages: batches.append(len(messages)), head=2)
        while sum(batches) < 5 * endpoints.DRAIN_BUDGET:
            turns += 1
            await asyncio.sleep(0)
        assert max(batches) <= endpoints.DRAIN_BUDGET
        assert turns > 1
        router.close()
        ends.dealer.close()

    run(main())
