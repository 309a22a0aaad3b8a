from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headway
from headway_trainer import commit_job_func, dataset_utils, get_result_func, trainer
from headway_trainer.document import AsyncResult, AsyncResultTimeout
from headway_trainer.errors import TrainerError, UnknownName

SEED = Path(__file__).parents[2] / "data" / "seed_vmseries.csv"
KEY = "('asiasoutheast', 'FS')"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway.local(slots=1) as bus:
        yield bus.url


def committed(url: str, number: int, **changes: Any) -> AsyncResult:
    params = {
        "name": "lastest_n",
        "description": "the lastest n values for prediction",
        "value": None,
        "searcher": {
            "package": "hyperopt",
            "search_times": 100,
            "criterion": {"name": "mse", "description": "mean square error"},
        },
        "searcher_config": {"range": [1, 10], "distribution": "uniform"},
    }
    return commit_job_func(
        data_config={"path": str(SEED)},
        job_config={"job_id": number, "groupby_indexs": [0, 1], "target_index": 3, "ts_index": 2},
        series_config={"feature_indexs": {KEY: []}},
        model_config={KEY: {"model_name": "MaxNModel", "model_params": params | changes, "model_performance": []}},
        url=url,
    )


def test_the_example_gives_what_is_printed_with_it() -> None:
    dataset = dataset_utils.get_sliced_dataset(SEED, [0, 1], ["asiasoutheast", "FS"])
    model = trainer.trainer("LinearFit", {"latest_n": 5, "add_std_factor": 0})
    metrics, config, _ = model.train(dataset, 3, 2, [])
    assert model.predict(5) == {f"2020-09-{8 + day:02d} 00:00:00": 236 + 2 * day for day in range(5)}
    assert metrics == {"mse": 255.0, "rmse": 15.968719422671311}
    assert config == {"latest_n": 5, "add_std_factor": 0}


def test_refitted_the_dates_are_those_of_the_values() -> None:
    dataset = dataset_utils.get_sliced_dataset(SEED, [0, 1], ["asiasoutheast", "FS"])
    model = trainer.trainer("LinearFit", {"latest_n": 5, "add_std_factor": 0}, validation="rolling")
    model.train(dataset, 3, 2)
    assert [round(value) for value in model.predict(5).values()] == [223, 223, 223, 222, 222]


def test_a_committed_job_has_a_handle_at_once_and_then_the_filled_in_dict(url: str) -> None:
    called = threading.Event()
    result = committed(url, 1)
    result.add_callback(lambda one: called.set() if one.ready else None)
    assert get_result_func(1)[KEY]["model_performance"] == [] or result.ready
    found = result.value[KEY]
    assert called.wait(10) and result.ready and not result.error and not result.expired
    assert found["model_params"]["value"] == 1 and type(found["model_params"]["value"]) is int
    [performance] = found["model_performance"]
    assert performance["metrics"]["mse"] == pytest.approx(8.6)
    assert list(performance["predictions"]) == [f"2020-09-{day:02d} 00:00:00" for day in range(8, 13)]
    assert get_result_func("1") == result.value


def test_a_given_value_is_not_searched(url: str) -> None:
    found = committed(url, 2, value=5).value[KEY]
    assert found["model_params"]["value"] == 5
    assert found["model_performance"][0]["metrics"]["mse"] == pytest.approx(160.4)


def test_an_expiry_passes_and_a_failure_is_raised(tmp_path: Path) -> None:
    result = committed(f"ipc://{tmp_path}/nobody", 3)
    result.set_expiry(0.0)
    with pytest.raises(AsyncResultTimeout):
        result.wait()
    assert result.expired and not result.error
    result.set_expiry(None)
    with pytest.raises(headway.NoBus):
        result.value  # noqa: B018
    assert result.error
    with pytest.raises(headway.NoBus):
        get_result_func(3)


def test_mistakes_are_raised_by_the_call(url: str) -> None:
    with pytest.raises(UnknownName, match="unknown distribution 'unifrom'"):
        committed(url, 4, searcher_config={"range": [1, 10], "distribution": "unifrom"})
    with pytest.raises(UnknownName, match="unknown parameter 'newest_n'"):
        committed(url, 4, name="newest_n")
    with pytest.raises(TrainerError, match="job 99 was not committed"):
        get_result_func(99)
