"""Templates: the grid in its order, ranges, samples, and names that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.batch.config import load
from headway.batch.errors import BatchFileError
from headway.batch.template import expand, generate, name_of, values_of

TEMPLATE: dict[str, Any] = {
    "params": {"learning_rate": [0.1, 0.2], "max_depth": [3, 5]},
    "command": "python3 cli.py",
}


def jobs_of(**fields: Any) -> list[dict[str, Any]]:
    return list(expand({**TEMPLATE, **fields}, "t.yml")[0]["jobs"])


def test_h_a2_four_jobs_in_the_order_of_the_manual(tmp_path: Path) -> None:
    batch, warnings = expand(TEMPLATE, "t.yml")
    assert [tuple(job["params"].values()) for job in batch["jobs"]] == [(0.1, 3), (0.1, 5), (0.2, 3), (0.2, 5)]
    assert {job["command"] for job in batch["jobs"]} == {"python3 cli.py"}
    assert batch["jobs"][0]["name"] == "learning_rate=0.1,max_depth=3"
    assert warnings == []
    assert len(load(batch, "batch.json", tmp_path).jobs) == 4
    assert expand(TEMPLATE, "t.yml")[0] == batch


def test_h_a2_from_the_file_of_the_manual(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "job-template.yml"
    file.write_text(
        "params:\n    learning_rate: [0.1,0.2]\n    max_depth: [3, 5]\ncommand: python3 cli.py\n", encoding="utf-8"
    )
    assert generate(file)[0]["jobs"] == expand(TEMPLATE, "t.yml")[0]["jobs"]


def test_other_fields_go_to_the_jobs_or_the_batch() -> None:
    batch, _ = expand({**TEMPLATE, "name": "n", "working_dir": "/w", "backend": {"type": "local"}, "version": "1"}, "t")
    assert batch["name"] == "n"
    assert batch["jobs"][3]["working_dir"] == "/w"
    assert (batch["backend"], batch["version"]) == ({"type": "local"}, "1")


def test_no_parameters_are_one_job() -> None:
    assert [(job["name"], job["params"]) for job in jobs_of(params={})] == [("job", {})]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"start": 0, "stop": 10, "step": 5}, [0, 5, 10]),
        ({"start": 0.1, "stop": 0.5, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"start": 3, "stop": 0, "step": -2}, [3, 1]),
        ({"start": 0, "stop": 1, "num": 5}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"logspace": {"start": 0.001, "stop": 10, "num": 5}}, [0.001, 0.01, 0.1, 1.0, 10.0]),
        ({"logspace": {"start": 2, "stop": 8, "num": 1}}, [2.0]),
    ],
)
def test_ranges(value: Any, expected: list[float]) -> None:
    assert values_of(value, "p") == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"params": {"a": 3}}, "params.a: expected a list"),
        ({"params": {"a": []}}, "params.a: an empty list"),
        ({"params": {"a": {"start": 0, "stop": 1}}}, "expected either 'step' or 'num'"),
        ({"params": {"a": {"start": 0, "stop": 1, "step": 0}}}, "never leads from 0 to 1"),
        ({"params": {"a": {"start": 0, "stop": 1, "step": -1}}}, "never leads"),
        ({"params": {"a": {"logspace": {"start": 0, "stop": 1, "num": 3}}}}, "above 0"),
        ({"params": {"a": {"logspace": [-3, 1, 5]}}}, "params.a.logspace: expected {start, stop, num}, got [-3, 1, 5]"),
        ({"command": None}, "'command' is missing"),
        ({"params": {"a": list(range(2000)), "b": list(range(2000))}}, "4000000 combinations"),
        ({"sample": 2, "random": 3}, "the same"),
    ],
)
def test_errors_of_templates(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BatchFileError) as caught:
        jobs_of(**fields)
    assert words in str(caught.value)


def test_a_sample_is_random_and_the_same_again() -> None:
    wide = {"params": {"a": list(range(100)), "b": list(range(100))}, "sample": 7}
    first = jobs_of(**wide)
    assert len(first) == len({job["name"] for job in first}) == 7
    assert jobs_of(**wide) == first
    assert jobs_of(params=wide["params"], random=7) == first
    assert jobs_of(**wide, seed=1) != first
    assert len(jobs_of(sample=100)) == 4


def test_names_are_short_and_different() -> None:
    long = [name_of({"text": "x" * 500 + end}) for end in "ab"]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 100
    assert [job["name"] for job in jobs_of(params={"a": [1, 1]})] == ["a=1", "a=1-2"]
    assert name_of({"a": [1, "ü"], "b": None, "c": True}) == 'a=[1,"ü"],b=null,c=true'
