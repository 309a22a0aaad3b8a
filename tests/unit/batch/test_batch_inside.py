"""Inside a job: parameters by the file, by injection, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import headway
from headway import hyperctl
from headway_bus.errors import HeadwayError


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (hyperctl.PARAMS_VARIABLE, hyperctl.NAME_VARIABLE, hyperctl.DATA_DIR_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    yield
    hyperctl.reset_dev_params()


def test_parameters_are_read_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"tol": 1}')
    monkeypatch.setenv(hyperctl.PARAMS_VARIABLE, str(file))
    monkeypatch.setenv(hyperctl.NAME_VARIABLE, "tol_1")
    monkeypatch.setenv(hyperctl.DATA_DIR_VARIABLE, str(tmp_path))
    assert hyperctl.get_job_params() == {"tol": 1}
    assert (hyperctl.get_job_name(), hyperctl.get_job_data_dir()) == ("tol_1", str(tmp_path))
    for wrong in ("[1]", "{"):
        file.write_text(wrong)
        with pytest.raises(HeadwayError, match=r"params\.json"):
            hyperctl.get_job_params()


def test_outside_a_job_it_says_what_to_do() -> None:
    with pytest.raises(HeadwayError, match="headway run"):
        hyperctl.get_job_params()
    with pytest.raises(HeadwayError, match="job_data_dir"):
        hyperctl.get_job_data_dir()
    assert hyperctl.get_job_name() == ""
    assert headway.params() == {}


def test_injected_parameters_and_folder(tmp_path: Path) -> None:
    hyperctl.inject({"a": 1}, job_data_dir=tmp_path)
    assert hyperctl.get_job_params() == {"a": 1}
    assert hyperctl.get_job_data_dir() == str(tmp_path)
    hyperctl.reset_dev_params()
    with pytest.raises(HeadwayError):
        hyperctl.get_job_params()
