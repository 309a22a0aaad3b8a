"""The log of a study: who may write to it, and what is taken over from where the study was gone on with."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from headway_trainer.errors import StudyBusy, TrainerError
from headway_trainer.studies import Study
from headway_trainer.studies.log import held, is_running, read_log

SPACE = {"x": {"low": 0.0, "high": 1.0}}
BUSY = "another program runs this study"


def made(path: Path | None = None, trials: int = 6) -> Study:
    return Study(SPACE, engine="random", trials=trials, path=path)


def tell(study: Study, count: int) -> None:
    for _ in range(count):
        trial = study.ask()
        assert trial is not None
        study.tell(trial.number, trial.values["x"])


def test_nobody_cuts_the_line_that_another_program_is_writing(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with made(path) as study:
        tell(study, 2)
        with path.open("ab") as half:
            half.write(b'{"tell": 3, "sta')
        written = path.read_bytes()
        with pytest.raises(StudyBusy, match=BUSY):
            Study.load(path)
        assert path.read_bytes() == written
    with Study.load(path):
        assert path.read_bytes() == written[: written.rindex(b"\n") + 1]


def test_a_new_study_where_another_program_has_just_begun_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with made(path), pytest.raises(StudyBusy, match=BUSY):
        made(path)
    with pytest.raises(TrainerError, match="a study is there already"):
        made(path)
    assert not is_running(path), "whoever is refused leaves no lock"


def test_what_cannot_be_loaded_is_neither_made_nor_left_locked(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="No such file"):
        Study.load(tmp_path / "none.jsonl")
    assert not list(tmp_path.iterdir())
    (tmp_path / "bad.jsonl").write_text('{"study": 9}\n')
    with pytest.raises(TrainerError, match="not a study of format 1"):
        Study.load(tmp_path / "bad.jsonl")
    assert not is_running(tmp_path / "bad.jsonl")


def test_a_file_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.touch()
    with held(path, "busy"), pytest.raises(StudyBusy, match="busy"), held(path, "busy"):
        raise AssertionError("held twice")
    with held(path, "busy"):
        assert is_running(path)


def test_who_looks_whether_a_study_runs_stops_nobody_from_running_it(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    made(path).close()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_running(path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for one in lookers:
        one.start()
    try:
        for _ in range(300):
            Study.load(path).close()
    finally:
        stop.set()
        for one in lookers:
            one.join()


def test_what_was_found_elsewhere_is_written_down_once(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with made(path) as study:
        tell(study, 2)
        study.ask()
        elsewhere = Study.load(json.loads(json.dumps(study.state())))
        tell(elsewhere, 3)
        found = elsewhere.state()
        study.absorb(found)
        assert study.state() == found and len(study.trials) == 5
        written = path.read_bytes()
        study.absorb(found)
        assert path.read_bytes() == written, "what is known is not written again"
        with pytest.raises(TrainerError, match="another study's"):
            study.absorb(made().state())
        tell(study, 1)
        assert study.done
    with Study.load(path) as again:
        assert again.state() == study.state()
    records = read_log(path)
    assert len(records) == len({json.dumps(one) for one in records}) == 1 + 6 + 6


def test_a_trial_that_was_told_keeps_what_it_has() -> None:
    study = made()
    tell(study, 1)
    other = study.state()
    other[-1] |= {"loss": 99.0}
    study.absorb(other)
    assert study.trials[0].loss == study.trials[0].values["x"]
