"""headway study: list, show, cancel, resume and plot, while another program runs the study."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headway
from headway.cli.app import run
from headway_trainer.cli import study, train

HERE = Path(__file__).parent
SEARCH = """
import asyncio, sys, headway, headway_trainer
async def main(url, path, folder):
    space = {"x": {"low": -5.0, "high": 5.0}, "y": {"low": 0.001, "high": 5.0, "log": True}, "folder": folder}
    async with headway.connect(url) as bus:
        options = {"trials": 40, "parallel": 3, "engine": "random", "mode": "batch"}
        await headway_trainer.search(bus, "trainer_objectives:gated_bowl", space, path=path, **options)
asyncio.run(main(*sys.argv[1:]))
"""
TRAIN = """
import asyncio, json, sys, headway, headway_trainer
async def main(url, folder, job):
    async with headway.connect(url) as bus:
        await headway_trainer.train(bus, json.loads(job), folder=folder)
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sleepy") / "release"


@pytest.fixture(scope="module")
def url(release: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLEEPY_RELEASE", str(release))
        with headway.local(slots=2, path=[HERE]) as bus:
            yield bus.url


def until(what: str, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert run(["list", str(folder), "--json"], study) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_a_search_is_cancelled_from_elsewhere_and_gone_on_with(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bowl.jsonl"
    program = subprocess.Popen(
        [sys.executable, "-c", SEARCH, url, str(path), str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    try:
        until("those that do not wait have ended", lambda: path.exists() and path.read_bytes().count(b'{"tell"') == 6)
        assert [row["state"] for row in listed(tmp_path, capsys)] == ["running"]
        assert run(["resume", str(path), "--bus", url], study) == 1
        assert "another program runs this study" in capsys.readouterr().err
        assert run(["cancel", str(path), "--bus", url], study) == 0
        assert capsys.readouterr().out.startswith(f"cancelled {path}: ")
        _, said = program.communicate(timeout=60)
    finally:
        program.kill()
        program.wait()
    assert f"StudyCancelled: {path}: it was cancelled; `headway study resume {path}` goes on with it" in said
    [row] = listed(tmp_path, capsys)
    assert row["state"] == "cancelled" and row["told"] == 6 and row["failed"] == 0
    with headway.Client(url) as bus:
        assert not [info for info in bus.tasks() if info.status in ("queued", "assigned", "running")]
    (tmp_path / "release").touch()
    assert run(["resume", str(path), "--bus", url], study) == 0
    assert capsys.readouterr().out.startswith("40 trials; the best is ")
    [row] = listed(tmp_path, capsys)
    assert row["state"] == "done" and row["done"] == 40
    assert run(["cancel", str(path), "--bus", url], study) == 0
    assert "there is nothing to cancel" in capsys.readouterr().out
    assert run(["list", str(tmp_path)], study) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == [
        "STUDY",
        "STATE",
        "TRIALS",
        "PRUNED",
        "FAILED",
        "BEST",
        "VALUES",
    ]
    assert run(["show", str(path)], study) == 0
    assert len(capsys.readouterr().out.splitlines()) == 41


@pytest.mark.parametrize("granularity", ["trial", "series"])
def test_a_training_is_cancelled_from_elsewhere_and_gone_on_with(
    url: str,
    release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    granularity: str,
) -> None:
    release.unlink(missing_ok=True)
    data, report = tmp_path / "data.csv", tmp_path / "report"
    lines = [f"{2000 + at // 12}-{at % 12 + 1:02d}-01,{at % 7 + at / 10}" for at in range(400)]
    data.write_text("\n".join(["ds,y", *lines]))
    job = {"path": str(data), "time": "ds", "target": "y", "horizon": 3, "folds": 2, "granularity": granularity}
    job |= {"models": {"trainer_sleepy:Sleepy": {"n": {"low": 1, "high": 1000}}}, "trials": 12, "engine": "random"}
    program = subprocess.Popen(
        [sys.executable, "-c", TRAIN, url, str(report), json.dumps(job)],
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(HERE), "PATH": ""},
    )
    try:
        with headway.Client(url) as bus:
            until(
                "something of it runs",
                lambda: [one for one in bus.tasks(status="running") if "train-" in one.options.job],
            )
        assert [row["state"] for row in listed(report, capsys)] == ["running"]
        monkeypatch.syspath_prepend(HERE)
        assert run(["resume", str(report), "--bus", url], study) == 1
        assert "another program runs this training" in capsys.readouterr().err
        [part] = (report / "studies").iterdir()
        assert run(["cancel", str(part), "--bus", url], study) == 2
        assert f"it is one of the studies of {report}; cancel that" in capsys.readouterr().err
        assert run(["cancel", str(report), "--bus", url], study) == 0
        _, said = program.communicate(timeout=60)
    finally:
        program.kill()
        program.wait()
    assert "StudyCancelled" in said, said
    capsys.readouterr()
    assert [row["state"] for row in listed(report, capsys)] == ["cancelled"]
    release.touch()
    assert run(["resume", str(report), "--bus", url], study) == 0
    assert "Sleepy" in capsys.readouterr().out
    [row] = listed(report, capsys)
    assert row["state"] == "done" and row["done"] == 12


def test_a_report_is_gone_on_with_from_another_folder_and_tells_that_nothing_was_forecast(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("\n".join(["ds,y", *(f"2024-01-{day:02d},{day}" for day in range(1, 29))]))
    options = "data.csv --time ds --target y --model trainer_objectives:Stubborn --trials 0 --plots 0 -o report"
    assert run([*options.split(), "--bus", url], train) == 1
    assert "Stubborn: RuntimeError: no" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["resume", "../report", "--bus", url], study) == 1
    assert "Stubborn: RuntimeError: no" in capsys.readouterr().err


def test_a_study_is_drawn(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'headway[plot]'")
    from headway_trainer.studies import Study

    space = {"x": {"low": 0.001, "high": 5.0, "log": True}, "n": {"low": 1, "high": 3}, "kind": ["a", "b"]}
    with Study(space, engine="random", trials=12, pruning="asha", path=tmp_path / "one.jsonl") as made:
        while (trial := made.ask()) is not None:
            stop = made.report(trial.number, trial.values["x"], 1) or made.report(
                trial.number, trial.values["x"] / 2, 2
            )
            made.tell(trial.number, None if trial.number == 4 and not stop else trial.values["x"])
    Study(space, engine="random", path=tmp_path / "empty.jsonl").close()
    for name, begin in (("a.png", b"\x89PNG"), ("b.svg", b"<?xml"), ("c.html", b"<!doctype html>")):
        assert run(["plot", str(tmp_path / "one.jsonl"), "-o", str(tmp_path / "plots" / name)], study) == 0
        assert (tmp_path / "plots" / name).read_bytes().startswith(begin)
    assert run(["plot", str(tmp_path / "one.jsonl"), "-o", "x.txt"], study) == 2
    assert "unknown form '.txt'" in capsys.readouterr().err
    assert run(["plot", str(tmp_path / "empty.jsonl"), "-o", "x.png"], study) == 2
    assert "no trial has ended yet" in capsys.readouterr().err
    (tmp_path / "empty.jsonl").unlink()
    assert run(["plot", str(tmp_path), "-o", str(tmp_path / "all.html")], study) == 0
    assert b"<h2>one</h2>" in (tmp_path / "all.html").read_bytes()
    assert run(["plot", str(tmp_path), "-o", str(tmp_path / "drawn")], study) == 0
    assert (tmp_path / "drawn" / "one.png").exists()


def test_what_is_no_study_is_told(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.jsonl").write_text("{}\n")
    for verb in ("show", "cancel", "resume"):
        assert run([verb, str(tmp_path / "no.jsonl"), *(["--bus", url] if verb != "show" else [])], study) == 2
        assert "not a study of format 1" in capsys.readouterr().err
    assert run(["cancel", str(tmp_path), "--bus", url], study) == 2
    assert "it has no job.json" in capsys.readouterr().err
