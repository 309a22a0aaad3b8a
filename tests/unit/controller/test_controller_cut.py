"""The controller is cut off from the bus, or new on it: whose silence counts, and for how long runtimes may claim."""

from __future__ import annotations

from controller_bench import RUNTIME, Bench, task_id

from headway_bus import messages as m
from headway_bus.records import Held, Status
from headway_bus.session import LAST_RETRY

GRACE = 5.0


def peers(*runtimes: str) -> m.Peers:
    return m.Peers([m.PeerChanged(name, "runtime", b"", "up") for name in runtimes])


def new_on_the_bus(bench: Bench, *awaited: str) -> Bench:
    """Another controller, which knows which runtimes its predecessor had, and has just been taken in by the broker."""
    later = bench.restarted()
    unfinished = [row for row in later.books.rows.values() if row.end is None]
    later.controller.restore(unfinished, {}, later.now, later.now + GRACE, awaited)
    later.controller.on_cut()
    later.controller.on_back(later.now)
    later.turn()
    return later


def leased() -> Bench:
    """Task 1 is leased to the runtime, task 2 waits for room."""
    bench = Bench()
    bench.join(slots=1)
    bench.submit(1)
    bench.submit(2)
    bench.take_assigned()
    return bench


def test_silence_while_the_controller_is_cut_off_says_nothing() -> None:
    bench = leased()
    bench.controller.on_cut()
    bench.wait(60.0)
    assert bench.status(1) == Status.ASSIGNED
    bench.controller.on_back(bench.now)
    bench.wait(LAST_RETRY)  # the runtime may take that long to be back itself
    assert bench.status(1) == Status.ASSIGNED
    bench.wait(GRACE + 0.1)
    assert bench.controller.state.counters["runtimes.lost"] == 1


def test_what_nobody_has_is_given_out_as_soon_as_everybody_has_spoken() -> None:
    later = new_on_the_bus(leased(), RUNTIME)
    later.tell("", peers(RUNTIME))
    assert later.status(2) == Status.WAITING, "the runtime has not said yet what it holds"
    later.join(slots=2, held=[Held(task_id(1), 1, "running", 7.0)])
    assert later.status(1) == Status.RUNNING
    assert later.status(2) == Status.ASSIGNED
    assert [key[0] for key in later.take_assigned()] == [task_id(2)]


def test_a_runtime_that_only_the_broker_knows_of_is_waited_for() -> None:
    later = new_on_the_bus(leased())
    later.tell("", peers(RUNTIME))
    assert later.status(1) == Status.WAITING
    later.join(slots=1, held=[Held(task_id(1), 1, "running", 7.0)])
    assert later.status(1) == Status.RUNNING


def test_a_runtime_that_stays_away_is_not_waited_for_for_ever() -> None:
    later = new_on_the_bus(leased(), RUNTIME)
    later.tell("", peers())
    later.wait(GRACE + LAST_RETRY - 0.1)
    assert later.status(1) == Status.WAITING
    later.wait(1.2)
    assert later.status(1) == Status.QUEUED
    assert [note.event for note in later.notes if note.level == "warning"] == [
        "runtimes have not come back; what they had runs again"
    ]


def test_the_time_to_claim_begins_when_the_broker_is_there() -> None:
    later = new_on_the_bus(leased(), RUNTIME)
    later.controller.on_cut()
    later.wait(120.0)
    assert later.status(1) == Status.WAITING
    later.controller.on_back(later.now)
    later.tell("", peers())
    later.join(slots=1, held=[Held(task_id(1), 1, "running", 7.0)])
    assert later.status(1) == Status.RUNNING


def test_with_nobody_to_wait_for_work_is_queued_at_once() -> None:
    later = new_on_the_bus(leased())
    later.tell("", peers())
    assert [later.status(number) for number in (1, 2)] == [Status.QUEUED] * 2


def test_a_delay_that_is_not_over_survives_the_early_end() -> None:
    bench = Bench()
    bench.submit(1, delay=600.0)
    later = new_on_the_bus(bench)
    later.tell("", peers())
    assert later.status(1) == Status.WAITING
    later.wait(601.0)
    assert later.status(1) == Status.QUEUED


def test_a_clock_that_jumps_moves_no_timer() -> None:
    """The wall clock is shown and stored; everything is timed by the machine's own clock, which cannot be set."""
    for jump in (86_400.0, -86_400.0):
        bench = Bench()
        bench.submit(1, delay=10.0)
        bench.submit(2, timeout_start=20.0)
        bench.controller.life.wall_offset += jump
        bench.wait(9.0)
        assert [bench.status(number) for number in (1, 2)] == [Status.WAITING, Status.QUEUED]
        bench.wait(2.0)
        assert bench.status(1) == Status.QUEUED
        bench.wait(10.0)
        assert bench.status(2) == Status.EXPIRED


def test_a_clock_that_was_set_back_before_the_restart_delays_nothing() -> None:
    bench = Bench()
    bench.submit(1, delay=10.0)
    later = bench.restarted()
    later.controller.life.wall_offset -= 86_400.0
    later.recover(GRACE)
    later.wait(11.0)
    assert later.status(1) == Status.QUEUED
