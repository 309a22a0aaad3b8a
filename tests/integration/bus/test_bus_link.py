"""A connection that comes back by itself, against a real broker on a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import zmq
from bus_bench import Recorder, run, until

from headway_broker.service import BrokerService
from headway_bus import messages as m
from headway_bus.codec import encode, for_client, for_controller
from headway_bus.errors import BusError
from headway_bus.link import BROKER, CONTROLLER, Link
from headway_bus.records import Code

HEARTBEAT = 0.2


class Place:
    """An address with a broker that can be taken away and put there again."""

    def __init__(self, folder: Path) -> None:
        self.url = f"ipc://{folder}/bus"
        self.broker: BrokerService
        self.links: list[Link] = []

    def open(self, **settings: Any) -> BrokerService:
        self.broker = BrokerService(self.url, **{"heartbeat": HEARTBEAT, **settings})
        self.broker.start()
        return self.broker

    def link(self, recorder: Recorder, role: str = "client", name: str = "", **settings: Any) -> Link:
        decoder = for_controller() if role == "controller" else for_client()
        link = Link(self.url, role, decoder, recorder, name=name, heartbeat=HEARTBEAT, **settings)
        self.links.append(link)
        link.start()
        return link

    async def close(self) -> None:
        for link in self.links:
            await link.close()
        await self.broker.close()


def test_parts_find_one_another_in_any_order(tmp_path: Path) -> None:
    async def main() -> None:
        place, client, controller = Place(tmp_path), Recorder(), Recorder()
        first = place.link(client, name="me")
        await asyncio.sleep(0)
        place.open()
        assert await first.until_up(10.0)
        assert first.name == "me" and first.controller == b""
        second = place.link(controller, "controller", "controller", instance=b"ctl")
        assert await second.until_up(10.0)
        await client.until(lambda: ("controller", b"ctl") in client.events)
        assert first.send(CONTROLLER, m.AskTask(5, "x"), [b"payload"])
        await controller.until(lambda: any(isinstance(message, m.AskTask) for _, message, _ in controller.messages))
        source, message, frames = controller.messages[-1]
        assert (source, message, [bytes(frame) for frame in frames]) == (b"me", m.AskTask(5, "x"), [b"payload"])
        await place.close()

    run(main())


def test_it_comes_back_when_the_broker_does(tmp_path: Path) -> None:
    async def main() -> None:
        place, recorders = Place(tmp_path), [Recorder() for _ in range(5)]
        place.open()
        links = [place.link(recorder, name=f"peer-{number}") for number, recorder in enumerate(recorders)]
        for rounds in (1, 2, 3):
            for recorder in recorders:
                await recorder.until(lambda recorder=recorder, rounds=rounds: recorder.count("up") == rounds)
            await place.broker.close()
            for recorder in recorders:
                await recorder.until(lambda recorder=recorder, rounds=rounds: recorder.count("down") == rounds)
            assert not any(link.is_up or link.send(CONTROLLER, m.AskTask(1, "x")) for link in links)
            place.open()
        for recorder in recorders:
            await recorder.until(lambda recorder=recorder: recorder.count("up") == 4)
        assert sorted(link.name for link in links) == [f"peer-{number}" for number in range(5)]
        await place.close()

    run(main())


def test_one_that_the_broker_has_forgotten_is_known_again_on_the_same_connection(tmp_path: Path) -> None:
    async def main() -> None:
        place, recorder = Place(tmp_path), Recorder()
        broker = place.open()
        link = place.link(recorder, name="me")
        assert await link.until_up(10.0)
        (route,) = broker.core.state.by_route
        broker.core.on_unreachable(route, 0.0)
        await recorder.until(lambda: recorder.count("up") == 2)
        assert recorder.count("down") == 1
        assert list(broker.core.state.by_route) == [route]
        assert broker.core.state.counters["rejected.state"] == 0, "it said hello once"
        await place.close()

    run(main())


def test_a_taken_name_is_had_as_soon_as_its_holder_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        place, first, second = Place(tmp_path), Recorder(), Recorder()
        broker = place.open()
        holder = place.link(first, name="me")
        assert await holder.until_up(10.0)
        newcomer = place.link(second, name="me")
        await until(lambda: broker.core.state.counters["rejected.name-taken"] > 0)
        assert not newcomer.is_up
        await holder.close()
        assert await newcomer.until_up(10.0)
        assert newcomer.name == "me"
        await place.close()

    run(main())


def test_a_name_that_stays_taken_is_given_up_after_its_patience(tmp_path: Path) -> None:
    async def main() -> None:
        place, first, second = Place(tmp_path), Recorder(), Recorder()
        place.open()
        assert await place.link(first, name="me").until_up(10.0)
        newcomer = place.link(second, name="me")
        newcomer.session.name_patience = 0.1
        await second.until(lambda: second.count("over") == 1)
        assert second.last("over").code == Code.NAME_TAKEN
        assert not await newcomer.until_up(10.0), "at once: there is nothing to wait for"
        assert first.count("down") == 0 and place.links[0].round_trip < 10.0, "the holder notices nothing"
        await place.close()

    run(main())


def test_one_that_is_refused_for_good_does_not_ask_again(tmp_path: Path) -> None:
    async def main() -> None:
        place, recorder = Place(tmp_path), Recorder()
        broker = place.open()
        link = place.link(recorder, role="king")
        assert not await link.until_up(10.0)
        assert link.rejected is not None and "expected one of" in link.rejected.text
        assert broker.core.state.counters["rejected.malformed"] == 1
        await place.close()

    run(main())


def test_leaving_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        place, recorder = Place(tmp_path), Recorder()
        broker = place.open()
        link = place.link(recorder)
        assert await link.until_up(10.0)
        await link.close()
        await until(lambda: broker.core.state.counters["peers.bye"] > 0)
        assert not broker.core.state.by_name
        assert not link.send(CONTROLLER, m.AskTask(1, "x"))
        await place.close()

    run(main())


def test_whoever_waits_for_a_connection_learns_that_it_was_closed(tmp_path: Path) -> None:
    async def main() -> None:
        link = Link(f"ipc://{tmp_path}/nobody", "client", for_client(), Recorder())
        link.start()
        waiting = asyncio.create_task(link.until_up(60.0))
        await asyncio.sleep(0)
        await link.close()
        assert await waiting is False

    run(main())


@pytest.mark.parametrize("url", ["nonsense", "tcp://", "tcp://127.0.0.1", "ftp://127.0.0.1:1"])
def test_an_address_that_cannot_be_one_is_an_error_and_leaves_no_socket(url: str) -> None:
    async def main() -> None:
        link = Link(url, "client", for_client(), Recorder())
        with pytest.raises(BusError, match="expected something like tcp://"):
            link.start()

    run(main())


def test_everything_that_is_said_arrives_though_the_broker_is_slow(tmp_path: Path) -> None:
    async def main() -> None:
        place, client, controller = Place(tmp_path), Recorder(), Recorder()
        place.open(heartbeat=5.0)
        assert await place.link(controller, "controller", "controller").until_up(10.0)
        link = place.link(client, name="me")
        assert await link.until_up(10.0)
        body = b"x" * 50_000
        for number in range(2_000):  # the loop does not turn meanwhile: the broker reads none of it
            assert link.send(CONTROLLER, m.AskTask(number, "x"), [body])
        asked: list[int] = []

        def heard() -> bool:
            asked[:] = [message.request for _, message, _ in controller.messages if isinstance(message, m.AskTask)]
            return len(asked) == 2_000

        await controller.until(heard)
        assert asked == list(range(2_000))
        await place.close()

    run(main())


def test_what_cannot_be_read_is_told_with_its_number_and_harms_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        url = f"ipc://{tmp_path}/bus"
        router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        router.bind(url)
        recorder = Recorder()
        link = Link(url, "client", for_client(), recorder, heartbeat=5.0)
        link.start()
        await until(lambda: router.poll(0) > 0)
        route, *_ = router.recv_multipart()
        router.send_multipart([route, BROKER, encode(m.Welcome(1, "me", b"broker", 5.0, 1 << 26, b"ctl"))])
        assert await link.until_up(10.0)
        router.send_multipart([route, b"alone"])
        router.send_multipart([route, CONTROLLER, b"\x93\xaetask_page_none\x07\xc0"])
        router.send_multipart([route, CONTROLLER, b"\x93\xa9task_page\x07\xa4text"])
        router.send_multipart([route, CONTROLLER, encode(m.Accepted(9, 1))])
        await recorder.until(lambda: bool(recorder.messages))
        assert [message for _, message, _ in recorder.messages] == [m.Accepted(9, 1)]
        assert link.undecodable == 3
        assert [content[1] for name, content in recorder.events if name == "undecodable"] == [7, 7]
        await link.close()
        router.close(0)

    run(main())


def test_a_controller_in_the_brokers_process_needs_no_socket(tmp_path: Path) -> None:
    async def main() -> None:
        place, client, controller = Place(tmp_path), Recorder(), Recorder()
        broker = place.open()
        local = broker.attach("controller", "controller", b"ctl", for_controller(), controller)
        assert not local.is_up, "whoever attaches has not got the link yet"
        await controller.until(lambda: controller.count("up") == 1)
        link = place.link(client, name="me")
        assert await link.until_up(10.0)
        assert link.controller == b"ctl"
        for number in range(3):
            link.send(CONTROLLER, m.AskTask(number, "x"), [b"payload"])
        await controller.until(
            lambda: sum(isinstance(message, m.AskTask) for _, message, _ in controller.messages) == 3
        )
        assert local.send(b"me", m.Accepted(1, 1), [b"answer"])
        await client.until(lambda: bool(client.messages))
        source, message, frames = client.messages[0]
        assert (source, message, [bytes(frame) for frame in frames]) == (CONTROLLER, m.Accepted(1, 1), [b"answer"])
        await local.close()
        assert not local.send(b"me", m.Accepted(2, 1))
        await place.close()

    run(main())


def test_a_second_broker_on_the_address_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        first = BrokerService("tcp://127.0.0.1:0")
        first.start()
        second = BrokerService(first.url)
        with pytest.raises(BusError, match="is a bus running there already"):
            second.start()
        await second.close()
        await first.close()

    run(main())
