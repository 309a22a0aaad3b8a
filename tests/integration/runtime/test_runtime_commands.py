"""Shell lines and scripts, as a real runtime runs them."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from pathlib import Path

from runtime_hub import Hub
from runtime_process import is_running
from test_runtime_callables import Key

from headway_bus import messages as m
from headway_bus.payloads import encode_call
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, File, Kind, Options, Reason, Requirements


def error_of(ended: Ended) -> ErrorInfo:
    assert ended.end is AttemptEnd.FAILED
    assert ended.error is not None
    return ended.error


def script(hub: Hub, files: dict[str, str], *args: str, extras: dict[str, object] | None = None) -> Key:
    records = []
    for path, content in files.items():
        data = content.encode()
        blob = Blob(hashlib.blake2b(data, digest_size=32).digest(), len(data))
        hub.blobs[blob.hash] = data
        records.append(File(path, blob))
    options = Options(Kind.SCRIPT, "main.py", files=records)
    return hub.assign(options, [encode_call(args, {}, extras)])[0]


def test_the_whole_line_runs_in_a_shell(hub: Hub) -> None:
    key = hub.command("echo a; echo b | tr b c; printf 'no newline'; echo e >&2")
    ended = hub.end_of(key)
    assert (ended.end, hub.results[key]) == (AttemptEnd.SUCCEEDED, b"\x00")
    assert hub.text_of(key, "stdout") == ["a", "c", "no newline"]
    assert hub.text_of(key, "stderr") == ["e"]


def test_another_exit_status_is_a_failure_with_the_last_words(hub: Hub) -> None:
    error = error_of(hub.end_of(hub.command("echo one >&2; echo two >&2; exit 3")))
    assert (error.reason, error.exit_code) == (Reason.EXIT, 3)
    assert "one\ntwo" in error.message
    error = error_of(hub.end_of(hub.command("no-such-program-at-all")))
    assert error.exit_code == 127
    assert "did not find" in error.message


def test_a_signal_is_named(hub: Hub) -> None:
    error = error_of(hub.end_of(hub.command("kill -SEGV $$")))
    assert (error.reason, error.signal) == (Reason.SIGNAL, signal.SIGSEGV)
    error = error_of(hub.end_of(hub.command("sh -c 'kill -9 $$'; exit $?")))
    assert "signal 9 (SIGKILL)" in error.message


def test_a_missing_folder_is_an_error_with_its_name(hub: Hub, tmp_path: Path) -> None:
    error = error_of(hub.end_of(hub.command("true", {"cwd": str(tmp_path / "missing")})))
    assert error.reason is Reason.START
    assert str(tmp_path / "missing") in error.message
    key = hub.command("pwd", {"cwd": str(tmp_path)})
    hub.end_of(key)
    assert hub.text_of(key, "stdout") == [str(tmp_path)]


def test_environment_and_parameters_are_never_read_by_a_shell(hub: Hub, tmp_path: Path) -> None:
    nasty = "$(touch " + str(tmp_path / "harm") + "); `id` \"'"
    line = 'printf "%s\\n" "$NASTY"; cat "$HEADWAY_PARAMS_FILE"'
    key = hub.command(line, {"env": {"NASTY": nasty}, "params": {"value": nasty, "deep": [1, None]}})
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED
    first, second = hub.text_of(key, "stdout")
    assert first == nasty
    assert json.loads(second) == {"value": nasty, "deep": [1, None]}
    assert not (tmp_path / "harm").exists()


def test_its_temporary_folder_is_its_own_and_gone_or_empty_afterwards(hub: Hub) -> None:
    key = hub.command(
        'echo "$TMPDIR"; stat -c %a "$TMPDIR"; ls -A "$TMPDIR" | wc -l; mkdir -p "$TMPDIR/a/b"; chmod 0 "$TMPDIR/a"'
    )
    hub.end_of(key)
    folder, mode, files = hub.text_of(key, "stdout")
    assert (mode, files) == ("700", "0")
    assert not Path(folder).exists()


def test_bad_extras_are_refused_in_words(hub: Hub) -> None:
    for extras in ({"env": {"A=B": "x"}}, {"env": {"A": 3}}, {"params": [1]}, {"cwd": 3}, {"params": {"x": b"bytes"}}):
        error = error_of(hub.end_of(hub.command("true", extras)))
        assert error.reason is Reason.DECODE, extras


def test_text_in_pieces_and_text_that_is_none(hub: Hub) -> None:
    key = hub.command(r"printf 'h\303'; sleep 0.05; printf '\244\n'; printf '\377\n'; printf 'x\r\n'")
    hub.end_of(key)
    assert hub.text_of(key, "stdout") == ["hä", "\ufffd", "x"]


def test_output_beyond_its_limit_is_dropped_and_counted(hub: Hub) -> None:
    (key,) = hub.assign(Options(Kind.COMMAND, "seq 100000 100999", output_limit=700), [encode_call([], {})])
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED
    hub.until(lambda: key[0] in hub.dropped)
    assert len(hub.text_of(key, "stdout")) == 100
    assert hub.dropped[key[0]] == 900


def test_stop_ends_the_whole_tree_even_what_detached_itself(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    detached = f"sh -c 'echo \\$\\$ >> {path}; exec sleep 1000'"
    daemon = f'setsid sh -c "{detached} &"'
    key = hub.command(f"{daemon}; sleep 1000 & echo $! >> {path}; echo $$ >> {path}; wait")
    hub.until(lambda: path.exists() and len(path.read_text().split()) == 3)
    hub.send(m.Stop([key], grace=2.0))
    assert hub.end_of(key).end is AttemptEnd.CANCELLED
    assert not any(is_running(int(pid)) for pid in path.read_text().split())


def test_what_ignores_term_is_killed_after_the_grace(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    key = hub.command(f"trap '' TERM; echo $$ > {path}; while true; do sleep 0.01; done")
    hub.until(lambda: path.exists() and path.read_text())
    hub.send(m.Stop([key], grace=0.1))
    assert hub.end_of(key).end is AttemptEnd.CANCELLED
    assert not is_running(int(path.read_text()))


def test_processes_left_in_the_background_end_with_the_line(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    key = hub.command(f"sleep 1000 & echo $! > {path}; echo done")
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED
    assert not is_running(int(path.read_text()))
    assert hub.text_of(key, "stdout") == ["done"]


def test_the_time_to_run_is_enforced(hub: Hub) -> None:
    (key,) = hub.assign(Options(Kind.COMMAND, "sleep 1000", timeout_run=0.05), [encode_call([], {})])
    assert error_of(hub.end_of(key)).reason is Reason.TIMEOUT_RUN


def test_memory_beyond_the_limit(hub: Hub) -> None:
    line = "exec python3 -c 'x = bytearray(2 * 1024**3)'"
    options = Options(Kind.COMMAND, line, requirements=Requirements(memory=200 * 1024 * 1024))
    (key,) = hub.assign(options, [encode_call([], {})])
    assert "MemoryError" in error_of(hub.end_of(key)).message


SCRIPT = """
import json, os, sys
from pathlib import Path
sys.path[:0] = os.environ["BUS_PATH"].split(":")
from headway_bus import task_context
here = Path(__file__).parent
print(json.dumps([sys.argv[1:], (here / "data" / "values.txt").read_text(), os.getcwd() == str(here)]))
task_context.log("epoch", loss=0.5)
print(task_context.current().params["rate"], task_context.current().attempt)
"""


def test_a_script_gets_its_files_its_arguments_and_its_context(hub: Hub) -> None:
    extras = {"params": {"rate": 0.5}, "env": {"BUS_PATH": ":".join(sys.path)}}
    key = script(hub, {"main.py": SCRIPT, "data/values.txt": "1 2 3"}, "a b", "c", extras=extras)
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED, hub.ended[key].error
    first, second = hub.text_of(key, "stdout")
    assert json.loads(first) == [["a b", "c"], "1 2 3", True]
    assert second == "0.5 1"
    logs = [record.fields for record in hub.logs if (record.task, record.attempt) == key and record.stream == "log"]
    assert logs == [{"loss": 0.5}]


def test_a_file_that_would_leave_the_folder_is_refused(hub: Hub, tmp_path: Path) -> None:
    for name in ("../outside.py", "/etc/outside.py"):
        blob = Blob(hashlib.blake2b(b"x", digest_size=32).digest(), 1)
        hub.blobs[blob.hash] = b"x"
        (key,) = hub.assign(Options(Kind.SCRIPT, name, files=[File(name, blob)]), [encode_call([], {})])
        error = error_of(hub.end_of(key))
        assert error.reason is Reason.START
        assert "folder" in error.message


def test_nonsense_on_the_report_pipe_harms_nobody(hub: Hub) -> None:
    key = hub.command("printf '\\301\\301\\301' >&3; echo fine")
    assert hub.end_of(key).end is AttemptEnd.SUCCEEDED
    assert hub.text_of(key, "stdout") == ["fine"]
    assert len(hub.text_of(key, "system")) == 1
