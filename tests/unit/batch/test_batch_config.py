"""Batch files: every documented field, both spellings, and errors that a person can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.batch.config import LocalBackend, RemoteBackend, load, load_file
from headway.batch.errors import BatchFileError

JOB: dict[str, Any] = {"name": "job1", "params": {"param1": 1}, "command": "sleep 3"}


def made(tmp_path: Path, **fields: Any) -> Any:
    return load({"name": "b", "jobs": [JOB], **fields}, "batch.json", tmp_path)


def wrong(tmp_path: Path, **fields: Any) -> str:
    with pytest.raises(BatchFileError) as caught:
        made(tmp_path, **fields)
    assert str(caught.value).startswith("batch.json: ")
    return str(caught.value).removeprefix("batch.json: ")


def test_h_a3_the_local_example(tmp_path: Path) -> None:
    file = tmp_path / "batch.json"
    file.write_text(json.dumps({"name": "local_backend_example", "jobs": [JOB], "backend": {"type": "local"}}))
    loaded = load_file(file)
    assert (loaded.name, loaded.jobs[0].name, loaded.jobs[0].params) == ("local_backend_example", "job1", {"param1": 1})
    assert loaded.jobs[0].command == "sleep 3"
    assert isinstance(loaded.config.backend, LocalBackend)
    assert loaded.warnings == ()


def test_h_a3_the_remote_example(tmp_path: Path) -> None:
    machine = {"connection": {"hostname": "host1", "username": "hyperctl", "password": "hyperctl"}}
    loaded = made(tmp_path, backend={"type": "remote", "machines": [machine]}, server={"host": "192.168.10.206"})
    assert isinstance(loaded.config.backend, RemoteBackend)
    connection = loaded.config.backend.machines[0].connection
    assert (connection.username, connection.port) == ("hyperctl", None)  # None: what ~/.ssh/config says, or 22
    assert (loaded.config.server.host, loaded.config.server.port) == ("192.168.10.206", 8060)
    older = made(tmp_path, backend={"type": "remote", "conf": {"machines": [machine]}})
    assert older.config.backend == loaded.config.backend


def test_h_a3_both_spellings(tmp_path: Path) -> None:
    bare = {"name": "x", "params": {}}
    assert load({"name": "b", "job": [JOB]}, "f", tmp_path).jobs[0].command == "sleep 3"
    assert made(tmp_path, jobs=[bare], job_command="true").jobs[0].command == "true"
    assert made(tmp_path, jobs=[{**bare, "job_command": "false"}], job_command="true").jobs[0].command == "false"
    assert "same" in wrong(tmp_path, job=[JOB])


def test_every_field(tmp_path: Path) -> None:
    job = {**JOB, "working_dir": ".", "assets": ["a.txt"], "resource": {"cpu": 1, "ram": "1.5GiB", "gpu": 0}}
    (tmp_path / "a.txt").touch()
    loaded = made(
        tmp_path,
        jobs=[{**job, "timeout": 60, "max_attempts": 3}],
        backend={"type": "local", "environments": {"A": "a b", "N": 3, "T": True}, "slots": 2},
        scheduler={"interval": 5000, "exit_on_finish": True},
        batches_data_dir="out",
        version="0.3",
    )
    assert loaded.jobs[0].resource.memory == 1610612736
    assert loaded.environments == {"A": "a b", "N": "3", "T": "true"}
    assert loaded.batches_folder == tmp_path / "out"
    assert loaded.warnings == ()


def test_the_data_folder_by_variable_and_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERCTL_BATCHES_DATA_DIR", str(tmp_path / "v"))
    assert made(tmp_path).batches_folder == tmp_path / "v"
    monkeypatch.delenv("HYPERCTL_BATCHES_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert made(tmp_path).batches_folder == tmp_path / "hyperctl-batches-data-dir"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"jobs": []}, "jobs: there is no job in it"),
        ({"jobs": [{"name": "x"}]}, "jobs[0]: 'command' is missing"),
        ({"jobs": [JOB, JOB]}, "jobs[1].name: 'job1' is the name of jobs[0] already"),
        ({"jobs": [{**JOB, "command": 3}]}, "jobs[0].command: expected text"),
        ({"jobs": [{**JOB, "params": [1]}]}, "jobs[0].params: expected object"),
        ({"jobs": [{**JOB, "working_dir": "nowhere"}]}, "jobs[0].working_dir: 'nowhere' is not a folder"),
        ({"jobs": [{**JOB, "assets": ["nothing"]}]}, "jobs[0].assets[0]: 'nothing' does not exist"),
        ({"jobs": [{**JOB, "resource": {"ram": "much"}}]}, "expected bytes, or a text such as '512MiB'"),
        ({"jobs": [{**JOB, "resource": {"cpu": -1}}]}, "jobs[0].resource.cpu: expected number >= 0.0"),
        ({"backend": {"type": "cloud"}}, "backend.type: 'cloud' is no backend; expected 'local' or 'remote'"),
        ({"backend": {"type": "remote"}}, "backend: 'machines' is missing"),
        ({"backend": {"type": "local", "environments": {"a b": "1"}}}, "'a b' cannot be exported"),
        ({"server": {"port": 70000}}, "server.port: expected whole number <= 65535"),
        ({"name": ""}, "name: expected text of length >= 1"),
    ],
)
def test_errors_name_the_place_and_what_was_expected(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in wrong(tmp_path, **fields)


def test_a_missing_name() -> None:
    with pytest.raises(BatchFileError, match="'name' is missing"):
        load({"jobs": [JOB]}, "batch.json", Path())


def test_unknown_keys_are_warned_of(tmp_path: Path) -> None:
    loaded = made(tmp_path, jobs=[{**JOB, "comand": "x"}], colour=1, backend={"type": "local", "slot": 1})
    assert [each.partition(" is not known")[0] for each in loaded.warnings] == [
        "batch.json: jobs[0].comand",
        "batch.json: colour",
        "batch.json: backend.slot",
    ]
    assert "did you mean 'command'?" in loaded.warnings[0]


def test_invalid_json_says_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "batch.json"
    file.write_text('{\n  "name": "b",\n  "jobs": [,]\n}')
    with pytest.raises(BatchFileError, match=r"batch\.json: line 3, column 12: "):
        load_file(file)
    file.write_text('{"name": "b", "name": "c"}')
    with pytest.raises(BatchFileError, match="'name' stands twice"):
        load_file(file)
    file.write_text('{"name": NaN}')
    with pytest.raises(BatchFileError, match="NaN is no value in JSON"):
        load_file(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BatchFileError, match="no such file"):
        load_file(tmp_path / "none.json")
    (tmp_path / "x.ini").touch()
    with pytest.raises(BatchFileError, match="expected a file that ends in"):
        load_file(tmp_path / "x.ini")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(BatchFileError, match="not UTF-8"):
        load_file(tmp_path / "x.json")
    (tmp_path / "y.json").write_text("[1]")
    with pytest.raises(BatchFileError, match="not a list"):
        load_file(tmp_path / "y.json")


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "batch.toml"
    file.write_text('name = "t"\n[[jobs]]\nname = "a"\ncommand = "true"\n[jobs.params]\ntol = 1\n')
    assert load_file(file).jobs[0].params == {"tol": 1}
    file.write_text("name = \n")
    with pytest.raises(BatchFileError, match=r"line 1, column 8"):
        load_file(file)


def test_yaml(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "batch.yml"
    file.write_text("name: y\njobs:\n  - name: a\n    command: 'true'\n")
    assert load_file(file).jobs[0].name == "a"
    file.write_text("name: [\n")
    with pytest.raises(BatchFileError, match="line 2, column 1"):
        load_file(file)


def test_a_job_without_a_name_has_the_same_one_again(tmp_path: Path) -> None:
    jobs = [{"params": {"a": 1}, "command": "true"}, {"params": {"a": 1}, "command": "true"}, {"command": "true"}]
    first, second = ([job.name for job in made(tmp_path, jobs=jobs).jobs] for _ in range(2))
    assert first == second
    assert len(set(first)) == 3
