"""A runtime that is cut off, killed, stopped: what becomes of its attempts and of every process below it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_hub import Hub
from runtime_process import RuntimeProcess, is_running

from headway_bus import messages as m
from headway_bus.payloads import decode, encode_call
from headway_bus.records import AttemptEnd, Code, Kind, Options, Reason

Start = Callable[..., RuntimeProcess]


def gone(hub: Hub, *pids: int) -> None:
    hub.until(lambda: not any(is_running(pid) for pid in pids), f"the end of the processes {pids}")


def background(path: Path) -> str:
    """A line that runs until it is ended, beside a process that has detached itself; both write their ids to ``path``."""
    detached = f"sh -c 'echo \\$\\$ >> {path}; exec sleep 1000'"
    return f'setsid sh -c "{detached} &"; echo $$ >> {path}; exec sleep 1000'


def pids_in(path: Path, count: int) -> list[int]:
    return (
        [int(pid) for pid in path.read_text().split()]
        if path.exists() and len(path.read_text().split()) == count
        else []
    )


def test_a_killed_runtime_takes_every_process_with_it(hub: Hub, start: Start, tmp_path: Path) -> None:
    runtime = start()
    path = tmp_path / "pids"
    hub.command(background(path))
    key = hub.call("runtime_tasks:wait_for", str(tmp_path / "never"))
    hub.until(lambda: key in hub.started and pids_in(path, 2))
    everything = [*runtime.descendants(), *pids_in(path, 2)]
    assert len(everything) >= 6
    runtime.process.kill()
    gone(hub, *everything)


def test_the_next_runtime_of_the_name_ends_what_a_killed_nursery_could_not(
    hub: Hub, start: Start, tmp_path: Path
) -> None:
    runtime = start()
    path = tmp_path / "pids"
    hub.command(background(path))
    hub.until(lambda: pids_in(path, 2))
    nursery = runtime.nursery
    runtime.process.send_signal(signal.SIGSTOP)  # so that neither can clean up after the other
    os.kill(nursery, signal.SIGKILL)
    runtime.process.kill()
    runtime.process.wait(20)
    gone(hub, nursery)
    assert all(is_running(pid) for pid in pids_in(path, 2))
    start()
    gone(hub, *pids_in(path, 2))


def test_a_killed_nursery_costs_no_attempt_more_than_its_place(hub: Hub, start: Start, tmp_path: Path) -> None:
    runtime = start()
    path = tmp_path / "pids"
    command = hub.command(background(path))
    call = hub.call("runtime_tasks:wait_for", str(tmp_path / "never"))
    hub.until(lambda: call in hub.started and pids_in(path, 2))
    everything = [*runtime.descendants(), *pids_in(path, 2)]
    os.kill(runtime.nursery, signal.SIGKILL)
    assert hub.end_of(command).end is AttemptEnd.RETURNED
    assert hub.end_of(call).end is AttemptEnd.RETURNED
    gone(hub, *everything)
    key = hub.call("runtime_tasks:add", 1, 2)
    hub.end_of(key)
    assert decode(hub.results[key]) == 3


def test_a_killed_child_costs_its_attempt_and_is_replaced(hub: Hub, start: Start, tmp_path: Path) -> None:
    start()
    path = tmp_path / "pid"
    key = hub.call("runtime_tasks:ignore_everything", str(path))
    hub.until(lambda: path.exists() and path.read_text())
    os.kill(int(path.read_text()), signal.SIGKILL)
    error = hub.end_of(key).error
    assert error is not None
    assert (error.reason, error.signal) == (Reason.SIGNAL, signal.SIGKILL)
    assert hub.end_of(hub.call("runtime_tasks:add", 1, 2)).end is AttemptEnd.SUCCEEDED


def test_cut_off_it_finishes_its_work_and_reports_later(hub: Hub, start: Start, tmp_path: Path) -> None:
    start()
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    key = hub.call("runtime_tasks:touch_and_wait_for", str(marks), str(gate))
    hub.until(lambda: key in hub.started)
    hub.answers = False
    hub.until(lambda: len(hub.hellos) > 1, "the runtime to say hello again")
    gate.touch()
    hub.answers = True
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED
    assert len(marks.read_text().split()) == 1
    phases = {(held.task, held.attempt): held.phase for held in hub.registers[-1].held}
    assert phases[key] in ("running", "ended")


def test_reports_are_repeated_until_they_are_settled(hub: Hub, start: Start) -> None:
    start()
    hub.settles = False
    key = hub.call("runtime_tasks:add", 1, 2)
    hub.end_of(key)
    hub.send(m.SendInventory("to see"))
    hub.until(lambda: hub.repeated)
    assert {(held.task, held.attempt): held.phase for held in hub.registers[-1].held} == {key: "ended"}
    hub.settles = True
    hub.send(m.Settled([report.batch for report in hub.reports]))
    hub.send(m.SendInventory("to see"))
    hub.until(lambda: not hub.registers[-1].held)


def test_another_controller_hears_what_is_held(hub: Hub, start: Start, tmp_path: Path) -> None:
    start()
    gate = tmp_path / "gate"
    running = hub.call("runtime_tasks:wait_for", str(gate))
    hub.until(lambda: running in hub.started)
    registers = len(hub.registers)
    hub.send(m.ControllerChanged(b""), source=b"")
    hub.send(m.ControllerChanged(b"another!"), source=b"")
    hub.until(lambda: len(hub.registers) > registers)
    (held,) = hub.registers[-1].held
    assert ((held.task, held.attempt), held.phase, hub.registers[-1].assigned) == (running, "running", 0)
    gate.touch()
    hub.end_of(running)


def test_stopped_and_continued_it_goes_on_where_it_was(hub: Hub, start: Start, tmp_path: Path) -> None:
    runtime = start()
    gate = tmp_path / "gate"
    key = hub.call("runtime_tasks:wait_for", str(gate))
    hub.until(lambda: key in hub.started)
    runtime.process.send_signal(signal.SIGSTOP)
    gate.touch()
    runtime.process.send_signal(signal.SIGCONT)
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED
    beats = len(hub.heartbeats)
    hub.until(lambda: len(hub.heartbeats) > beats + 1)


def test_term_drains(hub: Hub, start: Start, tmp_path: Path) -> None:
    runtime = start()
    gate = tmp_path / "gate"
    running = [hub.call("runtime_tasks:wait_for", str(gate)) for _ in range(2)]
    waiting = hub.call("runtime_tasks:add", 1, 2)
    hub.until(lambda: all(key in hub.started for key in running))
    runtime.process.send_signal(signal.SIGTERM)
    assert hub.end_of(waiting).end is AttemptEnd.RETURNED
    gate.touch()
    assert [hub.end_of(key).end for key in running] == [AttemptEnd.SUCCEEDED] * 2
    assert runtime.process.wait(20) == 0
    hub.until(lambda: any(isinstance(message, m.Bye) for message in hub.others))
    assert any(isinstance(message, m.RuntimeLeaving) for message in hub.others)


def test_what_does_not_end_before_the_deadline_is_given_back(hub: Hub, start: Start, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[runtime]\ndrain_deadline = 0.1\n")
    runtime = start("--config", str(config))
    path = tmp_path / "pids"
    command = hub.command(background(path))
    call = hub.call("runtime_tasks:wait_for", str(tmp_path / "never"))
    hub.until(lambda: call in hub.started and pids_in(path, 2))
    everything = [*runtime.descendants(), *pids_in(path, 2)]
    runtime.process.send_signal(signal.SIGTERM)
    assert hub.end_of(command).end is AttemptEnd.RETURNED
    assert hub.end_of(call).end is AttemptEnd.RETURNED
    assert runtime.process.wait(20) == 0
    gone(hub, *everything)


def test_the_second_signal_ends_it_at_once(hub: Hub, start: Start, tmp_path: Path) -> None:
    runtime = start()
    path = tmp_path / "pids"
    hub.command(background(path))
    hub.until(lambda: pids_in(path, 2))
    everything = [*runtime.descendants(), *pids_in(path, 2)]
    runtime.process.send_signal(signal.SIGTERM)
    hub.until(lambda: any(isinstance(message, m.RuntimeLeaving) for message in hub.others))
    runtime.process.send_signal(signal.SIGINT)
    runtime.process.wait(20)
    gone(hub, *everything)


def test_refused_for_good_it_says_why_and_ends(hub: Hub, start: Start) -> None:
    runtime = start()
    hub.refusal = m.Rejected(Code.VERSION, "this bus speaks version 2")
    hub.send(m.Rejected(Code.NOT_GREETED, "say hello"), source=b"")
    assert runtime.process.wait(20) == 1


def test_a_second_runtime_of_the_name_is_told_whose_folder_it_is(hub: Hub, start: Start) -> None:
    runtime = start()
    second = runtime.run_another()
    assert second.returncode == 1
    assert "another runtime works in" in second.stderr


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x92\xa6assign\x01", b"\x93\xa6assign\x01\x93\x01\x02\x03"])
def test_messages_that_are_none_are_passed_over(hub: Hub, start: Start, junk: bytes) -> None:
    start()
    hub.send_raw([b"controller", junk])
    assert hub.end_of(hub.call("runtime_tasks:add", 1, 2)).end is AttemptEnd.SUCCEEDED


def test_attempts_nobody_holds_are_passed_over(hub: Hub, start: Start) -> None:
    start()
    unknown = [(b"\1" * 16, 1), (b"\2" * 16, 7)]
    hub.send(m.Stop(unknown))  # type: ignore[arg-type]
    hub.send(m.TakeBack(unknown))  # type: ignore[arg-type]
    hub.send(m.Registered(hub.controller, unknown, unknown))  # type: ignore[arg-type]
    hub.send(m.Settled([17, 18]))
    (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), [encode_call([1, 2], {})])
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED
