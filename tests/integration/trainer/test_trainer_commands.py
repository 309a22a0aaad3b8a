from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import headway
from headway.cli.app import run
from headway_trainer import load_model
from headway_trainer.cli import study, train

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "trainer"
DIRTY = str(ROOT / "tests" / "data" / "dirty.csv")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway.local(slots=2, path=[EXAMPLES]) as bus:
        yield bus.url


def test_the_forecasting_job_of_the_examples(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report"
    assert run(["--bus", url, str(EXAMPLES / "airpassengers.toml"), "-o", str(report)], train) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["MODEL", "SERIES", "BEST", "MASE", "SMAPE", "RMSE"]
    [row] = json.loads((report / "results.json").read_text())["series"]
    assert [point["time"][:10] for point in row["forecast"]] == [f"1961-{month:02d}-01" for month in range(1, 13)]
    assert row["model"] == "Theta" and row["metrics"]["mase"] < 1.5
    before = (report / "results.json").read_text()
    assert run(["list", str(report), "--json"], study) == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert listed["study"] == "00000-LinearFit" and listed["told"] == listed["trials"] == 20
    assert run(["show", str(report / "studies" / "00000-LinearFit.jsonl")], study) == 0
    assert len(capsys.readouterr().out.splitlines()) == 21
    assert run(["resume", str(report), "--bus", url], study) == 0
    assert (report / "results.json").read_text() == before


def test_options_instead_of_a_file(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--group region,sku --time date --target y --model Naive,MaxNModel --trials 5 --horizon 2 --engine random"
    assert run(["--bus", url, DIRTY, *options.split(), "--json"], train) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["series"]) == 14 and found["table"][1]["model"] == "MaxNModel"


def test_without_a_bus_a_private_one_is_started_and_with_a_wrong_address_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with headway.local(slots=1) as bus:
        gone = bus.url
    options = "--group region,sku --time date --target y --model Naive --trials 1 --horizon 2 --json"
    words = [*options.split(" "), DIRTY]
    assert run(["--bus", gone, *words], train) == 3
    assert f"no bus answers at {gone}" in capsys.readouterr().err
    monkeypatch.setattr("headway_trainer.cli.Settings", lambda: SimpleNamespace(bus=SimpleNamespace(url=gone)))
    assert run(["--bus", gone, *words], train) == 0
    told = capsys.readouterr()
    assert "a private one is started" in told.err
    assert len(json.loads(told.out)["series"]) == 14


def test_a_report_has_models_that_forecast_the_same_and_pictures(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'headway[plot]'")
    report = tmp_path / "report"
    options = "--group region,sku --time date --target y --model Naive,LinearFit --trials 5 --horizon 2 --engine random"
    assert run(["--bus", url, DIRTY, *options.split(), "--export", "--plots", "2", "-o", str(report)], train) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("report.html")
    assert len(list((report / "plots").iterdir())) == 2
    [row] = [one for one in json.loads((report / "results.json").read_text())["series"] if one["group"][1] == "ok"]
    for found in row["models"]:
        loaded = load_model(report / found["file"])
        assert loaded.predict(2).tolist() == found["forecast"]
    assert json.loads((report / row["models"][0]["file"] / "model.json").read_text())["about"]["series"] == row["key"]
    assert run(["--bus", url, DIRTY, *options.split(), "--plots", "2"], train) == 2
    assert "--plots need a folder" in capsys.readouterr().err


def test_mistakes_are_told_before_anything_runs(url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["--bus", url, DIRTY, "--time", "date", "--target", "y", "--model", "Thetta"], train) == 2
    assert "unknown model 'Thetta'; did you mean 'Theta'" in capsys.readouterr().err
    assert run(["--bus", url, DIRTY, "--target", "y"], train) == 2
    assert "time is missing" in capsys.readouterr().err
    assert run([str(EXAMPLES / "airpassengers.toml"), "--horizon", "3"], train) == 2
    assert run(["list", str(tmp_path)], study) == 2


@pytest.mark.parametrize("words", [[], ["--script"]], ids=["function", "script"])
def test_the_search_of_the_examples(url: str, words: list[str]) -> None:
    program = [sys.executable, str(EXAMPLES / "run_search.py"), url, *words]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("16 trials, ") and float(ran.stdout.split()[-1]) < 0.02
