"""Batches at their limits: GPUs, jobs that will not die, a disk that fills, a process that stays, a terminal, many jobs."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from acceptance_shell import HEADWAY, PATIENCE, Shell, wait_for_file
from batch_shell import begun, hyperctl, job, ran, record_of, sleepers, text_of, write_batch

import headway
from headway.batch import folder as batch_folder
from headway.batch.errors import BatchError


def test_gpus_are_given_out_one_by_one(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two jobs meet, each with a GPU of its own; a third one waits until one of them has ended."""
    met = tmp_path / "met"  # of its own: the shell's home lies beside it
    met.mkdir()
    wait = f"while [ $(ls {met} | wc -l) -lt 2 ]; do sleep 0.02; done"
    meet = f'echo "$CUDA_VISIBLE_DEVICES" >{met}/$HYPERCTL_JOB_NAME; {wait}'
    jobs = [job(name, meet, resource={"gpu": 1}) for name in ("a", "b")]
    last = job("c", "echo $CUDA_VISIBLE_DEVICES", resource={"gpu": 2})
    monkeypatch.setenv("HEADWAY_RUNTIME_GPUS", "7,9")
    batch = {"name": "g", "jobs": [*jobs, last], "batches_data_dir": str(shell.home / "data")}
    assert headway.run_batch(batch, slots=4).succeeded
    assert {(met / name).read_text() for name in ("a", "b")} == {"7\n", "9\n"}
    assert text_of(shell, "c", batch="g") == "7,9\n"


def test_a_gpu_that_is_not_there_is_told_before_anything_runs(shell: Shell) -> None:
    done = shell("run", "-c", write_batch(shell, job("j", "true", resource={"gpu": 1000})))
    assert (done.status, "jobs[0].resource: j asks for cpu 0, ram 0, gpu 1000" in done.err) == (2, True), done.err
    assert not (shell.home / "data" / "b" / "j").exists()


def test_a_job_that_will_not_die_is_dead_when_kill_returns(shell: Shell) -> None:
    """It ignores TERM, and one of its processes has left for a session of its own."""
    away = "setsid sh -c \"trap '' TERM; sleep 44; true\""
    stubborn = f"trap '' TERM INT HUP; {away} & touch ../started; while :; do sleep 45; done"
    running = begun(shell, write_batch(shell, job("stubborn", stubborn), job("other", "echo on")), "--slots", "1")
    wait_for_file(shell.home / "data" / "b" / "started")
    killed = hyperctl(shell, "job", "kill", "-b", "b", "-j", "stubborn")
    assert killed.status == 0, killed.err
    assert sleepers(shell, "sleep 4") == []
    assert running.wait(PATIENCE) == 1
    assert (record_of(shell, "stubborn")["status"], text_of(shell, "other")) == ("killed", "on\n")
    assert hyperctl(shell, "job", "logs", "-b", "b").out == "==> stubborn <==\n==> other <==\non\n"
    assert hyperctl(shell, "job", "logs", "-b", "b", "-f").status == 2


def test_a_disk_that_fills_in_the_middle_ends_the_run_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = headway.Batch("b", data_dir=tmp_path)
    for number in range(60):
        batch.add_job(f"j{number}", command=f"echo x >>{tmp_path}/ran-{number}")
    real, left = batch_folder._put, [150]

    def full(path: str, data: bytes, mode: int = 0o644) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        real(path, data, mode)

    monkeypatch.setattr(batch_folder, "_put", full)
    with pytest.raises(BatchError, match="No space left on device; make room and run the batch again"):
        headway.run_batch(batch, slots=2)
    monkeypatch.setattr(batch_folder, "_put", real)
    before = {name: batch.get_persisted_job_status(name) for name in ("j0", "j59")}
    assert before["j0"] == "succeed"
    assert before["j59"] in ("init", "interrupted"), "which of them depends on how far the jobs were"
    for file in (tmp_path / "b").glob("*.json"):
        json.loads(file.read_text())  # none is half
    result = headway.run_batch(batch, slots=2)
    assert result.succeeded
    assert 0 < result.n_skipped < 60
    assert not list((tmp_path / "b").glob("*.part"))


def test_with_exit_on_finish_false_it_stays_and_answers_until_ctrl_c(shell: Shell) -> None:
    pytest.importorskip("uvicorn", reason="the calls over HTTP need: pip install 'headway[http]'")
    file = write_batch(shell, job("j", "true"), server={"port": 0}, scheduler={"exit_on_finish": False})
    for turn in range(2):  # the second time nothing is to be run
        written = shell.home / f"log-{turn}"
        with written.open("w") as log:
            running = shell.start("run", "--config", file, "--plain", stdout=subprocess.DEVNULL, stderr=log)
        portal = portal_of(shell)
        while headway_states(portal) != {"j": "succeed"}:
            assert running.poll() is None
        while "staying until Ctrl-C" not in written.read_text():  # the job says that it is over before the run knows
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 0


def headway_states(portal: str) -> dict[str, str]:
    from headway import hyperctl as library

    return {each["name"]: each["status"] for each in library.list_jobs(portal)}


def portal_of(shell: Shell) -> str:
    """Where the running batch answers, as soon as it does."""
    wait_for_file(shell.home / "data" / "b" / "run.json")
    info: dict[str, Any] = json.loads((shell.home / "data" / "b" / "run.json").read_text())
    return str(info["portal"])


def test_a_terminal_gets_a_table_that_fits_it(shell: Shell) -> None:
    """1,000 jobs, a terminal of 24 lines and 80 columns; with the words of the last of them."""
    jobs = [job(f"job-{number}", "true") for number in range(1000)]
    file = write_batch(shell, *jobs, job("long" * 40, "echo the last words"))
    ours, theirs = pty.openpty()
    environment = {**shell.environment, "TERM": "xterm", "LINES": "24", "COLUMNS": "80"}
    command = [str(HEADWAY), "run", "-c", str(file), "--slots", "2"]
    running = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, cwd=shell.home)
    os.close(theirs)
    parts: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end is closed
                return
            parts.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    assert running.wait(PATIENCE) == 0
    reader.join()
    os.close(ours)
    text = b"".join(parts).decode()
    assert "last line" in text
    assert "longlonglong" in text
    assert "the last words" in text
    assert "1001 of 1001 over, 0 running" in text
    assert "predicted time left" not in text.rpartition("1001 of 1001 over")[2]
    assert "1001 jobs: 1001 succeed" in text
    listed = hyperctl(shell, "job", "list", "-b", "b")
    assert (listed.status, len(listed.out.splitlines())) == (0, 1002)
    assert json.loads(hyperctl(shell, "batch", "list", "--json").out)[0]["succeed"] == 1001


IRIS = """\
from headway import hyperctl
from sklearn import datasets
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.linear_model import LogisticRegression

job_params = hyperctl.get_job_params()  # read job params as a dict from hyperctl

tol=job_params['tol']

X, y = datasets.load_iris(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=8086)

lr = LogisticRegression(tol=tol)
lr.fit(X_train, y_train)
y_pred = lr.predict(X_test)

print(f"tol: {tol}, accuracy_score: {accuracy_score(y_pred, y_test)}")
"""


def test_h_a1_the_iris_example(shell: Shell) -> None:
    """As the manual has it, but for the name of the package. The accuracies are scikit-learn's affair."""
    pytest.importorskip("sklearn", reason="the manual's example needs scikit-learn: pip install 'headway[sklearn]'")
    (shell.home / "sklearn_iris_example.py").write_text(IRIS)
    command = f"{sys.executable} ~/sklearn_iris_example.py"
    ran(shell, write_batch(shell, *(job(f"tol_{tol}", command, params={"tol": tol}) for tol in (1, 100))))
    for tol in (1, 100):
        words, _, accuracy = text_of(shell, f"tol_{tol}").rpartition(" ")
        assert words == f"tol: {tol}, accuracy_score:"
        assert 0.0 <= float(accuracy) <= 1.0
