"""Runs that end before their jobs do: Ctrl-C, kill -9, and a bus that goes on without the run."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
from acceptance_shell import PATIENCE, Shell, start_up, wait_for_file
from batch_shell import begun, job, ran, sleepers, text_of, write_batch

WAITING = "echo begun; touch ../started; while ! test -e ../release; do sleep 0.05; done; echo ended"


def data(shell: Shell) -> Path:
    return shell.home / "data" / "b"


def test_ctrl_c_ends_everything_and_the_next_run_goes_on(shell: Shell) -> None:
    file = write_batch(shell, job("first", "echo x >>../first-ran"), job("second", WAITING), job("third", "true"))
    running = begun(shell, file, "--slots", "1")
    wait_for_file(data(shell) / "started")
    wait_for_file(data(shell) / "first.succeed")
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=PATIENCE) == 130
    assert shell.processes() == []
    assert shell.files() == []
    assert (data(shell) / "second.interrupted").exists()
    (data(shell) / "release").touch()
    result = ran(shell, file)
    assert (result["n_skipped"], result["n_allocated"]) == (1, 2)
    assert (data(shell) / "first-ran").read_text() == "x\n"


def test_h_w3_kill_9_of_the_run_ends_its_jobs_and_the_next_run_goes_on(shell: Shell) -> None:
    file = write_batch(shell, job("first", "echo x >>../first-ran"), job("second", WAITING))
    running = begun(shell, file, "--slots", "1")
    wait_for_file(data(shell) / "started")
    wait_for_file(data(shell) / "first.succeed")
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    (data(shell) / "release").touch()
    result = ran(shell, file)  # waits until what the killed one has left is gone
    assert (result["n_skipped"], result["n_allocated"]) == (1, 1)
    assert text_of(shell, "second") == "begun\nended\n"
    assert shell.processes() == []
    assert (data(shell) / "first-ran").read_text() == "x\n"


def test_on_a_bus_a_killed_run_is_taken_up_by_the_next(shell: Shell) -> None:
    up = start_up(shell, "--slots", "1", "--state", shell.home / "state")
    file = write_batch(shell, job("one", "echo x >>../one-ran; " + WAITING), job("two", "echo x >>../two-ran"))
    try:
        running = begun(shell, file, "--bus", up.url)
        wait_for_file(data(shell) / "started")
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        assert sleepers(shell, "run.sh") != []  # the job goes on without the run
        elsewhere = shell("run", "--config", file)
        assert (elsewhere.status, f"--bus {up.url}" in elsewhere.err) == (1, True)
        (data(shell) / "release").touch()
        result = ran(shell, file, "--bus", up.url)
        assert result["states"] == {"one": "succeed", "two": "succeed"}
        assert text_of(shell, "one") == "begun\nended\n"
        assert [(data(shell) / f"{name}-ran").read_text() for name in ("one", "two")] == ["x\n", "x\n"]
        assert ran(shell, file, "--bus", up.url)["n_skipped"] == 2
    finally:
        assert up.interrupt() == 0


def test_a_run_of_one_job_leaves_the_rest_of_a_killed_run_to_the_next(shell: Shell) -> None:
    up = start_up(shell, "--slots", "2", "--state", shell.home / "state")
    file = write_batch(shell, job("one", "echo x >>../one-ran; " + WAITING), job("two", "echo x >>../two-ran"))
    try:
        running = begun(shell, file, "--bus", up.url)
        wait_for_file(data(shell) / "started")
        wait_for_file(data(shell) / "two-ran")
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        before = json.loads((data(shell) / "run.json").read_text())
        for _ in range(2):  # the second finds nothing to do
            assert ran(shell, file, "--bus", up.url, "--only", "two")["states"]["two"] == "succeed"
            assert json.loads((data(shell) / "run.json").read_text()) == before
        assert sleepers(shell, "run.sh") != []
        assert shell("run", "--config", file).status == 1  # it is not known here how that one goes on
        (data(shell) / "release").touch()
        assert ran(shell, file, "--bus", up.url)["states"] == {"one": "succeed", "two": "succeed"}
        assert text_of(shell, "one") == "begun\nended\n"
        assert [(data(shell) / f"{name}-ran").read_text() for name in ("one", "two")] == ["x\n", "x\n"]
        assert not (data(shell) / "run.json").exists()
    finally:
        assert up.interrupt() == 0


def test_what_a_killed_run_has_left_of_jobs_that_have_changed_or_gone_is_ended_first(shell: Shell) -> None:
    up = start_up(shell, "--slots", "2", "--state", shell.home / "state")
    stay = "touch ../{}; sleep 600"
    file = write_batch(shell, job("changed", stay.format("a")), job("gone", stay.format("b")), job("last", "true"))
    try:
        running = begun(shell, file, "--bus", up.url)
        wait_for_file(data(shell) / "a")
        wait_for_file(data(shell) / "b")
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        write_batch(shell, job("changed", "echo anew"), job("last", "true"))
        assert ran(shell, file, "--bus", up.url)["states"] == {"changed": "succeed", "last": "succeed"}
        assert text_of(shell, "changed") == "anew\n"
        assert sleepers(shell, "sleep 600") == []
    finally:
        assert up.interrupt() == 0


def test_a_private_bus_that_dies_takes_its_jobs_with_it(shell: Shell) -> None:
    file = write_batch(shell, job("one", WAITING))
    running = begun(shell, file, "--slots", "1")
    wait_for_file(data(shell) / "started")
    (hub,) = (each for each in sleepers(shell, "headway.private_hub") if each.ppid() == running.pid)
    hub.kill()
    assert running.wait(timeout=PATIENCE) == 1
    assert shell.processes() == []
    assert shell.files() == []
    (data(shell) / "release").touch()
    assert ran(shell, file)["states"] == {"one": "succeed"}


def none_left(shell: Shell) -> bool:
    """Whether the shell's processes end by themselves."""
    deadline = time.monotonic() + PATIENCE
    while left := shell.processes():
        if time.monotonic() > deadline:
            return False
        psutil.wait_procs(left, timeout=1.0)
    return True


def test_a_bus_that_was_begun_for_a_batch_that_cannot_run_is_gone_when_the_error_is_told(shell: Shell) -> None:
    for words in (["--config", "none.json"], ["--config", write_batch(shell, job("one", "true")), "--only", "two"]):
        assert shell("run", *words).status == 2
        assert none_left(shell)
        assert shell.files() == []


def test_a_run_that_is_killed_before_its_bus_has_heard_what_it_is_to_be_leaves_nothing(shell: Shell) -> None:
    file = shell.home / "b.json"
    os.mkfifo(file)  # nobody writes it: the run waits for its batch
    running = begun(shell, file)
    deadline = time.monotonic() + PATIENCE
    while len(sleepers(shell, "headway.private_hub")) < 3 and time.monotonic() < deadline:  # hub, runtime, nursery
        time.sleep(0.01)
    assert len(sleepers(shell, "headway.private_hub")) == 3
    running.kill()
    running.wait()
    assert none_left(shell)
    assert shell.files() == []
