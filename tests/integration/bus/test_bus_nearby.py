"""The Unix socket beside a broker's port: taken where it is, never needed, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
import zmq
from bus_bench import Recorder, run

from headway_broker.service import BrokerService
from headway_bus import nearby
from headway_bus.codec import encode, for_client
from headway_bus.link import BROKER, Link
from headway_bus.messages import Rejected
from headway_bus.records import Code

HEARTBEAT = 0.2

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Unix sockets only")


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def broker_at(url: str) -> BrokerService:
    broker = BrokerService(url, heartbeat=HEARTBEAT)
    broker.start()
    return broker


def link_to(url: str) -> tuple[Link, Recorder]:
    recorder = Recorder()
    link = Link(url, "client", for_client(), recorder, heartbeat=HEARTBEAT)
    link.start()
    return link, recorder


def left_behind(url: str) -> Path:
    """The socket of a broker that was killed: there, and nobody behind it."""
    offered = nearby.offer(url)
    assert offered is not None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(offered[1]))
        dead.listen()
    assert nearby.find(url) == offered[0]
    return offered[1]


def test_it_is_taken_and_goes_with_the_broker() -> None:
    async def main() -> None:
        broker = broker_at("tcp://127.0.0.1:*")
        link, _ = link_to(broker.url)
        assert await link.until_up(10.0)
        assert link.is_near and link.url == broker.url
        await link.close()
        await broker.close()
        path = nearby.socket_for(broker.url)
        assert path is not None and not path.exists()

    run(main())


def test_where_nobody_is_behind_it_the_port_is_taken_at_once() -> None:
    async def main() -> None:
        url = f"tcp://127.0.0.1:{free_port()}"
        broker = broker_at(url)
        path = nearby.socket_for(url)
        assert path is not None
        path.unlink()
        left_behind(url)
        link, _ = link_to(url)
        assert await link.until_up(10.0)
        assert not link.is_near
        assert link.session.attempts == 0
        await link.close()
        await broker.close()

    run(main())


def test_a_broker_takes_the_place_of_one_that_was_killed_and_is_found_again() -> None:
    async def main() -> None:
        url = f"tcp://127.0.0.1:{free_port()}"
        left_behind(url)
        link, recorder = link_to(url)
        assert not await link.until_up(0.2)
        broker = broker_at(url)
        assert await link.until_up(10.0)
        assert link.is_near
        await broker.close()
        await recorder.until(lambda: recorder.count("down") == 1)
        broker = broker_at(url)
        await recorder.until(lambda: recorder.count("up") == 2)
        await link.close()
        await broker.close()

    run(main())


def test_a_refusal_just_before_the_cut_is_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        url = f"tcp://127.0.0.1:{free_port()}"
        offered = nearby.offer(url)
        assert offered is not None
        router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        router.bind(offered[0])
        link, recorder = link_to(url)
        endpoint = link._endpoint
        assert endpoint is not None
        refusal = encode(Rejected(Code.FORBIDDEN, "not here"))
        # It is read in the look that follows the word of the cut: a moment that no real broker hits at will.
        asyncio.get_running_loop().remove_reader(endpoint._fd)
        monkeypatch.setattr(endpoint, "_wake", lambda: link._on_raw([[BROKER, refusal]]))
        router.close(linger=0)
        await recorder.until(lambda: recorder.count("over") == 1)
        assert link._endpoint is None, "it does not go to the port"
        await link.close()

    run(main())


def test_what_killed_brokers_have_left_is_removed_and_nothing_else() -> None:
    async def main() -> None:
        living = broker_at("tcp://127.0.0.1:*")
        dead = left_behind(f"tcp://127.0.0.1:{free_port()}")
        other = broker_at("tcp://127.0.0.1:*")
        assert not dead.exists()
        assert nearby.find(living.url) and nearby.find(other.url)
        link, _ = link_to(living.url)
        assert await link.until_up(10.0)
        assert link.is_near
        for each in (link, living, other):
            await each.close()

    run(main())


def test_a_folder_that_others_may_enter_is_not_trusted(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "headway"
        folder.mkdir()
        folder.chmod(0o755)
        broker = broker_at("tcp://127.0.0.1:*")
        assert nearby.offer(broker.url) is None and nearby.find(broker.url) is None
        link, _ = link_to(broker.url)
        assert await link.until_up(10.0)
        assert not link.is_near
        await link.close()
        await broker.close()

    run(main())


def test_the_folder_of_another_user_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    path = nearby.socket_for("tcp://127.0.0.1:5570")
    assert path is not None and tmp_path not in path.parents


def test_a_folder_behind_a_link_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "headway").symlink_to(tmp_path / "other")
    assert nearby.offer("tcp://127.0.0.1:5570") is None
    assert nearby.find("tcp://127.0.0.1:5570") is None


def test_a_path_that_no_socket_can_have_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ("ä" * 10)
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(nearby, "MOST_BYTES", 1000)
    path = nearby.socket_for("tcp://127.0.0.1:5570")
    assert path is not None
    monkeypatch.setattr(nearby, "MOST_BYTES", len(str(path)))  # bytes are counted, and ä has two
    assert nearby.socket_for("tcp://127.0.0.1:5570") is None


def test_what_vanishes_while_it_is_looked_at_is_another_brokers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "headway").mkdir(mode=0o700)
    (tmp_path / "headway" / "4-5").touch()

    def vanishes(path: Path) -> bool:
        path.unlink()
        raise FileNotFoundError

    monkeypatch.setattr(nearby, "_is_dead", vanishes)
    assert nearby.offer("tcp://127.0.0.1:5570") is not None


@pytest.mark.parametrize(
    "url", ["tcp://192.0.2.1:5570", "tcp://localhost:5570", "ipc:///tmp/x", "tcp://[::1]:5", "nonsense:x"]
)
def test_other_addresses_have_none(url: str) -> None:
    assert nearby.socket_for(url) is None
