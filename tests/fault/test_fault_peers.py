"""Peers that return from somewhere else: an old protocol, claims to what they never had, a digest that never matches.

Each is refused and counted, none makes the bus loop, and the others' work goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_peer import Peer
from fault_plant import Plant, lines_of, until

from headway_bus.ids import new_task_id
from headway_bus.messages import (
    Assign,
    Heartbeat,
    Ping,
    Registered,
    Rejected,
    Report,
    SendInventory,
    Settled,
    Welcome,
)
from headway_bus.records import AttemptEnd, Code, Ended, Held


def test_old_protocol_version_is_refused_for_good(plant: Plant) -> None:
    """It gets the reason once for each hello, and whatever else it says does not reach anybody."""
    plant.start()
    with Peer(plant.url, "runtime", "ancient") as peer:
        answer = peer.hello(version=0)
        assert isinstance(answer, Rejected)
        assert answer.code == Code.VERSION
        peer.register([])
        assert peer.wait_for(Rejected).code == Code.NOT_GREETED  # type: ignore[attr-defined]
    with plant.asking() as bus:
        assert [each.info.name for each in bus.runtimes()] == []
        assert bus.counters()["broker"]["rejected.version"] == 1


@pytest.mark.parametrize("role", ["runtime", "edge"])
def test_runtime_claims_attempts_it_never_had(make_plant: Callable[..., Plant], tmp_path: Path, role: str) -> None:
    """Attempts of unknown tasks, of a task that another runs, numbers nobody gave out: stopped or forgotten, counted."""
    plant = make_plant(heartbeat=1.0)
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    task_id = task.info().task
    stranger = new_task_id()
    with Peer(plant.url, role, "liar") as peer:
        assert isinstance(peer.hello(), Welcome)
        claims = [Held(stranger, 1, "running"), Held(task_id, 1, "running"), Held(task_id, 7, "running")]
        peer.register([*claims, Held(task_id, 99, "ended")])
        answer = peer.wait_for(Registered)
        assert isinstance(answer, Registered)
        assert {(task, attempt) for task, attempt in answer.stop} == {(stranger, 1), (task_id, 1), (task_id, 7)}
        assert [(task, attempt) for task, attempt in answer.forget] == [(task_id, 99)]
        lies = [
            Ended(each, number, AttemptEnd.SUCCEEDED, 0.1, b"\x01") for each in (task_id, stranger) for number in (1, 7)
        ]
        peer.say(Report(5, ended=lies))
        settled = peer.wait_for(Settled)
        assert settled.batches == [5]  # type: ignore[attr-defined]  # heard, judged, and not to be said again
    release.touch()
    assert task.result(30) == "held a"
    assert len(lines_of(ran)) == 2
    counters = plant.counters()
    assert counters["attempts.never-assigned"] >= 2
    assert counters["attempts.unwanted"] == 3
    assert counters["reports.fenced"] == 4


def test_digest_that_never_matches_makes_no_loop(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """It is asked for its inventory a few times, then ever more rarely, though it says the same nonsense each time."""
    plant = make_plant(heartbeat=0.2)
    plant.start("one")
    bus = plant.client()
    asked = beats = 0
    with Peer(plant.url, "runtime", "confused") as peer:
        assert isinstance(peer.hello(), Welcome)
        peer.register([])
        peer.wait_for(Registered)
        for _ in range(60):
            peer.say(Heartbeat(0.0, 0, 3, 0x5EED))
            peer.say(Ping(0.0), b"")
            beats += 1
            inventories = [each for each in peer.listen(0.05) if isinstance(each, SendInventory)]
            asked += len(inventories)
            for _ in inventories:
                peer.register([])
    assert beats == 60
    assert 2 <= asked <= 12, "a loop would have asked at each heartbeat"
    assert bus.submit("fault_tasks:mark", str(tmp_path / "marks"), 1, 0.0).result(30) == 1
    # The last question may come when nobody listens any more.
    assert asked <= plant.counters()["digests.different"] <= asked + 1


def test_reports_before_registration_are_kept_by_the_runtime(make_plant: Callable[..., Plant]) -> None:
    """A runtime that was given up, or that the controller never saw, is asked to register; its report is not settled."""
    plant = make_plant(heartbeat=1.0)
    plant.start()
    with Peer(plant.url, "runtime", "hasty") as peer:
        welcome = peer.hello()
        assert isinstance(welcome, Welcome)
        with plant.asking() as bus:
            bus.runtimes()  # the controller is there
        peer.say(Report(1, ended=[Ended(new_task_id(), 1, AttemptEnd.SUCCEEDED)]))
        assert isinstance(peer.wait_for(SendInventory, Settled), SendInventory)
    assert plant.counters()["reports.unregistered"] == 1


def test_garbage_at_the_socket(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """Bytes that are no message, from a peer that has said hello: refused and counted, nobody else notices."""
    plant = make_plant(heartbeat=1.0)
    plant.start("one")
    bus = plant.client()
    with Peer(plant.url, "runtime", "noise") as peer:
        assert isinstance(peer.hello(), Welcome)
        for header in (b"", b"\xc1", b"\x93\xa6report\x01\xff", b"\xdc\xff\xff" * 1000, bytes(100_000)):
            peer._socket.send_multipart([b"controller", header])
        peer.register([])
        assert isinstance(peer.wait_for(Registered), Registered)
    assert bus.submit("fault_tasks:mark", str(tmp_path / "marks"), 1, 0.0).result(30) == 1
    refused = plant.counters("broker")
    assert refused["rejected.forbidden"] >= 1


def test_assignments_to_a_runtime_that_takes_and_never_answers(
    make_plant: Callable[..., Plant], tmp_path: Path
) -> None:
    """A runtime that beats but lost its memory (its digest says that it holds nothing): its attempts run elsewhere."""
    plant = make_plant(heartbeat=0.5)
    plant.start()
    bus = plant.client()
    marks = tmp_path / "marks"
    with Peer(plant.url, "runtime", "amnesia") as peer:
        assert isinstance(peer.hello(), Welcome)
        peer.register([], slots=1.0)
        peer.wait_for(Registered)
        task = bus.submit("fault_tasks:mark", str(marks), 3, 0.0)
        assign = peer.wait_for(Assign)
        assert isinstance(assign, Assign)
        peer.register([], slots=0.0)  # it has just been restored from an image of an hour ago
        plant.start_runtime("one")
        peer.say(Heartbeat(0.0, assign.batch, 0, 0))
        asked = peer.wait_for(SendInventory)
        assert asked is not None
        peer.register([], assigned=assign.batch)
        assert task.result(30) == 3
    assert [line.split()[2] for line in lines_of(marks)] == ["one"]
