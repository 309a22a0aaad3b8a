"""What a task knows of itself, in the same process and in one of its own."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from headway_bus import task_context
from headway_bus.task_context import CUT_MARK, TaskContext

Emissions = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def emissions() -> Iterator[Emissions]:
    """What is emitted while a task's context is entered."""
    found: Emissions = []
    with TaskContext("id1", 2, "job", "name", {"p": 1}, emit=lambda *emission: found.append(emission)):
        yield found


def test_outside_a_task_everything_does_nothing() -> None:
    context = task_context.current()
    assert (context.id, context.attempt, context.job, context.name, dict(context.params)) == ("", 0, "", "", {})
    assert not context.should_stop
    task_context.log("epoch", loss=0.1)
    task_context.progress(1, 2)
    task_context.metric("loss", 0.1, step=1)


def test_inside_a_task_its_facts_are_known(emissions: Emissions) -> None:
    context = task_context.current()
    assert (context.id, context.attempt, context.job, context.name) == ("id1", 2, "job", "name")
    assert context.params == {"p": 1}
    assert "id1" in repr(context)


def test_after_the_task_nothing_is_left() -> None:
    with TaskContext("outer"):
        with TaskContext("inner"):
            assert task_context.current().id == "inner"
        assert task_context.current().id == "outer"
    assert task_context.current().id == ""


def test_emissions(emissions: Emissions) -> None:
    task_context.log("epoch", loss=0.1, event="fields may have any name", stream=1)
    task_context.progress(3, 10, "halfway")
    task_context.progress(4)
    task_context.metric("loss", np.float32(0.5), step=3)
    assert emissions == [
        ("log", "epoch", {"loss": 0.1, "event": "fields may have any name", "stream": 1}),
        ("progress", "halfway", {"done": 3, "total": 10}),
        ("progress", "", {"done": 4}),
        ("metric", "loss", {"value": 0.5, "step": 3}),
    ]
    assert type(emissions[3][2]["value"]) is float


def test_fields_are_made_plain(emissions: Emissions) -> None:
    task_context.log("x", a=np.int64(3), b=(1, [2]), c={1: Path("p")}, d=2**70, e=None, f=True, g="\ud800")
    assert emissions[0][2] == {"a": 3, "b": [1, [2]], "c": {"1": "p"}, "d": str(2**70), "e": None, "f": True, "g": "?"}


def test_fields_are_bounded(emissions: Emissions) -> None:
    endless: list[Any] = []
    endless.append(endless)
    task_context.log("x" * 5000, many=list(range(1000)), deep=endless, array=np.zeros(3))
    _, text, fields = emissions[0]
    assert len(text) == task_context.MAX_TEXT
    assert text.endswith(CUT_MARK)
    assert fields["many"] == list(range(task_context.MAX_ITEMS))
    assert fields["deep"] == [[["[[...]]"]]]
    assert fields["array"] == "[0. 0. 0.]"


def test_threads_of_the_only_task_have_its_context(emissions: Emissions) -> None:
    thread = threading.Thread(target=lambda: task_context.log("from a thread"))
    thread.start()
    thread.join()
    assert [text for _, text, _ in emissions] == ["from a thread"]


def test_coroutines_keep_theirs_apart() -> None:
    async def task(name: str, barrier: asyncio.Barrier) -> str:
        with TaskContext(name):
            await barrier.wait()
            return task_context.current().id

    async def both() -> list[str]:
        barrier = asyncio.Barrier(2)
        return await asyncio.gather(task("a", barrier), task("b", barrier))

    assert asyncio.run(both()) == ["a", "b"]


def test_should_stop_is_the_flag() -> None:
    stop = threading.Event()
    context = TaskContext("id1", stop=stop)
    assert not context.should_stop
    stop.set()
    assert context.should_stop


# ------------------------------------------------------------------------------------------------------ processes


class Script:
    """A Python process with a task's environment, and the reading end of its report pipe."""

    def __init__(self, program: str, **facts: Any) -> None:
        self.reports, writing = os.pipe()
        variables = task_context.environment("id1", 3, "job", "name", report=writing, **facts)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from headway_bus import task_context as headway\n" + program],
            env=os.environ | variables,
            pass_fds=[writing],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(writing)

    def finish(self) -> tuple[str, list[Any]]:
        """(standard output, emissions) once it has ended with status 0."""
        with os.fdopen(self.reports, "rb") as pipe:
            emissions = list(msgpack.Unpacker(pipe))
        output, _ = self.process.communicate()
        assert self.process.returncode == 0
        return output, emissions


def test_script_has_its_context(tmp_path: Path) -> None:
    params = tmp_path / "params.json"
    params.write_text(json.dumps({"rate": 0.5}))
    program = (
        "c = headway.current(); print(c.id, c.attempt, c.job, c.name, c.params['rate'])\n"
        "headway.log('epoch', loss=0.1); headway.progress(1, 2); headway.metric('loss', 0.5, step=1)"
    )
    output, emissions = Script(program, params_file=str(params)).finish()
    assert output == "id1 3 job name 0.5\n"
    assert emissions == [
        ["log", "epoch", {"loss": 0.1}],
        ["progress", "", {"done": 1, "total": 2}],
        ["metric", "loss", {"value": 0.5, "step": 1}],
    ]


def test_script_without_parameters_has_none() -> None:
    assert Script("print(dict(headway.current().params))").finish()[0] == "{}\n"


def test_scripts_parameters_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    program = "try: headway.current().params\nexcept Exception as error: print(type(error).__name__, error)"
    output, _ = Script(program, params_file=str(tmp_path / "none.json")).finish()
    assert output.startswith("HeadwayError cannot read the task's parameters from ")
    (tmp_path / "list.json").write_text("[]")
    assert "are not a JSON object" in Script(program, params_file=str(tmp_path / "list.json")).finish()[0]


def test_emissions_of_processes_and_threads_do_not_mix() -> None:
    program = (
        "import os, threading\n"
        "def work(name):\n"
        "    for at in range(200): headway.log(name * 300, at=at)\n"
        "pid = os.fork()\n"
        "threads = [threading.Thread(target=work, args=(name,)) for name in ('ab' if pid else 'cd')]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "if pid: os.waitpid(pid, 0)"
    )
    _, emissions = Script(program).finish()
    for name in "abcd":
        assert [fields["at"] for _, text, fields in emissions if text == name * 300] == list(range(200))
    assert len(emissions) == 800


def test_grandchild_without_the_pipe_writes_nowhere(tmp_path: Path) -> None:
    """It inherits the variable, while the descriptor's number may by then belong to a pipe of its own."""
    program = (
        "import os, subprocess, sys\n"
        "number = int(os.environ['HEADWAY_REPORT_FD'].split(':')[0])\n"
        "other = 'import os, sys; r, w = os.pipe(); os.dup2(w, int(sys.argv[1])); os.set_blocking(r, False)\\n'\n"
        "other += 'from headway_bus import task_context\\ntask_context.log(\"x\")\\n'\n"
        'other += \'try: os.read(r, 1); print("written")\\nexcept BlockingIOError: print("untouched")\'\n'
        "subprocess.run([sys.executable, '-c', other, str(number)], check=True)\n"
    )
    output, emissions = Script(program).finish()
    assert output == "untouched\n"
    assert emissions == []


def test_runtime_that_is_gone_disturbs_nobody() -> None:
    script = Script("import sys; sys.stdin.read()\nfor _ in range(3): headway.log('x')\nprint('done')")
    os.close(script.reports)
    output, _ = script.process.communicate()
    assert output == "done\n"
    assert script.process.returncode == 0


def test_term_sets_should_stop_of_a_script_that_has_looked() -> None:
    program = (
        "import signal\n"
        "c = headway.current(); assert not c.should_stop; print('ready', flush=True)\n"
        "while not c.should_stop: signal.pause()\n"
        "print('stopped')"
    )
    script = Script(program)
    assert script.process.stdout is not None
    assert script.process.stdout.readline() == "ready\n"
    script.process.send_signal(signal.SIGTERM)
    assert script.finish()[0] == "stopped\n"


def test_term_ends_a_script_that_never_looked() -> None:
    script = Script("import signal\nheadway.current(); print('ready', flush=True); signal.pause()")
    assert script.process.stdout is not None
    script.process.stdout.readline()
    script.process.send_signal(signal.SIGTERM)
    script.process.communicate()
    os.close(script.reports)
    assert script.process.returncode == -signal.SIGTERM


def test_scripts_own_handler_of_term_is_kept() -> None:
    program = (
        "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: None); mine = signal.getsignal(signal.SIGTERM)\n"
        "headway.current().should_stop; print(signal.getsignal(signal.SIGTERM) is mine)"
    )
    assert Script(program).finish()[0] == "True\n"


def test_large_emission_is_cut_to_what_a_pipe_takes_in_one_piece() -> None:
    limit = task_context.PIPE_BUF
    for fields in ({"a": "x" * 2000, "b": "y" * 2000}, {f"name {at}": "ü" * 2000 for at in range(100)}, {"n": math.pi}):
        for text in ("short", "𝄞" * 2000):
            data = task_context.report_bytes("log", task_context.plain_text(text), fields)
            assert len(data) <= limit
            stream, back, kept = msgpack.unpackb(data)
            assert stream == "log"
            assert back == text or back.endswith(CUT_MARK)
            assert kept
