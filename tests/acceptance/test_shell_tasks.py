"""The verbs that give work and look at it, as a person types them."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from acceptance_shell import PATIENCE, Shell

import headway

ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")


def test_submit_and_wait(bus: Shell) -> None:
    assert bus.ok("submit", "statistics:fmean", "[1, 2, 4]", "--wait").out.startswith("2.33333")
    assert bus.ok("submit", "work:add", "1", "2", "-3", "--kw", "extra=10", "--wait").out == "10\n"
    assert bus.ok("submit", "work:kinds", "3", "three", '"3"', "null", "[1]", "-w").out == (
        '["int", "str", "str", "NoneType", "list"]\n'
    )
    assert bus.ok("submit", "work:kinds", "3", "--kw", "a=3", "--string", "--wait").out == '["str", "str"]\n'
    assert bus.ok("submit", "work:kinds", "--wait", "--", "--wait").out == '["str"]\n'


def test_submit_prints_an_id_that_show_understands(bus: Shell) -> None:
    task = bus.ok("submit", "work:add", "1", "--name", "one", "--job", "shown").out.strip()
    assert ID.fullmatch(task)
    bus.ok("submit", "work:add", "2", "--after", task[:8], "--wait")
    shown = bus.ok("show", task[:8])
    assert task in shown.out
    assert "succeeded" in shown.out
    data = bus.ok("show", task, "--json").json
    assert (data["id"], data["status"], data["name"], data["job"]) == (task, "succeeded", "one", "shown")
    assert [step["status"] for step in data["story"]][-1] == "succeeded"
    assert data["started_seconds"] <= data["ended_seconds"]


def test_json_of_a_waited_task(bus: Shell) -> None:
    data = bus.ok("submit", "work:add", "1", "2", "--wait", "--json").json
    assert (data["status"], data["result"], data["error"]) == ("succeeded", 3, None)
    failed = bus("submit", "work:fail", "on purpose", "--wait", "--json")
    assert failed.status == 1
    assert (failed.json["status"], failed.json["error"]["reason"]) == ("failed", "exception")


def test_a_failure_is_told_with_its_traceback_and_status_1(bus: Shell) -> None:
    done = bus("submit", "work:fail", "on purpose", "--wait")
    assert (done.status, done.out) == (1, "")
    assert "ValueError: on purpose" in done.err
    assert "work.py" in done.err


def test_what_cannot_be_is_a_usage_error(bus: Shell) -> None:
    assert bus("submit", "no target at all").status == 2
    assert bus("submit", "work:add", "--priority", "high").status == 2
    assert bus("submit", "work:add", "--wiat").status == 2
    assert bus("sumbit", "work:add").status == 2
    assert bus("cancel").status == 2
    assert bus("cancel", "abc", "--job", "def").status == 2


def test_an_unknown_module_fails_that_task_alone(bus: Shell) -> None:
    done = bus("submit", "no_such_module_here:f", "--wait")
    assert done.status == 1
    assert "no_such_module_here" in done.err
    assert bus.ok("submit", "work:add", "1", "--wait").out == "1\n"


def test_following_streams_output_and_prints_the_result(bus: Shell) -> None:
    done = bus.ok("submit", "work:shout", "hello", "--follow")
    assert done.out == "HELLO\nhello\n"
    assert "aside" in done.err


def test_a_command_line_runs_whole(bus: Shell) -> None:
    done = bus.ok("run-command", "echo a; echo b >&2; echo c", "--follow")
    assert done.out == "a\nc\n", "its output and nothing else: its exit status is the verb's"
    assert "b" in done.err
    assert bus.ok("run-command", "echo seen", "--wait").out == "seen\n"
    quoted = bus.ok("run-command", "printf '%s\\n' {word}", "--param", "word=$(id) 'x' \"y\"", "-f")
    assert quoted.lines[0] == "$(id) 'x' \"y\""
    assert bus.ok("run-command", 'echo "$COLOUR"', "--env", "COLOUR=blue", "-f").lines[0] == "blue"
    assert bus.ok("run-command", "pwd", "--cwd", str(bus.home), "-f").lines[0] == str(bus.home)


def test_a_command_that_fails_says_how(bus: Shell) -> None:
    done = bus("run-command", "echo before; exit 3", "--follow")
    assert done.status == 1
    assert done.lines[0] == "before"
    assert "3" in done.err
    missing = bus("run-command", "true", "--cwd", "/no/such/folder", "--wait")
    assert missing.status == 1
    assert "/no/such/folder" in missing.err


def test_a_script_with_its_files(bus: Shell) -> None:
    (bus.home / "script.py").write_text("import sys; print(open('data.txt').read(), sys.argv[1:])")
    (bus.home / "data.txt").write_text("the data")
    done = bus.ok("script", "script.py", "a", "--file", "data.txt", "-f", "--", "--epochs", "3")
    assert done.lines[0] == "the data ['a', '--epochs', '3']"
    assert bus("script", "no-such-script.py").status == 2


def test_logs_follow_a_running_task(bus: Shell, held: Callable[..., str], tmp_path: Path) -> None:
    task = held()
    following = bus.start("logs", "-f", task[:8])
    assert following.stdout is not None
    assert following.stdout.readline() == "holding\n"
    (tmp_path / "release").touch()
    rest, errors = following.communicate(timeout=PATIENCE)
    assert (rest, following.returncode, errors) == ("let go\n", 0, "")
    again = bus.ok("logs", task, "--json")
    assert '"text": "holding"' in again.lines[0]
    assert bus.ok("logs", task, "--stream", "stderr").out == ""


def test_ps_filters_and_pages(bus: Shell) -> None:
    for number in range(3):
        bus.ok("submit", "work:add", str(number), "--job", "filtered", "--wait")
    bus("submit", "work:fail", "x", "--job", "filtered", "--wait")
    listed = bus.ok("ps", "--job", "filtered")
    assert len(listed.lines) == 5
    assert listed.lines[0].split()[:3] == ["ID", "STATUS", "WHAT"]
    failed = bus.ok("ps", "--job", "filtered", "--status", "failed", "--json").json
    assert [task["target"] for task in failed] == ["work:fail"]
    limited = bus.ok("ps", "--job", "filtered", "--limit", "2")
    assert len(limited.lines) == 3
    assert "--limit" in limited.err
    assert bus.ok("ps", "--job", "no such job", "--json").json == []


def test_jobs_count_their_tasks(bus: Shell) -> None:
    bus.ok("submit", "work:add", "1", "--job", "counted", "--wait")
    bus("submit", "work:fail", "x", "--job", "counted", "--wait")
    (job,) = bus.ok("jobs", "counted", "--json").json
    assert (job["total"], job["done"], job["counts"]["succeeded"], job["counts"]["failed"]) == (2, 2, 1, 1)
    assert "counted" in bus.ok("jobs").out


def test_cancel_ends_a_running_task(bus: Shell, held: Callable[..., str]) -> None:
    task = held()
    assert bus.ok("cancel", task[:8]).out == "cancelled 1 task\n"
    assert bus.ok("show", task, "--json").json["status"] == "cancelled"
    again = bus("cancel", task)
    assert again.status == 1


def test_cancel_a_job(bus: Shell, held: Callable[..., str]) -> None:
    held("--job", "doomed")
    bus.ok("submit", "work:add", "1", "--job", "doomed", "--delay", "1h")
    assert bus.ok("cancel", "--job", "doomed", "--json").json["count"] == 2
    assert {task["status"] for task in bus.ok("ps", "--job", "doomed", "--json").json} == {"cancelled"}


def test_retry_runs_an_ended_task_again(bus: Shell, tmp_path: Path) -> None:
    task = bus("submit", "work:fail_until", str(tmp_path / "now"), "--wait", "--json").json["id"]
    (tmp_path / "now").touch()
    assert bus.ok("retry", task[:8]).out == "queued again 1 task\n"
    bus.ok("submit", "work:add", "0", "--after", task, "--wait")
    assert bus.ok("show", task, "--json").json["status"] == "succeeded"


def test_purge_forgets(bus: Shell) -> None:
    task = bus.ok("submit", "work:add", "1", "--wait", "--json").json["id"]
    bus.ok("purge", task[:8])
    gone = bus("show", task)
    assert gone.status == 1
    assert task[:8] in gone.err or "no task" in gone.err


def test_a_key_makes_a_repeated_submission_one_task(bus: Shell) -> None:
    first = bus.ok("submit", "work:add", "1", "--key", "nightly").out
    assert bus.ok("submit", "work:add", "1", "--key", "nightly").out == first
    assert bus.ok("show", "nightly", "--json").json["id"] == first.strip()


def test_prefixes_must_be_unique_and_known(bus: Shell) -> None:
    # 33 ids and 32 letters: two begin with the same one.
    with headway.Client(bus.bus) as client:
        ids = [task.id for task in client.map("work:add", range(33))]
    letters = [task[0] for task in ids]
    shared = next(letter for letter in letters if letters.count(letter) > 1)
    several = bus("show", shared)
    assert several.status == 1
    assert shared in several.err
    unknown = bus("show", "zzzzzzzz")
    assert unknown.status == 1
    assert "zzzzzzzz" in unknown.err


def test_interrupting_a_wait_leaves_the_task_alone(bus: Shell, tmp_path: Path) -> None:
    release = tmp_path / "release"
    waiting = bus.start("submit", "work:hold", str(tmp_path / "started"), str(release), "--follow")
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "holding\n"
    waiting.send_signal(signal.SIGINT)
    _, errors = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 130
    assert "goes on without you" in errors
    assert "Traceback" not in errors
    (short,) = set(re.findall(r"headway show (\w{8})", errors))
    assert bus.ok("show", short, "--json").json["status"] == "running"
    release.touch()


def test_a_reader_that_leaves_is_no_error(bus: Shell) -> None:
    bus.ok("submit", "work:add", "1", "--wait")
    listing = bus.start("ps")
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.stderr is not None
    assert "Traceback" not in listing.stderr.read()
    listing.wait(timeout=PATIENCE)
    listing.stderr.close()


def test_python_m_headway_is_the_same(bus: Shell) -> None:
    import sys

    command = [sys.executable, "-m", "headway", "submit", "work:add", "1", "--wait"]
    done = subprocess.run(command, env=bus.environment, cwd=bus.home, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
