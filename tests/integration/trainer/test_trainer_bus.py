from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import headway
import headway_trainer
from headway.calls import Caller
from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.studies import Study

DATA = Path(__file__).parents[2] / "data"
HERE = Path(__file__).parent
BOWL = {"x": {"low": -5.0, "high": 5.0}, "y": {"low": -5.0, "high": 5.0}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway.local(slots=2, path=[HERE]) as bus:
        yield bus.url


def on(url: str, work: Any) -> Any:
    async def run() -> Any:
        async with headway.connect(url) as bus:
            return await work(bus)

    return asyncio.run(asyncio.wait_for(run(), 100))


def dirty(**changes: Any) -> dict[str, Any]:
    job = {"path": str(DATA / "dirty.csv"), "group": ["region", "sku"], "time": "date", "target": "y"}
    return job | {"models": ["Naive", "LinearFit"], "horizon": 3, "trials": 6, "engine": "random"} | changes


def test_in_batches_a_search_is_the_same_with_one_worker_and_with_four(url: str) -> None:
    pytest.importorskip("hyperopt", reason="pip install 'headway[trainer]'")

    def found(parallel: int) -> list[dict[str, Any]]:
        async def work(bus: headway.Bus) -> Study:
            with Study(BOWL, engine="hyperopt", trials=32, mode="batch", batch=4) as study:
                from headway_trainer.running.drive import Told, drive

                async def run(trial: Any) -> Told:
                    return Told(await (await bus.submit("trainer_objectives:bowl", **trial.values)))

                await drive(study, run, parallel)
            return study

        study = on(url, work)
        return [{"values": trial.values, "loss": trial.loss} for trial in study.trials]

    assert found(1) == found(4)


def test_failed_trials_do_not_end_a_search_and_it_goes_on_from_its_log(url: str, tmp_path: Path) -> None:
    space = {"n": {"low": 1, "high": 9}, "folder": str(tmp_path)}
    path = tmp_path / "study.jsonl"

    async def work(bus: headway.Bus) -> Study:
        return await headway_trainer.search(
            bus, "trainer_objectives:fussy", space, trials=20, parallel=3, engine="random", path=path
        )

    study = on(url, work)
    assert study.best is not None and study.best.values["n"] == 1 and study.best.result["note"] == "tried 1"
    failed = [trial for trial in study.trials if trial.status == "failed"]
    assert [trial.values["n"] for trial in failed] == [3, 6, 9]
    assert "not to my taste" in failed[0].reason
    lines = path.read_bytes().splitlines(keepends=True)
    assert "tell" in json.loads(lines[-1])
    path.write_bytes(b"".join(lines[:-1]))
    again = on(url, work)
    assert [trial.loss for trial in again.trials] == [trial.loss for trial in study.trials]
    runs = {n: (tmp_path / str(n)).read_text().count("ran") for n in range(1, 10)}
    assert set(runs.values()) == {1}, "the result of the trial that was not told is still on the bus"


@pytest.mark.parametrize("granularity", ["series", "trial"])
def test_a_file_with_every_defect_is_trained(url: str, tmp_path: Path, granularity: str) -> None:
    seen: list[tuple[int, int]] = []

    async def work(bus: headway.Bus) -> dict[str, Any]:
        job = dirty(granularity=granularity)
        return await headway_trainer.train(bus, job, folder=tmp_path, progress=lambda *at: seen.append(at))

    found = on(url, work)
    rows = {row["group"][1]: row for row in found["series"]}
    assert rows["all_nan"]["status"] == "refused" and rows["all_nan"]["forecast"] == []
    assert rows["one"]["status"] == "short" and [at["value"] for at in rows["one"]["forecast"]] == [5.0] * 3
    assert rows["constant"]["forecast"][0] == {"time": "2024-02-10 00:00:00", "value": 42.0}
    good = rows["ok"]
    assert good["forecast"][0]["time"] == "2024-02-10 00:00:00" and good["model"] in ("Naive", "LinearFit")
    assert good["metrics"]["mase"] == min(model["metrics"]["mase"] for model in good["models"])
    linear = next(model for model in good["models"] if model["model"] == "LinearFit")
    assert len(linear["trials"]) == 6 and type(linear["params"]["latest_n"]) is int
    losses = [trial["loss"] for trial in linear["trials"]]
    assert linear["metrics"]["mase"] == pytest.approx(min(losses))
    assert seen[-1] == (66, 66)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))
    with (tmp_path / "forecasts.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 13 * 3 and lines[0]["sku"] == "ok" and lines[0]["time"] == "2024-02-10 00:00:00"
    assert on(url, work) == found


def test_a_model_that_fails_stops_no_other_and_each_series_is_told_of(url: str) -> None:
    told: list[tuple[str, int, int]] = []

    async def work(bus: headway.Bus) -> dict[str, Any]:
        import trainer_objectives  # registers Firstling here; the runtimes import it by its path

        assert trainer_objectives.Firstling.name == "Firstling"
        job = dirty(models=["Naive", "Firstling", "trainer_objectives:Stubborn"], trials=0)
        return await headway_trainer.train(bus, job, listener=lambda row, *at: told.append((row["label"], *at)))

    found = on(url, work)
    rows = {row["group"][1]: row for row in found["series"]}
    assert rows["ok"]["status"] == "ok" and rows["ok"]["model"] == "Naive"
    assert rows["ok"]["reasons"][-1].endswith("Stubborn: RuntimeError: no")
    assert [one["model"] for one in rows["ok"]["models"]] == ["Naive", "Firstling"]
    assert (
        len(told) == 14
        and told[-1][1:] == (14, 14)
        and {name for name, _, _ in told} == {row["label"] for row in found["series"]}
    )


def test_both_granularities_and_a_half_done_folder_find_the_same(url: str, tmp_path: Path) -> None:
    def found(folder: Path, granularity: str) -> list[Any]:
        async def work(bus: headway.Bus) -> dict[str, Any]:
            return await headway_trainer.train(bus, dirty(granularity=granularity, mode="batch"), folder=folder)

        return [(row["params"], row["metrics"], row["forecast"]) for row in on(url, work)["series"]]

    expected = found(tmp_path / "series", "series")
    assert found(tmp_path / "trial", "trial") == expected
    studies = sorted((tmp_path / "trial" / "studies").iterdir())
    studies[0].unlink()
    studies[1].write_bytes(studies[1].read_bytes()[:-30])
    assert found(tmp_path / "trial", "trial") == expected


@pytest.mark.parametrize("granularity", ["series", "trial"])
def test_each_series_has_the_season_of_its_step(url: str, tmp_path: Path, granularity: str) -> None:
    months = [f"m,{2015 + at // 12}-{at % 12 + 1:02d}-01,{10 + at / 9 + 5 * (at % 12 == 11)}" for at in range(60)]
    days = [f"d,{datetime(2024, 1, 1) + timedelta(days=at)},{10 + at % 7}" for at in range(60)]
    data = tmp_path / "data.csv"
    data.write_text("\n".join(["what,ds,y", *months, *days]))

    def found(**changes: Any) -> dict[str, Any]:
        job = {"path": str(data), "group": ["what"], "time": "ds", "target": "y", "horizon": 6, "engine": "random"}
        job |= {"models": ["SES", "LinearFit"], "trials": 4, "mode": "batch", "granularity": granularity, **changes}
        return {row["label"]: row for row in on(url, lambda bus: headway_trainer.train(bus, job))["series"]}

    guessed, yearly, none = found(), found(season=12), found(season=1)
    assert (guessed["m"]["season"], guessed["d"]["season"]) == (12, 1)
    assert guessed["m"] == yearly["m"] and guessed["d"] == none["d"]
    [smooth] = [one for one in guessed["m"]["models"] if one["model"] == "SES"]
    assert smooth["params"]["season"] == 12 and guessed["m"]["metrics"] != none["m"]["metrics"]


@pytest.mark.parametrize("granularity", ["series", "trial"])
def test_a_long_series_goes_to_a_runtime_once(
    url: str, tmp_path: Path, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is attached to its tasks as a file; what is found is what is found when it travels with each of them."""
    from headway_trainer.running import training

    data = tmp_path / "long.csv"
    start = datetime(2024, 1, 1)
    rows = [f"{start + timedelta(hours=at)},{at % 24 + at / 1000},{at % 5}" for at in range(3000)]
    data.write_text("\n".join(["ds,y,x", *rows]))
    job = {"path": str(data), "time": "ds", "target": "y", "features": ["x"], "models": ["LinearFit"], "trials": 8}
    job |= {"engine": "random", "granularity": granularity, "horizon": 3, "mode": "batch", "folds": 2}
    sizes: list[int] = []
    encode = Caller.encode
    monkeypatch.setattr(Caller, "encode", lambda *a: sizes.append(len(found := encode(*a))) or found)

    async def work(bus: headway.Bus) -> dict[str, Any]:
        return await headway_trainer.train(bus, job)

    found = on(url, work)
    assert max(sizes) < 4096, "no task carries the series"
    monkeypatch.setattr(training, "LONG", 10**9)
    assert on(url, work) == found
    assert max(sizes) > 3000 * 8


def test_the_job_is_refused_before_anything_runs(url: str, tmp_path: Path) -> None:
    bike = {"path": str(DATA / "bike_day.csv"), "time": "dteday", "target": "cnt", "engine": "random"}
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        (dirty(models=["Teta"]), UnknownName, "job.models: unknown model 'Teta'; did you mean 'Theta'"),
        (dirty(metric="masse"), UnknownName, "unknown metric 'masse'; did you mean 'mase'"),
        (dirty(models={"MaxN": {"latest": 3}}), UnknownName, "job.models.MaxN: unknown parameter 'latest'"),
        (dirty(models={"MaxN": {"latest_n": {"low": 5, "high": 1}}}), TrainerError, "low 5 is above high 1"),
        (dirty(models={"MaxN": {"latest_n": {"low": 0, "high": 5}}}), TrainerError, "0 is out of range"),
        (dirty(target="z"), TrainerError, "no column 'z'; it has region, sku, date, y, price, promo"),
        (dirty(target=["y"]), TrainerError, "['y'] is no column; expected a name or an index from 0"),
        (
            dirty(engine="bayes"),
            UnknownName,
            "job.engine: unknown engine 'bayes'. Known: grid, hyperopt, optuna, random",
        ),
        (dirty(metrics=5), TrainerError, "job.metrics: 5; expected a list of names"),
        (dirty(policies="x"), TrainerError, "job.policies: 'x'; expected a table of settings"),
        (dirty(horizn=3), UnknownName, "job: unknown setting 'horizn'; did you mean 'horizon'"),
        (bike | {"features": ["casual", "registered"]}, TrainerError, "weighted sum of casual and registered"),
    ]
    for job, error, complaint in refused:

        async def work(bus: headway.Bus, job: dict[str, Any] = job) -> dict[str, Any]:
            return await headway_trainer.train(bus, job)

        with pytest.raises(error) as told:
            on(url, work)
        assert complaint in str(told.value)
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(TrainerError, match="results of another job"):
        on(url, lambda bus: headway_trainer.train(bus, dirty(), folder=tmp_path))


def test_a_runtime_loads_neither_pandas_nor_hyperopt_for_a_trial(url: str) -> None:
    async def work(bus: headway.Bus) -> list[str]:
        call = ("Theta", {}, [1.0, 2.0, 4.0, 3.0, 5.0, 7.0], None)
        settings = {"metric": "mae", "metrics": ["mae"], "horizon": 1, "folds": 2, "season": 1, "validation": "rolling"}
        task = await bus.submit("trainer_probe:loaded_after_trial", *call, settings)
        loaded: list[str] = await task
        return loaded

    assert on(url, work) == []
