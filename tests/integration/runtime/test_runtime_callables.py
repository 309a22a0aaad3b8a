"""Callables in real child processes of a real runtime."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest
from runtime_hub import Hub
from runtime_process import RuntimeProcess, is_running

from headway_bus import messages as m
from headway_bus.ids import TaskId, text_of
from headway_bus.payloads import decode, decode_result_by_value, encode, encode_by_value, encode_call
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, Kind, Options, Reason, Requirements

Key = tuple[TaskId, int]


def error_of(ended: Ended) -> ErrorInfo:
    assert ended.end is AttemptEnd.FAILED
    assert ended.error is not None
    return ended.error


def value_of(hub: Hub, key: Key) -> object:
    ended = hub.end_of(key)
    assert ended.end is AttemptEnd.SUCCEEDED, ended.error
    return decode(hub.results[key])


def test_numerical_libraries_in_children_start_one_thread(hub: Hub) -> None:
    asked = {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    assert {name: value_of(hub, hub.call("os:getenv", name)) for name in asked} == asked


def test_sync_and_async_callables_and_the_standard_library(hub: Hub) -> None:
    assert value_of(hub, hub.call("runtime_tasks:add", 1, 2)) == 3
    assert value_of(hub, hub.call("runtime_tasks:add_slowly", 1, 2)) == 3
    assert value_of(hub, hub.call("math:sqrt", 9.0)) == 3.0
    payload = encode_call([(1, 2)], {"right": (3,)})
    (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), [payload])
    assert value_of(hub, key) == (1, 2, 3)


def test_a_child_is_used_again(hub: Hub) -> None:
    pids = {value_of(hub, hub.call("runtime_tasks:pid")) for _ in range(6)}
    assert len(pids) <= 2


def test_many_at_once_end_each_exactly_once(hub: Hub) -> None:
    payloads = [encode_call([number], {"right": 1}) for number in range(3000)]
    keys = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), payloads)
    hub.until(lambda: all(key in hub.ended for key in keys))
    assert [decode(hub.results[key]) for key in keys] == list(range(1, 3001))


def test_an_exception_is_told_with_its_classes_and_without_our_own_frames(hub: Hub) -> None:
    error = error_of(hub.end_of(hub.call("runtime_tasks:fail", "the text")))
    assert (error.reason, error.message, error.type) == (Reason.EXCEPTION, "the text", "runtime_tasks.CustomError")
    assert {"CustomError", "runtime_tasks.CustomError", "ValueError", "builtins.ValueError"} <= set(error.bases)
    assert "raise CustomError(text)" in error.traceback
    assert "headway_runtime" not in error.traceback
    cause = error_of(hub.end_of(hub.call("runtime_tasks:fail_with_cause")))
    assert "CustomError: inner" in cause.traceback
    assert "RuntimeError: outer" in cause.traceback


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("no_colon", "expected package.module:name"),
        ("runtime_tasks:", "expected package.module:name"),
        ("no_such_module_at_all:f", "no module 'no_such_module_at_all'"),
        ("runtime_tasks:no_such_name", "has no 'no_such_name'"),
        ("runtime_tasks:not_callable", "cannot be called"),
    ],
)
def test_a_target_that_cannot_be_found_says_what_to_do(hub: Hub, target: str, text: str) -> None:
    error = error_of(hub.end_of(hub.call(target)))
    assert error.reason is Reason.IMPORT
    assert text in error.message


def test_a_module_that_raises_on_import(hub: Hub, shared_runtime: RuntimeProcess) -> None:
    folder = shared_runtime.cwd
    (folder / "raises_on_import.py").write_text("import math\nmath.no_such_thing\n")
    error = error_of(hub.end_of(hub.call("raises_on_import:f")))
    assert error.reason is Reason.IMPORT
    assert "no_such_thing" in error.message
    assert "raises_on_import.py" in error.traceback
    (folder / "exits_on_import.py").write_text("import sys\nsys.exit(4)\n")
    assert error_of(hub.end_of(hub.call("exits_on_import:f"))).reason is Reason.IMPORT


def test_a_module_written_after_the_start_is_found(hub: Hub, shared_runtime: RuntimeProcess) -> None:
    folder = shared_runtime.cwd
    (folder / "written_later.py").write_text("def f():\n    return 5\n")
    assert value_of(hub, hub.call("written_later:f")) == 5


def test_arguments_that_are_no_arguments(hub: Hub) -> None:
    for payload in (b"\xc1", encode(3), b""):
        (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), [payload])
        assert error_of(hub.end_of(key)).reason is Reason.DECODE


def test_a_result_without_a_form_says_where_in_the_value(hub: Hub) -> None:
    error = error_of(hub.end_of(hub.call("runtime_tasks:unencodable")))
    assert error.reason is Reason.ENCODE
    assert "the result, key 'bad', item 1" in error.message


def test_exits_and_memory_errors_of_the_code(hub: Hub) -> None:
    error = error_of(hub.end_of(hub.call("runtime_tasks:leave", 3)))
    assert (error.reason, error.exit_code) == (Reason.EXIT, 3)
    assert error_of(hub.end_of(hub.call("runtime_tasks:no_memory"))).reason is Reason.MEMORY
    error = error_of(hub.end_of(hub.call("os:_exit", 3)))
    assert (error.reason, error.exit_code) == (Reason.EXIT, 3)


def test_a_crash_is_named_and_costs_only_the_attempt_that_crashed(hub: Hub, tmp_path: Path) -> None:
    quick = Options(Kind.CALL, "runtime_tasks:add")
    hub.until(lambda: value_of(hub, hub.call("runtime_tasks:add", 1, 1)) == 2)
    before = hub.assign(quick, [encode_call([1, 1], {})] * 40)
    crashing = hub.call("runtime_tasks:crash")
    after = hub.assign(quick, [encode_call([2, 2], {})] * 40)
    error = error_of(hub.end_of(crashing))
    assert (error.reason, error.signal) == (Reason.SIGNAL, signal.SIGSEGV)
    assert "signal 11 (SIGSEGV)" in error.message
    assert "runtime_tasks.py" in error.traceback, "the stack that faulthandler wrote is lost"
    assert all(value_of(hub, key) in (2, 4) for key in (*before, *after))


def test_what_had_ended_before_a_crash_in_the_same_child_is_neither_lost_nor_repeated(
    own_hub: Hub, own_runtime: RuntimeProcess, tmp_path: Path
) -> None:
    hub = own_hub
    marks = tmp_path / "marks"
    touch = Options(Kind.CALL, "runtime_tasks:touch")
    kill = Options(Kind.CALL, "runtime_tasks:kill_self")
    # Two targets that are known to be short lie in one child together, whatever they do afterwards.
    assert value_of(hub, hub.call("runtime_tasks:touch", str(marks))) is None
    keys: list[Key] = []
    kills: list[Key] = []
    for _ in range(10):
        keys += hub.assign(touch, [encode_call([str(marks)], {})] * 20)
        kills += hub.assign(kill, [encode_call([], {})])
    hub.until(lambda: all(key in hub.ended for key in (*keys, *kills)))
    assert all(hub.ended[key].end is AttemptEnd.SUCCEEDED for key in keys)
    assert {error_of(hub.ended[key]).signal for key in kills} == {signal.SIGKILL}
    lines = marks.read_text().split()
    assert sorted(lines[1:]) == sorted(text_of(task) for task, _ in keys), "an attempt was run twice, or never"


def test_large_arguments_and_results(hub: Hub) -> None:
    middle, large = b"m" * 300_000, os.urandom(6 * 1024 * 1024)
    (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), [0], [encode_call([middle, b"!"], {})])
    assert value_of(hub, key) == middle + b"!"
    payload = encode_call([large, b"!"], {})
    blob = Blob(hashlib.blake2b(payload, digest_size=32).digest(), len(payload))
    hub.blobs[blob.hash] = payload
    (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), [blob])
    assert value_of(hub, key) == large + b"!"
    assert isinstance(hub.ended[key].result, Blob)


def test_a_large_argument_that_nobody_has(hub: Hub) -> None:
    (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), [Blob(b"x" * 32, 10)])
    assert "no such blob" in error_of(hub.end_of(key)).message
    wrong = Blob(b"y" * 32, 3)
    hub.blobs[wrong.hash] = b"abc"
    (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:add"), [wrong])
    assert "hash" in error_of(hub.end_of(key)).message


def test_output_of_every_kind_belongs_to_its_attempt(hub: Hub) -> None:
    key = hub.call("runtime_tasks:say")
    other = hub.call("builtins:print", "mine")
    hub.end_of(key)
    hub.end_of(other)
    assert sorted(hub.text_of(key, "stdout")) == ["fünf", "one", "six", "three"]
    assert hub.text_of(key, "stderr") == ["two", "four"]
    assert hub.text_of(other, "stdout") == ["mine"]
    sequences = [record.sequence for record in hub.logs if (record.task, record.attempt) == key]
    assert sorted(sequences) == list(range(6))


def test_output_beyond_its_limit_is_dropped_and_counted(hub: Hub) -> None:
    (key,) = hub.assign(Options(Kind.CALL, "runtime_tasks:say_much", output_limit=1000), [encode_call([500], {})])
    hub.end_of(key)
    hub.until(lambda: key[0] in hub.dropped)
    kept = hub.text_of(key, "stdout")
    assert kept == [f"{number:09d}" for number in range(100)]
    assert hub.dropped[key[0]] == 400


def test_a_task_knows_itself_and_reports(hub: Hub) -> None:
    key = hub.call("runtime_tasks:report", job="a job", name="a name")
    assert value_of(hub, key) == {"id": text_of(key[0]), "attempt": 1, "job": "a job", "name": "a name"}
    records = {record.stream: record.fields for record in hub.logs if (record.task, record.attempt) == key}
    assert records == {
        "log": {"loss": 0.5},
        "progress": {"done": 3, "total": 10},
        "metric": {"value": 0.25, "step": 2},
    }


def test_output_arrives_while_the_attempt_still_runs(hub: Hub, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    key = hub.call("runtime_tasks:say_and_wait_for", str(gate))
    hub.until(lambda: hub.text_of(key, "stdout") == ["one", "two"])
    gate.touch()
    hub.end_of(key)


def test_a_model_is_loaded_once_per_child(hub: Hub) -> None:
    results = []
    for _ in range(6):
        (key,) = hub.assign(Options(Kind.MODEL, "shout"), [encode_call(["text"], {})])
        results.append(value_of(hub, key))
    assert {result[0] for result in results} == {"TEXT"}  # type: ignore[index]
    assert len({result[1] for result in results}) <= 2  # type: ignore[index]
    (key,) = hub.assign(Options(Kind.MODEL, "broken"), [encode_call(["text"], {})])
    assert "cannot be called" in error_of(hub.end_of(key)).message
    (key,) = hub.assign(Options(Kind.MODEL, "unknown"), [encode_call(["text"], {})])
    assert error_of(hub.end_of(key)).reason is Reason.REFUSED


def test_code_by_value_is_refused_unless_allowed(hub: Hub) -> None:
    (key,) = hub.assign(Options(Kind.CALL, "f", by_value=True), [encode_by_value(len, ["abc"], {})])
    assert error_of(hub.end_of(key)).reason is Reason.REFUSED


def test_code_by_value_where_it_is_allowed(own_hub: Hub, tmp_path: Path) -> None:
    runtime = RuntimeProcess(own_hub, tmp_path, "--slots", "1", "--by-value")
    try:
        factor = 3
        payload = encode_by_value(lambda value: {value * factor}, [2], {})
        (key,) = own_hub.assign(Options(Kind.CALL, "<lambda>", by_value=True), [payload])
        assert own_hub.end_of(key).end is AttemptEnd.SUCCEEDED
        assert decode_result_by_value(own_hub.results[key]) == {6}
    finally:
        runtime.end()


def test_a_task_can_connect_to_the_bus_that_it_came_from(hub: Hub) -> None:
    assert value_of(hub, hub.call("os:getenv", "HEADWAY_BUS")) == hub.url
    key = hub.command('echo "$HEADWAY_BUS"')
    hub.end_of(key)
    assert hub.text_of(key, "stdout") == [hub.url]


def test_stop_interrupts_sync_and_async_code(hub: Hub, tmp_path: Path) -> None:
    for target, path in (("runtime_tasks:sleep_long", tmp_path / "a"), ("runtime_tasks:wait_for", tmp_path / "b")):
        key = hub.call(target, str(path))
        hub.until(lambda key=key: key in hub.started)  # type: ignore[misc]
        hub.send(m.Stop([key], reason="enough"))
        ended = hub.end_of(key)
        assert (ended.end, ended.error and ended.error.message) == (AttemptEnd.CANCELLED, "enough")


def test_code_may_stop_in_its_own_way(hub: Hub, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    key = hub.call("runtime_tasks:stop_politely", str(begun))
    hub.until(
        lambda: key in hub.started and begun.exists()
    )  # the stop would otherwise come before the code that hears it
    hub.send(m.Stop([key]))
    assert value_of(hub, key) == "stopped"


def test_code_that_will_not_stop_is_killed_and_its_child_replaced(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    key = hub.call("runtime_tasks:ignore_everything", str(path))
    hub.until(lambda: key in hub.started and path.exists() and path.read_text())
    hub.send(m.Stop([key], grace=0.1))
    assert hub.end_of(key).end is AttemptEnd.CANCELLED
    assert not is_running(int(path.read_text()))
    assert value_of(hub, hub.call("runtime_tasks:add", 1, 2)) == 3


def test_who_is_stopped_in_an_import_leaves_no_torn_module_behind(hub: Hub, tmp_path: Path) -> None:
    """A module in C that was interrupted while it began cannot be imported again by the same process: numpy, for one."""
    pid, gate = tmp_path / "pid", tmp_path / "gate"
    key = hub.call("runtime_tasks:import_slowly", str(pid), str(gate))
    hub.until(lambda: key in hub.started and pid.exists() and pid.read_text())
    hub.send(m.Stop([key]))
    assert hub.end_of(key).end is AttemptEnd.CANCELLED
    assert not is_running(int(pid.read_text()))
    gate.touch()
    assert value_of(hub, hub.call("runtime_tasks:import_slowly", str(pid), str(gate))) == "imported"


def test_the_time_to_run_is_enforced(hub: Hub, tmp_path: Path) -> None:
    key = hub.call("runtime_tasks:wait_for", str(tmp_path / "never"), timeout_run=0.05)
    assert error_of(hub.end_of(key)).reason is Reason.TIMEOUT_RUN


def test_an_attempt_that_has_not_begun_is_cancelled_without_running(hub: Hub, tmp_path: Path) -> None:
    gate, marks = tmp_path / "gate", tmp_path / "marks"
    blockers = [hub.call("runtime_tasks:wait_for", str(gate)) for _ in range(2)]
    hub.until(lambda: all(key in hub.started for key in blockers))
    waiting = hub.call("runtime_tasks:touch", str(marks))
    returned = hub.call("runtime_tasks:touch", str(marks))
    hub.send(m.Stop([waiting]))
    hub.send(m.TakeBack([returned, blockers[0]]))
    assert hub.end_of(waiting).end is AttemptEnd.CANCELLED
    assert hub.end_of(returned).end is AttemptEnd.RETURNED
    gate.touch()
    assert [hub.end_of(key).end for key in blockers] == [AttemptEnd.SUCCEEDED] * 2
    assert not marks.exists()


def test_short_attempts_behind_a_long_one_in_a_child_run_elsewhere(hub: Hub, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    for _ in range(12):  # so often that it is taken for short
        value_of(hub, hub.call("runtime_tasks:wait_for", str(gate)))
    gate.unlink()
    options = Options(Kind.CALL, "runtime_tasks:wait_for")
    quick = [encode_call([str(tmp_path)], {})] * 20
    keys = hub.assign(options, [encode_call([str(gate)], {}), *quick])
    hub.until(lambda: all(key in hub.ended for key in keys[1:]))
    assert keys[0] not in hub.ended
    gate.touch()
    hub.end_of(keys[0])


def test_a_detached_process_is_ended_before_the_end_is_told(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    key = hub.call("runtime_tasks:start_daemon", str(path))
    assert value_of(hub, key) == 7
    assert not is_running(int(path.read_text()))


def test_processes_that_the_code_itself_waits_for_do_no_harm(hub: Hub) -> None:
    assert value_of(hub, hub.call("runtime_tasks:fork_and_wait")) == 5


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes_inside_an_attempt(hub: Hub, method: str) -> None:
    key = hub.call("runtime_tasks:use_a_pool", method)
    assert value_of(hub, key) == [number * number for number in range(20)]
    hub.until(lambda: len(hub.text_of(key, "stdout")) == 20)
    # Lines of several processes may run into one another in their common pipe, as anywhere.
    expected = "".join(f"squaring {number}" for number in range(20))
    assert sorted("".join(hub.text_of(key, "stdout"))) == sorted(expected)


def test_what_an_attempt_changes_of_its_process_does_not_reach_the_next(
    hub: Hub, shared_runtime: RuntimeProcess
) -> None:
    for _ in range(4):
        value_of(hub, hub.call("runtime_tasks:upset_the_process"))
    for _ in range(4):
        key = hub.call("runtime_tasks:where")
        assert value_of(hub, key) == [str(shared_runtime.cwd), True]
        assert hub.text_of(key, "stdout") == ["here"]


def test_threads_of_an_attempt_may_all_print(hub: Hub) -> None:
    key = hub.call("runtime_tasks:print_from_threads", 200)
    value_of(hub, key)
    lines = hub.text_of(key, "stdout")
    assert len(lines) == 800
    pieces = sorted("".join(lines).replace("-", ""))
    assert len(pieces) == len("".join(f"{number}{line}" for number in range(4) for line in range(200)))


def test_tasks_left_in_the_event_loop_end_with_their_attempt(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "cleaned"
    assert value_of(hub, hub.call("runtime_tasks:leave_task_behind", str(path))) is None
    assert path.exists()


def test_memory_beyond_the_limit(hub: Hub) -> None:
    limited = Requirements(memory=256 * 1024 * 1024)
    (key,) = hub.assign(
        Options(Kind.CALL, "runtime_tasks:allocate", requirements=limited), [encode_call([2 * 1024**3], {})]
    )
    assert error_of(hub.end_of(key)).reason is Reason.MEMORY
    (key,) = hub.assign(
        Options(Kind.CALL, "runtime_tasks:allocate", requirements=limited), [encode_call([100 * 1024**2], {})]
    )
    assert value_of(hub, key) == 100 * 1024**2


def test_more_slots_than_there_are(hub: Hub) -> None:
    options = Options(Kind.CALL, "runtime_tasks:pid", requirements=Requirements(slots=3))
    (key,) = hub.assign(options, [encode_call([], {})])
    assert error_of(hub.end_of(key)).reason is Reason.REFUSED


def test_at_the_end_the_books_agree(hub: Hub) -> None:
    hub.until(lambda: not hub.held)
    heard = len(hub.heartbeats)
    hub.until(lambda: len(hub.heartbeats) > heard + 1)
    last = hub.heartbeats[-1]
    assert (last.held, last.digest, last.free) == (0, hub.digest, 2.0)
    assert time.monotonic() - last.sent < 5
