"""The flows of a task that is a script with its files, over real processes: run, inform, stop, modify, outputs, deploy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import headway
from headway import blobs
from headway_bus import payloads
from headway_bus.records import Blob, Reason

TRAIN = """
import pathlib, sys
for number in range(5):
    print("开始训练", number)
for number in range(5):
    print("测试训练错误的情况", number, file=sys.stderr)
rows = pathlib.Path("data/rows.csv").read_text().split(",")
pathlib.Path("model").mkdir()
pathlib.Path("model/weights.txt").write_text(str(sum(map(int, rows))))
pathlib.Path("model/large.bin").write_bytes(bytes(300_000))
pathlib.Path("notes.txt").write_text("not asked for")
pathlib.Path("model/link").symlink_to("/etc/passwd")
"""

HOLD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, sys.argv[1])
time.sleep(600)
"""


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[headway.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWAY_DEPLOYED", str(tmp_path_factory.mktemp("deployed")))
        with headway.local(slots=2) as bus:
            yield bus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "work"
    (home / "data").mkdir(parents=True)
    (home / "train.py").write_text(TRAIN)
    (home / "data" / "rows.csv").write_text("1,2,39")
    (home / "hold.py").write_text(HOLD)
    return home


def first_line(task: headway.ClientTask) -> list[str]:
    """What a script says first; it runs then."""
    for record in task.logs(follow=True):
        if record.stream == "stdout":
            return record.text.split()
    raise AssertionError(f"{task} has said nothing: {task.info().error}")


def is_gone(pid: str) -> bool:
    return not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text()


def test_c34_run_and_c35_information(bus: headway.Client, folder: Path) -> None:
    """C-A3 as well: ten lines in order, UTF-8 whole, the stream known; times and the length of the run kept."""
    task = bus.options(name="first", description="trains", outputs=["model/*"]).bundle(folder, entry="train.py")
    result = task.result(60)
    assert result["exit_code"] == 0
    assert sorted(result["outputs"]) == ["model/large.bin", "model/weights.txt"]
    assert result["outputs"]["model/weights.txt"] == b"42" and len(result["outputs"]["model/large.bin"]) == 300_000
    lines = [(record.stream, record.text) for record in task.logs()]
    assert [text for stream, text in lines if stream == "stdout"] == [f"开始训练 {n}" for n in range(5)]
    assert [text for stream, text in lines if stream == "stderr"] == [f"测试训练错误的情况 {n}" for n in range(5)]
    info = bus.task(task.id).info()
    assert info.submitted <= info.started <= info.ended
    assert info.options.description == "trains" and task.outcome is not None and task.outcome.ran > 0


def test_c36_stop_leaves_nothing_running(bus: headway.Client, folder: Path) -> None:
    task = bus.bundle(folder, ["x"], entry="hold.py")
    pid, child, _ = first_line(task)
    assert task.cancel()
    assert is_gone(pid) and is_gone(child)
    assert task.info().status == "cancelled"


def test_c37_modify_stops_the_old_before_the_new_begins_and_keeps_both(bus: headway.Client, folder: Path) -> None:
    old = bus.options(name="v1").bundle(folder, ["one"], entry="hold.py")
    pid, child, _ = first_line(old)
    new = bus.options(name="v2", replaces=old).bundle(folder, ["two"], entry="hold.py")
    assert first_line(new)[2] == "two"
    assert is_gone(pid) and is_gone(child)
    first, second = old.info(), new.info()
    assert first.status == "cancelled" and first.ended <= second.started
    assert second.options.replaces == old.task_id
    assert [record.text.split()[2] for record in old.logs() if record.stream == "stdout"] == ["one"]
    third = bus.options(replaces=new).bundle(folder, entry="train.py")
    assert third.result(60) == 0


def test_a_version_of_what_has_ended_begins_at_once(bus: headway.Client, folder: Path) -> None:
    old = bus.bundle(folder, entry="train.py")
    assert old.result(60) == 0
    assert bus.options(replaces=old).bundle(folder, entry="train.py").result(60) == 0


def test_what_is_there_already_is_not_sent_again(
    bus: headway.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, sent = blobs._put, []

    async def counting(connection: Any, blob: Blob, frame: Any, offset: int, is_file: bool) -> int:
        sent.append((blob.size, offset))
        return await put(connection, blob, frame, offset, is_file)

    (folder / "data" / "big.bin").write_bytes(os.urandom(3_000_000))
    assert bus.bundle(folder, entry="train.py").result(60) == 0
    (folder / "data" / "rows.csv").write_text("40,2")
    monkeypatch.setattr(blobs, "_put", counting)
    result = bus.options(outputs="model/w*").bundle(folder, entry="train.py").result(60)
    assert result["outputs"] == {"model/weights.txt": b"42"}
    assert [offset for size, offset in sent if size == 3_000_000] == [0]  # the question whether it is there


def test_a_payload_of_ten_mebibytes_and_one_byte(bus: headway.Client, folder: Path) -> None:
    """C-A9."""
    (folder / "data" / "big.bin").write_bytes(bytes(10 * 1024 * 1024 + 1))
    (folder / "size.py").write_text("import os; print(os.stat('data/big.bin').st_size)")
    task = bus.bundle(folder, entry="size.py")
    assert task.result(60) == 0
    assert [record.text for record in task.logs()] == [str(10 * 1024 * 1024 + 1)]


def test_lines_are_visible_while_it_runs(bus: headway.Client, folder: Path, tmp_path: Path) -> None:
    """C-A4: unflushed prints are seen before the end, which waits for this test to have seen them."""
    release = tmp_path / "go"
    (folder / "slow.py").write_text(
        f"import pathlib, time\nprint(1)\nwhile not pathlib.Path({str(release)!r}).exists(): time.sleep(0.01)\nprint(2)"
    )
    task = bus.bundle(folder, entry="slow.py")
    assert first_line(task) == ["1"]
    release.touch()
    assert task.result(60) == 0


def test_outputs_that_lead_out_are_refused(bus: headway.Client, folder: Path) -> None:
    with pytest.raises(ValueError, match="outputs"):
        bus.options(outputs=["../*"])
    with pytest.raises(headway.Refused, match="outputs: only scripts and commands"):
        bus.options(outputs=["*"]).submit("math:sqrt", 1)


def test_a_folder_without_its_entry_never_reaches_the_bus(bus: headway.Client, folder: Path) -> None:
    with pytest.raises(headway.BundleError, match=r"'gone\.py' is not among its files"):
        bus.bundle(folder, entry="gone.py")


def test_exit_with_1_is_a_failure_with_the_code(bus: headway.Client, folder: Path) -> None:
    (folder / "bad.py").write_text(TRAIN + "\nsys.exit(1)")
    task = bus.options(outputs=["model/*"]).bundle(folder, entry="bad.py")
    with pytest.raises(headway.TaskFailed):
        task.result(60)
    error = task.info().error
    assert error is not None and (error.reason, error.exit_code) == (Reason.EXIT, 1)
    assert time.time() >= task.info().ended


MAKE = """
import pathlib
pathlib.Path("model").mkdir()
pathlib.Path("model/small.txt").write_text("42")
with open("model/big.bin", "wb") as file:
    for number in range(20):
        file.write(bytes([number]) * 1_048_576)
"""


def test_outputs_that_are_more_than_a_value_lie_beside_it_and_are_deployed_from_there(
    bus: headway.Client, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "make.py").write_text(MAKE)
    big = b"".join(bytes([number]) * 1_048_576 for number in range(20))
    task = bus.options(outputs=["model/*"]).bundle(folder, entry="make.py")
    outputs = task.outputs(60)
    assert {path: output.size for path, output in outputs.items()} == {"model/big.bin": len(big), "model/small.txt": 2}
    assert isinstance(outputs["model/big.bin"].content, Blob)
    written = task.save(tmp_path / "here")
    assert [path.relative_to(tmp_path / "here").as_posix() for path in written] == ["model/big.bin", "model/small.txt"]
    assert [path.read_bytes() for path in written] == [big, b"42"]
    again = bus.task(task.id)
    assert again.result(60) == {"exit_code": 0, "outputs": {"model/big.bin": big, "model/small.txt": b"42"}}
    assert again.outputs()["model/big.bin"].content == big, "it was fetched before"
    assert again.info().result_size == len(big) + len(
        payloads.encode({"exit_code": 0, "outputs": {"model/small.txt": b"42"}})
    )

    async def refuse(*_: object) -> None:
        raise AssertionError("what lies on the bus need not travel through this process")

    monkeypatch.setattr(blobs, "_put", refuse)
    monkeypatch.setattr(blobs, "_get", refuse)
    deployed = bus.options(timeout_run=60).deploy(outputs["model/big.bin"], "weights/big", "*").result(60)
    ((_, outcome),) = deployed.items()
    assert outcome.value["size"] == len(big) and Path(outcome.value["path"]).read_bytes() == big


def test_what_does_not_fit_into_one_value_is_refused_with_the_way_out(bus: headway.Client, folder: Path) -> None:
    (folder / "make.py").write_text(MAKE)
    task = bus.options(outputs=["model/*"]).bundle(folder, entry="make.py")
    with headway.Client(bus.url) as other:
        connection = other._engine.connection
        connection.limits = replace(connection.limits, payload_limit=10_000_000)
        small = other.task(task.id)
        with pytest.raises(headway.TooLarge, match=r"20971520 bytes in 1 files, .*`headway outputs ID FOLDER`"):
            small.result(60)


def test_a_file_beyond_the_limit_and_one_that_is_not_there(
    bus: headway.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "data" / "big.bin").write_bytes(bytes(3000))
    limits = bus._engine.connection.limits
    monkeypatch.setattr(bus._engine.connection, "limits", replace(limits, file_limit=2999))
    with pytest.raises(headway.TooLarge, match=r"big\.bin has 3000 bytes; one file may have 2999 \(\[bus\] file_limit"):
        bus.bundle(folder, entry="train.py")
    with pytest.raises(FileNotFoundError, match="gone"):
        bus.attach([folder / "gone"])
