from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trainer_document import KEY, SEED, configs

import headway
from headway_trainer import commit_job_func, dataset_utils, get_result_func, get_status, get_status_or_result, trainer
from headway_trainer.document import AsyncResult, AsyncResultTimeout
from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.jobs import Book


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLEEPY_RELEASE", str(here / "never"))
        patch.syspath_prepend(here)
        with headway.local(slots=1, path=[here]) as bus:
            yield bus.url


def committed(url: str, number: int, **changes: Any) -> AsyncResult:
    return commit_job_func(**configs(number, **changes), url=url)


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
    assert result.error and get_status(3) == get_status_or_result("3") == "failed"
    with pytest.raises(headway.NoBus):
        get_result_func(3)


def test_mistakes_are_raised_by_the_call(url: str) -> None:
    with pytest.raises(UnknownName, match="unknown distribution 'unifrom'"):
        committed(url, 4, searcher_config={"range": [1, 10], "distribution": "unifrom"})
    with pytest.raises(UnknownName, match="unknown parameter 'newest_n'"):
        committed(url, 4, name="newest_n")
    with pytest.raises(TrainerError, match="job 99 was not committed"):
        get_result_func(99)


def test_a_job_is_pushed_asked_for_and_cancelled(url: str, tmp_path: Path) -> None:
    book = Book(url)
    job = configs("seven")
    assert book.push({name.removesuffix("_config"): part for name, part in job.items()}) == "seven"
    assert book.status("seven") in ("pending", "running", "succeeded")
    deadline = time.monotonic() + 60
    while not isinstance(found := book.status_or_result("seven"), dict):
        assert found in ("pending", "running") and time.monotonic() < deadline
        time.sleep(0.01)
    assert found[KEY]["model_params"]["value"] == 1 and book.status("seven") == "succeeded"
    book.cancel("seven")
    assert book.status("seven") == "succeeded", "what has ended stays as it is"
    lost = Book(f"ipc://{tmp_path}/nobody")
    waiting = lost.commit(**configs(8))
    lost.cancel(8)
    waiting.wait()
    assert lost.status("8") == "cancelled" == lost.status_or_result(8)
    with pytest.raises(headway.TaskCancelled):
        lost.result(8)
    for wrong in ({}, {"data": {}, "job": {}}, {"data": {"path": "x"}, "job": {}, "model": {}}):
        with pytest.raises(TrainerError):
            book.push(wrong)
    with pytest.raises(TrainerError, match="was not committed"):
        book.status(99)


def test_a_cancelled_job_leaves_nothing_on_the_bus(url: str) -> None:
    book = Book(url)
    job = configs(1)
    [only] = job["model_config"].values()
    only["model_name"] = "trainer_sleepy:Sleepy"
    only["model_params"] = {"name": "n", "value": None, "searcher_config": {"range": [1, 1000]}}
    result = book.commit(**job)
    with headway.Client(url) as bus:
        deadline = time.monotonic() + 60
        while not bus.tasks(status="running"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert book.status(1) == "running"
        book.cancel(1)
        result.wait()
        assert result.error and book.status(1) == "cancelled"
        while bus.tasks(status=["queued", "assigned", "running"]):  # the runtime ends what it runs
            assert time.monotonic() < deadline
            time.sleep(0.01)
