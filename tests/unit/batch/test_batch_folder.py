"""The batch's folder: names, states, the lock, and files without secrets."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from headway.batch.config import Job, load
from headway.batch.content import Contents, hash_of_tree
from headway.batch.errors import BatchError
from headway.batch.folder import BatchFolder, cannot_write, last_line_of
from headway.batch.names import file_name
from headway.batch.records import JobRecord, RunInfo, State
from headway.batch.script import params_bytes, run_script

RECORD = JobRecord(name="j", status=State.SUCCEED, content="c", elapsed=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> BatchFolder:
    made = BatchFolder.of(tmp_path, "b")
    made.make()
    return made


@pytest.mark.parametrize("name", ["tol_1", "learning_rate=0.1,max_depth=3", "two words", "größe", "x" * 150, "a.b"])
def test_names_that_fit_stay(name: str) -> None:
    assert file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "..",
        ".hidden",
        "x" * 151,
        "漢" * 300,
        "a\nb",
        "a\0b",
        "config",
        "Config",
        "b.json",
        "b.running",
        " a",
        "-a",
        "~",
    ],
)
def test_names_that_do_not_fit_become_safe_and_stay_different(name: str) -> None:
    made = file_name(name)
    assert made == file_name(name) != name
    assert file_name(made) == made
    assert len(made.encode()) <= 150
    assert "/" not in made
    assert made[0] not in ".-~ "
    assert file_name(name + "/") != made


def test_states_are_those_of_the_status_files(folder: BatchFolder) -> None:
    assert folder.states(["j"]) == {"j": State.INIT}
    folder.write_record(RECORD)
    assert (folder.path / "j.succeed").exists()
    assert folder.states(["j"]) == {"j": State.SUCCEED}
    assert folder.read_record("j") == RECORD
    (folder.path / "j.running").touch()
    assert folder.states(["j"]) == {"j": State.INTERRUPTED}  # nobody holds the lock
    descriptor = folder.lock()
    assert descriptor is not None
    assert folder.states(["j"]) == {"j": State.RUNNING}
    os.close(descriptor)
    folder.clear_state("j")
    assert folder.states(["j"]) == {"j": State.INIT}
    assert folder.read_record("j") == RECORD


def test_the_lock_is_held_by_one_and_by_who_inherits_it(folder: BatchFolder) -> None:
    descriptor = folder.lock()
    assert descriptor is not None
    assert folder.lock() is None
    child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    os.close(descriptor)
    assert folder.is_locked()
    child.kill()
    child.wait()
    assert not folder.is_locked()
    again = folder.lock()
    assert again is not None
    os.close(again)


def test_damaged_files_are_as_if_they_were_not_there(folder: BatchFolder) -> None:
    (folder.path / "j.json").write_text('{"name": "j", "sta')
    (folder.path / "run.json").write_text("[]")
    (folder.path / "config.json").write_text("{}")
    assert folder.read_record("j") is None
    assert folder.read_run() is None
    assert folder.read_config() is None
    info = RunInfo(run="r", pid=1, host="h", since=1.0, bus="tcp://127.0.0.1:1")
    folder.write_run(info)
    assert folder.read_run() == info
    folder.forget_run()
    folder.forget_run()


def test_config_json_has_no_secrets(folder: BatchFolder, tmp_path: Path) -> None:
    machine = {
        "connection": {"hostname": "h", "username": "u", "password": "hunter2", "passphrase": "hunter3"},
        "environments": {"API_TOKEN": "hunter4", "HOME_OF": "/x"},
    }
    tree = {"name": "b", "jobs": [{"command": "true"}], "backend": {"type": "remote", "machines": [machine]}}
    folder.write_config(load(tree, "f", tmp_path).config)
    text = (folder.path / "config.json").read_text()
    assert "hunter" not in text
    assert "/x" in text
    assert json.loads(text)["backend"]["type"] == "remote"


def test_a_folder_is_made_anew_for_each_run(folder: BatchFolder, tmp_path: Path) -> None:
    (tmp_path / "asset").mkdir()
    (tmp_path / "asset" / "a.txt").write_text("1")
    job = Job(name="j", command="true", assets=["asset"])
    folder.prepare(job, "script", params_bytes(job), tmp_path)
    (folder.job_path("j") / "stdout").write_text("old")
    (folder.job_path("j") / "resources" / "asset" / "left.txt").touch()
    folder.prepare(job, "script", params_bytes(job), tmp_path)
    assert sorted(path.name for path in folder.job_path("j").rglob("*")) == [
        "a.txt", "asset", "params.json", "resources", "run.sh",
    ]  # fmt: skip
    assert folder.has_script("j", "script")
    assert not folder.has_script("j", "another")
    assert (folder.job_path("j") / "run.sh").stat().st_mode & 0o777 == 0o700


def test_a_full_disk_is_told_with_what_to_do(folder: BatchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "j.json.part")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(BatchError, match=r"No space left on device; make room and run the batch again"):
        folder.write_record(RECORD)
    assert folder.states(["j"]) == {"j": State.INIT}
    assert "make room" not in str(cannot_write(Path("x"), OSError(errno.EACCES, "Permission denied")))


def content(tmp_path: Path, environments: dict[str, str] | None = None, **fields: Any) -> str:
    return Contents(tmp_path, environments or {}).of(Job(**{"name": "j", "command": "true", **fields}))


def test_content_changes_with_what_the_job_is_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    base = content(tmp_path, params={"a": 1, "b": 2}, assets=["a"])
    assert content(tmp_path, params={"b": 2, "a": 1}, assets=["a"], timeout=3.0) == base
    os.utime(tmp_path / "a" / "x", (1, 1))
    assert content(tmp_path, params={"a": 1, "b": 2}, assets=["a"]) == base
    others = [
        content(tmp_path, params={"a": 1, "b": 3}, assets=["a"]),
        content(tmp_path, params={"a": 1, "b": 2}, assets=["a"], command="false"),
        content(tmp_path, {"E": "1"}, params={"a": 1, "b": 2}, assets=["a"]),
        content(tmp_path, params={"a": 1, "b": 2}),
    ]
    (tmp_path / "a" / "x").write_text("2")
    others.append(content(tmp_path, params={"a": 1, "b": 2}, assets=["a"]))
    assert len({base, *others}) == 6


def test_the_hash_of_a_folder_knows_names_and_empty_folders(tmp_path: Path) -> None:
    hashes = set()
    for name in ("x", "y"):
        (tmp_path / "f").mkdir(exist_ok=True)
        (tmp_path / "f" / name).mkdir()
        hashes.add(hash_of_tree(tmp_path / "f"))
    assert len(hashes) == 2


def test_the_script_quotes_everything_but_the_command(tmp_path: Path) -> None:
    hostile = 'it\'s $(touch hit) `touch hit` "x"\nnewline'
    job = Job(name=hostile, command='printf "%s" "$V" "$HYPERCTL_JOB_NAME"')
    (tmp_path / "job").mkdir()
    script = run_script(
        job, "b", tmp_path / "job", quote(str(tmp_path / "job")), {"V": hostile}, ("http://127.0.0.1:1", "")
    )
    (tmp_path / "run.sh").write_text(script)
    subprocess.run(["/bin/sh", "run.sh"], cwd=tmp_path, check=True)
    assert (tmp_path / "job" / "stdout").read_text() == hostile * 2
    assert not list(tmp_path.rglob("hit"))
    assert "HYPERCTL_SERVER_PORTAL=http://127.0.0.1:1\n" in script
    assert "TOKEN" not in script


def test_the_last_line(tmp_path: Path) -> None:
    file = tmp_path / "f"
    assert last_line_of(file) == ""
    file.write_text("one\n10%\r20%\n\n")
    assert last_line_of(file) == "20%"
    file.write_bytes(b"x" * 5000 + b"\n\xff\x1b[1m")
    assert "\x1b" not in last_line_of(file)
