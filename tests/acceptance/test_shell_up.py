"""``headway up`` and the parts alone: starting, stopping, who holds what, and a shell without a bus."""

from __future__ import annotations

import signal

import pytest
from acceptance_shell import PATIENCE, Shell, start_up

NOBODY = "tcp://127.0.0.1:1"


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["submit", "statistics:fmean", "[1]"],
        ["show", "abc"],
        ["runtimes"],
        ["queues"],
        ["cancel", "abc"],
        ["logs", "abc"],
        ["backup", "file"],
    ],
    ids=lambda words: words[0],
)
def test_without_a_bus_every_verb_says_how_to_start_one(shell: Shell, words: list[str]) -> None:
    done = shell(*words, "--bus", NOBODY)
    assert (done.status, done.out) == (3, "")
    assert "headway up" in done.err
    assert NOBODY in done.err
    assert "Traceback" not in done.err


def test_the_doctor_without_a_bus_says_what_is_wrong(shell: Shell) -> None:
    done = shell("doctor", "--bus", NOBODY)
    assert done.status == 1
    assert "headway up" in done.out


def test_wrong_settings_are_told_with_status_2(shell: Shell) -> None:
    file = shell.home / "config.toml"
    file.write_text("[broker]\ncolour = 'blue'\n")
    for words in (["ps"], ["up"]):
        done = shell(*words, "--config", str(file))
        assert done.status == 2
        assert "colour" in done.err
        assert str(file) in done.err
    assert shell("ps", "--bus", "not a url").status == 2


def test_interrupting_up_stops_everything_and_keeps_what_is_queued(shell: Shell) -> None:
    state = shell.home / "state"
    first = start_up(shell, "--state", state, "--no-runtime")
    shell.bus = first.url
    task = shell.ok("submit", "work:add", "1", "2").out.strip()
    assert first.interrupt() == 0, first.log.read_text()
    assert shell.processes() == []
    assert shell.files() == []
    again = start_up(shell, "--state", state, "--slots", "1")
    shell.bus = again.url
    shell.ok("submit", "work:add", "0", "--after", task, "--wait")
    assert shell.ok("show", task, "--json").json["status"] == "succeeded"
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(timeout=PATIENCE) == 0, again.log.read_text()
    assert shell.processes() == []


def test_a_second_up_says_who_holds_the_state(shell: Shell) -> None:
    state = shell.home / "state"
    first = start_up(shell, "--state", state, "--no-runtime")
    second = shell("up", "--bind", "tcp://127.0.0.1:*", "--state", state)
    assert second.status == 1
    assert str(first.process.pid) in second.err
    taken = shell("up", "--bind", first.url, "--state", shell.home / "other")
    assert taken.status == 1
    assert first.url in taken.err
    assert first.interrupt() == 0


def test_a_bus_beyond_this_machine_needs_keys(shell: Shell) -> None:
    done = shell("up", "--bind", "tcp://0.0.0.0:*", "--state", shell.home / "state")
    assert done.status != 0
    assert "key" in done.err.lower()


def test_the_parts_alone_start_in_any_order(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    # An address of ipc has a short limit, so it gets a folder with a short name.
    url = f"ipc://{tmp_path_factory.mktemp('b')}/bus"
    state = shell.home / "state"
    runtime = shell.start("--bus", url, "runtime", "--slots", "1", "--name", "alone", "--state", state)
    controller = shell.start("--bus", url, "controller", "--state", state)
    broker = shell.start("broker", "--bind", url)
    shell.bus = url
    assert shell.ok("submit", "work:add", "1", "2", "--wait").out == "3\n"
    assert [each["runtime"] for each in shell.ok("runtimes", "--json").json] == ["alone"]
    for part in (runtime, controller, broker):
        part.send_signal(signal.SIGTERM)
        _, errors = part.communicate(timeout=PATIENCE)
        assert part.returncode == 0, errors
    assert shell.processes() == []


def test_a_broker_without_a_controller_is_no_bus(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"ipc://{tmp_path_factory.mktemp('b')}/bus"
    broker = shell.start("broker", "--bind", url)
    shell.bus = url
    done = shell("ps")
    assert done.status == 3
    assert "no controller" in done.err and "headway controller" in done.err
    broker.send_signal(signal.SIGTERM)
    broker.communicate(timeout=PATIENCE)
