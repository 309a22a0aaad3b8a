"""Batches from Python: what a Batch is and says, and callbacks in their order."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import headway
from headway.batch.errors import BatchFileError

READ = f"{sys.executable} -c 'import headway; print(dict(headway.params()))'"


class Recorder(headway.Callback):
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def on_start(self, batch: Any) -> None:
        self.heard.append(("on_start", batch.name))

    def on_job_start(self, batch: Any, job: Any, executor: Any) -> None:
        self.heard.append(("on_job_start", job.name))

    def on_job_succeed(self, batch: Any, job: Any, executor: Any, elapsed: float) -> None:
        self.heard.append(("on_job_succeed", job.name, executor.folder.name, elapsed > 0))

    def on_job_failed(self, batch: Any, job: Any, executor: Any, elapsed: float) -> None:
        self.heard.append(("on_job_failed", job.name, executor.status, executor.exit_code))

    def on_job_break(self, batch: Any, job: Any, exception: Exception) -> None:
        self.heard.append(("on_job_break", job.name, type(exception).__name__))

    def on_finish(self, batch: Any, elapsed: float) -> None:
        self.heard.append(("on_finish", elapsed > 0))


class Raising(headway.Callback):
    def on_job_start(self, batch: Any, job: Any, executor: Any) -> None:
        raise RuntimeError("a callback's own affair")

    on_start = on_finish = on_job_start  # type: ignore[assignment]


def test_h_a9_callbacks_come_in_their_order_and_cannot_hurt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    batch = headway.Batch("b", data_dir=tmp_path)
    batch.add_job("good", {"tol": 1}, command=READ)
    batch.add_job("bad", command="exit 4")
    recorder, lines, text = Recorder(), io.StringIO(), io.StringIO()
    to_file = headway.JsonLinesCallback(tmp_path / "events.jsonl")
    callbacks = [Raising(), recorder, headway.JsonLinesCallback(lines), to_file, headway.ConsoleCallback(text)]
    result = headway.run_batch(batch, callbacks, slots=1)
    heard = recorder.heard
    assert (heard[0], heard[-1]) == (("on_start", "b"), ("on_finish", True))
    # What is heard of one job comes in order; the next may begin before word of the last one's end has come.
    assert [each for each in heard if each[1] == "good"] == [
        ("on_job_start", "good"),
        ("on_job_succeed", "good", "good", True),
    ]
    assert [each for each in heard if each[1] == "bad"] == [
        ("on_job_start", "bad"),
        ("on_job_failed", "bad", "failed", 4),
    ]
    assert len(heard) == 6
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [each["event"] for each in said] == [each[0] for each in recorder.heard]
    in_file = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [each["event"] for each in in_file] == [each["event"] for each in said]
    assert "bad: failed after" in text.getvalue()
    assert (result.succeeded, result.n_allocated, result.n_skipped) == (False, 2, 0)
    assert (tmp_path / "b" / "good" / "stdout").read_text() == "{'tol': 1}\n"
    assert "a callback of the batch raised" in caplog.text
    assert batch.summary() == {
        "name": "b", "status": "FINISHED", "total": 2, "failed": 1, "init": 0, "succeed": 1, "running": 0,
    }  # fmt: skip
    assert batch.get_persisted_job_status("bad") == "failed"
    assert batch.is_finished()


def test_a_job_that_cannot_be_started_breaks(tmp_path: Path) -> None:
    """Its folder is taken away between the submission and the start: by a job of the same batch, which runs before."""
    recorder = Recorder()
    batch = headway.Batch("b", data_dir=tmp_path)
    batch.add_job("first", command="rm -r ../second")
    batch.add_job("second", command="true")
    headway.run_batch(batch, [recorder], slots=1)
    assert ("on_job_break", "second", "BatchError") in recorder.heard
    assert batch.get_persisted_job_status("second") == "failed"


def test_a_batch_is_what_its_configuration_says(tmp_path: Path) -> None:
    batch = headway.Batch("b", job_command="true", data_dir=tmp_path, scheduler={"interval": 100})
    batch.add_job("a", {"x": [1, None]}, resource={"cpu": 1}).add_job("b", working_dir=str(tmp_path))
    again = headway.Batch.load(json.loads(json.dumps(batch.to_config())))
    assert again.to_config() == batch.to_config()
    assert again.get_job_by_name("a") == {"name": "a", "params": {"x": [1, None]}, "resource": {"cpu": 1}}
    assert again.get_job_by_name("c") is None
    assert (again.status(), again.is_finished()) == ("NOT_START", False)
    assert again.folder == tmp_path / "b"
    with pytest.raises(BatchFileError, match="there is a job 'a' already"):
        batch.add_job("a")
    file = tmp_path / "batch.json"
    file.write_text(json.dumps(batch.to_config()))
    assert headway.Batch.load(file).jobs == batch.jobs


def test_it_runs_where_a_loop_runs_already(tmp_path: Path) -> None:
    async def in_a_notebook() -> bool:
        return headway.run_batch(
            {"name": "n", "jobs": [{"command": "true"}], "batches_data_dir": str(tmp_path)}
        ).succeeded

    assert asyncio.run(in_a_notebook())
