"""The acceptance examples H-A1 to H-A10 of batches, as a person would try them."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from acceptance_shell import Shell, wait_for_file
from batch_shell import begun, hyperctl, job, ran, record_of, sleepers, text_of, write_batch

from headway import hyperctl as library

EXAMPLE = """\
from headway import hyperctl

job_params = hyperctl.get_job_params()  # read job params as a dict from hyperctl

tol = job_params['tol']

print(f"tol: {tol}, accuracy_score: {hyperctl.get_job_name()}")
"""


def test_h_a1_the_first_example_of_the_manual(shell: Shell) -> None:
    (shell.home / "sklearn_iris_example.py").write_text(EXAMPLE)
    command = f"{sys.executable} ~/sklearn_iris_example.py"
    jobs = [{"name": f"tol_{tol}", "params": {"tol": tol}, "command": command} for tol in (1, 100)]
    (shell.home / "batch.json").write_text(json.dumps({"name": "sklearn_iris_example", "jobs": jobs}))
    done = hyperctl(shell, "run", "--config", "./batch.json")
    assert done.status == 0, done.err
    for tol in (1, 100):
        written = text_of(shell, f"tol_{tol}", batch="sklearn_iris_example")
        assert written == f"tol: {tol}, accuracy_score: tol_{tol}\n"


def test_h_a2_what_is_generated_can_be_run(shell: Shell) -> None:
    pytest.importorskip("yaml")
    template = "params:\n    learning_rate: [0.1,0.2]\n    max_depth: [3, 5]\ncommand: python3 cli.py\n"
    (shell.home / "job-template.yml").write_text(template.replace("python3", "cat params.json || python3"))
    done = hyperctl(shell, "generate", "--template", "./job-template.yml", "--output", "./batch.json")
    assert done.status == 0, done.err
    batch = json.loads((shell.home / "batch.json").read_text())
    assert [list(each["params"].values()) for each in batch["jobs"]] == [[0.1, 3], [0.1, 5], [0.2, 3], [0.2, 5]]
    assert hyperctl(shell, "generate", "--template", "./job-template.yml", "--output", "./batch.json").status == 1
    assert hyperctl(shell, "run", "--config", "./batch.json", "-debug").status == 0
    for before, after in (("-debug", []), ("--log-level=error", []), (None, ["--log-level", "WARN"])):
        words = [*filter(None, [before]), "batch", "list", *after]
        assert (shell(*words).status, hyperctl(shell, *words).status) == (0, 0)
    for each in batch["jobs"]:
        assert json.loads(text_of(shell, each["name"], batch=batch["name"])) == each["params"]


def test_h_a4_and_h_a8_a_second_run(shell: Shell) -> None:
    good, bad = job("good", "echo x >>../good-ran", params={"a": 1}), job("bad", "echo why >&2; exit 3")
    first = ran(shell, write_batch(shell, good, bad), status=1)
    assert (first["n_allocated"], first["n_skipped"], first["states"]) == (2, 0, {"good": "succeed", "bad": "failed"})
    record = record_of(shell, "bad")
    assert (record["exit_code"], record["attempts"], record["status"]) == (3, 1, "failed")
    assert "why" in record["message"]
    again = ran(shell, write_batch(shell, good, bad), status=1)
    assert (again["n_allocated"], again["n_skipped"]) == (1, 1)
    kept = ran(shell, write_batch(shell, good, bad), "--keep-failed", status=1)
    assert (kept["n_allocated"], kept["n_skipped"]) == (0, 2)
    mended = {**bad, "command": "true"}
    assert ran(shell, write_batch(shell, good, mended))["n_allocated"] == 1
    done = ran(shell, write_batch(shell, good, mended))
    assert (done["n_skipped"], done["n_allocated"], done["summary"]["succeed"]) == (2, 0, 2)
    changed = ran(shell, write_batch(shell, {**good, "params": {"a": 2}}, mended))
    assert (changed["n_skipped"], changed["n_allocated"]) == (1, 1)
    forced = ran(shell, write_batch(shell, good, mended), "--force", "--only", "good")
    assert forced["n_allocated"] == 1
    assert (shell.home / "data" / "b" / "good-ran").read_text() == "x\n" * 3


def test_h_a5_a_killed_job_is_gone_with_its_processes(shell: Shell) -> None:
    command = "touch ../started; sh -c 'sleep 41; true' & sleep 42; true"
    file = write_batch(shell, job("long", command), job("short", "true"))
    running = begun(shell, file, "--slots", "2")
    wait_for_file(shell.home / "data" / "b" / "started")
    listed = hyperctl(shell, "job", "list", "-b", "b")
    assert "long  running" in " ".join(listed.out.replace("   ", "  ").splitlines())
    assert "RUNNING" in hyperctl(shell, "batch", "list").out
    busy = shell("run", "--config", file)
    assert busy.status == 1
    assert f"process {running.pid} on" in busy.err
    killed = hyperctl(shell, "job", "kill", "-b", "b", "-j", "long")
    assert (killed.status, killed.json) == (0, {"msg": "long killed"}), killed.err
    assert sleepers(shell, "sleep 4") == []
    assert running.wait(timeout=30) == 1
    assert record_of(shell, "long")["status"] == "killed"
    described = hyperctl(shell, "job", "describe", "-b", "b", "-j", "long").json
    assert (described["status"], described["reason"]) == ("killed", "killed")
    assert (shell.home / "data" / "b" / "long.killed").exists()
    assert hyperctl(shell, "job", "kill", "-b", "b", "-j", "long").status == 1


def test_h_a6_output_environment_and_a_folder_that_is_gone(shell: Shell) -> None:
    gone = shell.home / "gone"
    gone.mkdir()
    file = write_batch(
        shell,
        job("two", "echo first; echo second"),
        job("large", "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo end"),
        job("remover", f"rmdir {gone}"),
        job("nowhere", "echo ran", working_dir=str(gone), resource={"cpu": 2}),
        job("environment", 'printf "%s|" "$MYV" "$HYPERCTL_JOB_NAME" "$HYPERCTL_JOB_WORKING_DIR"'),
        backend={"type": "local", "environments": {"MYV": "a b  c"}, "slots": 1},
    )
    result = ran(shell, file, "--slots", "1", status=1)
    assert {name for name, state in result["states"].items() if state != "succeed"} == {"nowhere"}
    assert text_of(shell, "two") == "first\nsecond\n"
    assert len(text_of(shell, "large")) == 10_000_005
    assert text_of(shell, "environment") == f"a b  c|environment|{shell.home / 'data/b/environment'}|"
    assert text_of(shell, "nowhere") == ""


def test_h_a10_environments_and_assets(shell: Shell) -> None:
    assets = shell.home / "assets"
    (assets / "empty_dir").mkdir(parents=True)
    (assets / "sub_dir").mkdir()
    (assets / "a.txt").write_text("a")
    (assets / "sub_dir" / "b.txt").write_text("b in a sub folder")
    file = write_batch(
        shell,
        job("see", "cat resources/assets/sub_dir/b.txt; test -d resources/assets/empty_dir", assets=["assets"]),
        job("conda", "echo $hyn_test_conda_home"),
        backend={"type": "local", "environments": {"hyn_test_conda_home": "/home/hyperctl/miniconda3"}},
    )
    ran(shell, file)
    assert text_of(shell, "see") == "b in a sub folder"
    assert text_of(shell, "conda") == "/home/hyperctl/miniconda3\n"
    assert ran(shell, file)["n_skipped"] == 2
    (assets / "sub_dir" / "b.txt").write_text("changed")
    assert ran(shell, file)["n_allocated"] == 1
    assert text_of(shell, "see") == "changed"


def test_h_w8_names_of_every_kind(shell: Shell) -> None:
    names = ["f/2", "../up", "two words", "größe 漢字", "n" * 300, "config", "a.json", "-x", "'quoted' $HOME \"x\""]
    file = write_batch(shell, *(job(name, 'printf %s "$HYPERCTL_JOB_NAME"') for name in names), name="of/every kind")
    result = ran(shell, file)
    assert list(result["states"].values()) == ["succeed"] * len(names)
    folder = Path(result["folder"])
    assert folder.parent == shell.home / "data"
    assert sorted(each.read_text() for each in folder.glob("*/stdout")) == sorted(names)
    assert ran(shell, file)["n_skipped"] == len(names)


def test_resources_are_enforced(shell: Shell) -> None:
    script = "import os, sys, time; os.mkdir('../in'); time.sleep(0.2); os.rmdir('../in')"  # fails if another is in
    alone = f'{sys.executable} -c "{script}"'
    jobs = [job(f"j{number}", alone, resource={"cpu": 2}) for number in range(3)]
    hog = job("hog", f"{sys.executable} -c 'x = bytearray(400_000_000); print(len(x))'", resource={"ram": "60MiB"})
    result = ran(shell, write_batch(shell, *jobs, hog), status=1)
    assert [result["states"][f"j{number}"] for number in range(3)] == ["succeed"] * 3
    assert result["states"]["hog"] == "failed"
    huge = shell("run", "-c", write_batch(shell, job("huge", "true", resource={"cpu": 100_000}), name="h"))
    assert huge.status == 2
    assert "jobs[0].resource: huge asks for cpu 100000" in huge.err
    assert not (shell.home / "data" / "h" / "huge").exists()


def test_h_a7_a_running_batch_answers_over_http(shell: Shell) -> None:
    pytest.importorskip("uvicorn", reason="the calls over HTTP need: pip install 'headway[http]'")
    asking = "from headway import hyperctl as h; print(h.get_job(h.get_job_name())['status'])"
    waiting = "touch ../started; sleep 43; true"
    jobs = [job("asks", f'{sys.executable} -c "{asking}"'), job("long", waiting)]
    file = write_batch(shell, *jobs, server={"port": 0})
    running = begun(shell, file, "--slots", "1")
    wait_for_file(shell.home / "data" / "b" / "started")
    wait_for_file(shell.home / "data" / "b" / "asks.succeed")  # the run may hear of the end after the next has begun
    listed = json.loads(hyperctl(shell, "batch", "list", "--json").out)[0]
    assert (listed["status"], listed["running"], listed["succeed"]) == ("RUNNING", 1, 1)
    assert text_of(shell, "asks") == "running\n"
    portal = listed["portal"]
    assert {each["name"]: each["status"] for each in library.list_jobs(portal)} == {
        "asks": "succeed",
        "long": "running",
    }
    assert library.kill_job(portal, "long") == {"msg": "long killed"}
    assert sleepers(shell, "sleep 43") == []
    assert running.wait(timeout=30) == 1


def test_h_w15_a_port_in_use_stops_it_before_anything_runs(shell: Shell) -> None:
    pytest.importorskip("uvicorn", reason="the calls over HTTP need: pip install 'headway[http]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = {"host": "127.0.0.1", "port": taken.getsockname()[1]}
        done = shell("run", "--config", write_batch(shell, job("j", "true"), server=server))
    assert (done.status, "Address already in use" in done.err) == (2, True), done.err
    assert not (shell.home / "data" / "b" / "config.json").exists()
    assert not (shell.home / "data" / "b" / "j").exists()


def test_h_w13_errors_before_anything_runs(shell: Shell) -> None:
    (shell.home / "wrong.json").write_text('{"name": "x",\n "jobs": [}')
    done = shell("run", "--config", "wrong.json")
    assert (done.status, "wrong.json: line 2, column 11" in done.err) == (2, True)
    assert not (shell.home / "data").exists()
    assert hyperctl(shell).status == 0
    assert "{run,generate,batch,job}" in hyperctl(shell).out


def test_what_has_ended_is_listed_shown_read_and_drawn(shell: Shell) -> None:
    pytest.importorskip("matplotlib", reason="charts need the extra plot")
    file = write_batch(shell, job("good", "echo out; echo err >&2"), job("bad", "exit 3"))
    assert hyperctl(shell, "run", "--config", str(file), "--slots", "1", "-error").status == 1
    assert "b  " in hyperctl(shell, "batch", "list").out
    shown = hyperctl(shell, "batch", "show", "-b", "b")
    assert (shown.status, "good" in shown.out, "exit status 3" in shown.out) == (0, True, True)
    for words, text in (([], "out\n"), (["--stderr"], "err\n")):
        logs = hyperctl(shell, "job", "logs", "-b", "b", "-j", "good", *words)
        assert (logs.status, logs.out) == (0, text)
    for name, begins in (("b.html", b"<!doctype html>"), ("b.png", b"\x89PNG")):
        assert shell("plot", "b", "-o", shell.home / name, "--batches-data-dir", shell.home / "data").status == 0
        assert (shell.home / name).read_bytes().startswith(begins)
    wrong = shell("plot", "b", "-o", shell.home / "b.txt", "--batches-data-dir", shell.home / "data")
    assert (wrong.status, "expected a name that ends in .html" in wrong.err) == (2, True)
