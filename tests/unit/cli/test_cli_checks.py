"""The doctor's checks, each with what is well and what is not."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

import pytest

from headway.cli import bus_checks, checks
from headway.cli.checks import NOTE, OK, WRONG
from headway_bus.errors import NoBus, Refused
from headway_bus.records import Code, RuntimeInfo, RuntimeState


def runtime(name: str, state: str, why: str = "") -> RuntimeState:
    return RuntimeState(RuntimeInfo(name, 4.0), state, 0.0, 0.0, why=why)


def test_an_old_python_is_wrong() -> None:
    assert checks.check_python((3, 10, 4)).state == WRONG
    assert checks.check_python((3, 14, 0)).state == OK


def test_a_missing_library_is_named() -> None:
    found = checks.check_libraries(["click", "no-such-library-as-this"])
    assert [(finding.subject, finding.state) for finding in found] == [
        ("libraries", OK),
        ("no-such-library-as-this", WRONG),
    ]


@pytest.mark.parametrize(("free", "state"), [(2**20, WRONG), (2**29, NOTE), (2**40, OK)])
def test_disk_space(free: int, state: str, tmp_path: Path) -> None:
    assert checks.check_space(tmp_path, lambda _: (0, 0, free)).state == state


def test_a_folder_that_is_none_or_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "is not a folder" in checks.check_folder(file)[0].text
    assert "will be made" in checks.check_folder(tmp_path / "a" / "b")[0].text
    assert not (tmp_path / "a").exists()
    # Whoever runs the tests as root may write everywhere, so the answer of the system is put in.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert checks.check_folder(tmp_path)[0].state == WRONG


def test_the_holder_of_the_lock_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "controller.sqlite.lock"
    assert checks.check_holder(lock).text == "no controller has used this folder yet"
    lock.write_text("process 4711 on here\n")
    assert "free" in checks.check_holder(lock).text
    with lock.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert checks.check_holder(lock).text == "held by process 4711 on here"
    assert lock.read_text() == "process 4711 on here\n"


def test_a_damaged_store_is_found_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    assert checks.check_database(path).state == OK
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE numbers (value)")
    connection.executemany("INSERT INTO numbers VALUES (?)", [(f"{number:0100}",) for number in range(1000)])
    connection.commit()
    connection.close()
    assert checks.check_database(path).state == OK
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)
    found = checks.check_database(path)
    assert found.state == WRONG
    assert "backup" in found.advice
    assert path.read_bytes() == data
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    assert checks.check_database(path).state == WRONG


def test_what_the_bus_says() -> None:
    refused = Refused(Code.FORBIDDEN, "this key is 'box-1', of the role runtime; it cannot be used as client")
    unknown = Refused(Code.FORBIDDEN, "the broker does not know this key: it was revoked, or has expired")
    assert bus_checks.check_no_answer("tcp://hub:1", unknown, "runtime").state == WRONG
    assert bus_checks.check_no_answer("tcp://hub:1", refused, "runtime").state == OK
    assert "--key-file" in bus_checks.check_no_answer("tcp://hub:1", refused, "client").advice
    assert bus_checks.check_no_answer("tcp://hub:1", NoBus("nobody answers"), "runtime").advice == "headway up"
    assert bus_checks.check_peers([{"role": "client"}]).state == WRONG
    assert bus_checks.check_peers([{"role": "client"}, {"role": "controller"}]).text == "1 client, 1 controller"
    assert bus_checks.check_controller({"refusing": "the disk is full"}).state == WRONG
    assert bus_checks.check_controller({"paused": True}).state == NOTE
    assert bus_checks.check_controller({"tasks": {"running": 2}}).text == "tasks in memory: 2 running"
    assert bus_checks.check_store({"well": True, "findings": ["whole"]}).state == OK
    assert bus_checks.check_store({"well": False, "findings": ["the disk is full"]}).text == "the disk is full"
    assert bus_checks.check_store({}).state == WRONG
    states = [runtime("a", "online"), runtime("b", "set-aside", "cannot import numpy"), runtime("c", "draining")]
    assert [finding.state for finding in bus_checks.check_runtimes(states)] == [OK, WRONG, NOTE]
    assert bus_checks.check_runtimes([])[0].state == WRONG
    assert bus_checks.check_versions("1.0", {"controller": "1.0", "runtime a": ""}).state == OK
    assert "runtime a 0.9" in bus_checks.check_versions("1.0", {"runtime a": "0.9"}).text


@pytest.mark.parametrize(("theirs", "state"), [(100.4, OK), (98.7, NOTE), (150.0, NOTE)])
def test_clocks(theirs: float, state: str) -> None:
    assert bus_checks.check_clock("controller", theirs, 100.0, 0.1).state == state
