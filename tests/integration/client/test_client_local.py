"""The library against a real bus: broker, controller and runtime as ``headway.local`` starts them."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import real_work

import headway
from headway_bus.errors import BusError
from headway_bus.records import Code, Reason, Status


@pytest.fixture(scope="module")
def bus() -> Iterator[headway.Client]:
    with headway.local(slots=2, path=[Path(__file__).parent], by_value=True) as bus:
        yield bus


class TestWork:
    def test_calls_of_every_kind(self, bus: headway.Client, tmp_path: Path) -> None:
        assert bus.submit("statistics:fmean", [1, 2, 4]).result(60) == pytest.approx(7 / 3)
        assert bus.submit(real_work.square, 12).result(60) == 144
        assert bus.submit(real_work.asynchronous, {"a": (1, {2})}).result(60) == {"a": (1, {2})}
        task_id, job, pid = bus.options(job="who").submit(real_work.who).result(60)
        assert pid != os.getpid()
        assert bus.task(task_id).info().options.job == job == "who"
        factor = 3
        assert bus.options(by_value=True).submit(lambda value: value * factor, 5).result(60) == 15
        (tmp_path / "script.py").write_text("import sys; print(open('a/b').read(), sys.argv[1:])")
        script = bus.script(tmp_path / "script.py", ["x", 1], files={"a/b": b"content"})
        assert script.result(60) == 0
        assert [record.text for record in script.logs()] == ["content ['x', '1']"]

    def test_files_are_attached_to_calls(self, bus: headway.Client, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_bytes(b"1,2")
        large = os.urandom(3_000_000)
        attached = bus.attach([tmp_path / "table.csv"]).attach({"a/large": large})
        calls = [attached.submit(real_work.read_attached) for _ in range(4)]
        first, *others = [call.result(60) for call in calls]
        assert first[0] == {"table.csv": b"1,2", "a/large": large}
        assert all(other == first for other in others), "one copy, by its hash, for all of them"
        assert bus.submit(real_work.read_attached).result(60) == ({}, [])
        assert headway.context().files == {}

        async def main() -> object:
            async with headway.connect(bus.url) as other:
                return await (await (await other.attach({"b": b"c"})).submit(real_work.read_attached))

        assert asyncio.run(main())[0] == {"b": b"c"}  # type: ignore[index]
        with pytest.raises(ValueError, match=r"without '\.\.'"):
            bus.attach({"../x": b""})

    def test_a_map_comes_back_in_order(self, bus: headway.Client) -> None:
        tasks = bus.map("math:sqrt", range(3000))
        assert [task.result(60) for task in tasks] == [math.sqrt(n) for n in range(3000)]

    def test_the_asynchronous_face(self, bus: headway.Client) -> None:
        async def main() -> None:
            async with headway.connect(bus.url) as other:
                tasks = await other.options(job="async").map("math:sqrt", range(200))
                found = [task async for task in headway.as_completed(tasks, timeout=60)]
                assert len(found) == 200
                assert await headway.gather(*tasks) == [math.sqrt(n) for n in range(200)]
                (job,) = await other.jobs("async")
                assert job.counts == {"succeeded": 200}
                assert len(await other.tasks(job="async", status="succeeded", limit=150)) == 150

        asyncio.run(main())

    def test_large_values_both_ways(self, bus: headway.Client) -> None:
        data = os.urandom(30_000_000)
        result = bus.submit("operator:concat", data, b"x").result(100)
        assert result == data + b"x"

    def test_failures_say_what_happened(self, bus: headway.Client) -> None:
        with pytest.raises(headway.TaskFailed, match="math domain error"):
            bus.submit("math:sqrt", -1).result(60)
        with pytest.raises(headway.TaskFailed, match="nothing_here"):
            bus.submit("nothing_here:f").result(60)
        died = bus.options(max_attempts=1).submit(real_work.die)
        with pytest.raises(headway.TaskFailed) as caught:
            died.result(60)
        assert caught.value.error is not None
        assert caught.value.error.reason == Reason.EXIT
        with pytest.raises(headway.TaskFailed) as caught:
            bus.command("echo to nobody >&2; exit 7").result(60)
        assert caught.value.error is not None
        assert caught.value.error.exit_code == 7

    def test_options_do_what_they_say(self, bus: headway.Client, tmp_path: Path) -> None:
        again = bus.options(max_attempts=5, backoff=0.01, retry_on=[OSError]).submit(
            real_work.fail_until, str(tmp_path / "attempts"), 3
        )
        assert again.result(60) == 3
        once = bus.options(max_attempts=5, backoff=0.01, retry_on=[KeyError]).submit(
            real_work.fail_until, str(tmp_path / "once"), 3
        )
        with pytest.raises(headway.TaskFailed, match="attempt 1"):
            once.result(60)
        with pytest.raises(headway.TaskExpired):
            bus.options(timeout_run=0.1, grace=0.1).submit("time:sleep", 60).result(60)
        parent = bus.submit(real_work.wait_for, str(tmp_path / "go"))
        child = bus.options(after=parent).submit(real_work.square, 3)
        assert child.info().status == Status.WAITING
        (tmp_path / "go").write_text("went")
        assert child.result(60) == 9
        failed = bus.submit("math:sqrt", -1)
        with pytest.raises(headway.TaskError):
            bus.options(after=failed).submit(real_work.square, 3).result(60)
        assert bus.options(after=failed, after_end="always").submit(real_work.square, 4).result(60) == 16

    def test_a_key_names_one_task(self, bus: headway.Client) -> None:
        keyed = bus.options(key="local-key")
        first, second = keyed.submit(real_work.square, 3), keyed.submit(real_work.square, 3)
        assert first.id == second.id == bus.task("local-key").id
        assert first.result(60) == second.result(60) == 9

    def test_cancel_ends_what_runs(self, bus: headway.Client, tmp_path: Path) -> None:
        task = bus.options(grace=0.2).command(f"echo $$ > {tmp_path / 'pid'}; sleep 600")
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
        pid = int((tmp_path / "pid").read_text())
        assert task.cancel()
        assert not psutil.pid_exists(pid)
        with pytest.raises(headway.TaskCancelled):
            task.result(60)

    def test_refusals_are_told(self, bus: headway.Client) -> None:
        with pytest.raises(headway.Refused) as caught:
            bus.task("zzzzzzzzzzzz")
        assert caught.value.code == Code.NOT_FOUND
        with pytest.raises(headway.Refused):
            bus.options(after="00000000000000000000000000").submit(real_work.square, 1)


class TestLogs:
    def test_a_task_speaks_on_its_streams(self, bus: headway.Client) -> None:
        task = bus.options(delay=0.2).submit(real_work.talk)
        followed = list(task.logs(follow=True))
        assert sorted((record.stream, record.text) for record in followed) == [
            ("log", "logged"),
            ("metric", "loss"),
            ("progress", ""),
            ("stdout", "printed"),
        ]
        assert [record.sequence for record in followed] == [0, 1, 2, 3]
        assert list(task.logs()) == followed

    def test_on_log_hears_every_line(self, bus: headway.Client) -> None:
        lines: list[str] = []
        ended = threading.Event()

        def take(record: headway.LogRecord) -> None:
            lines.append(record.text)
            if record.text == "999":
                ended.set()

        task = bus.options(on_log=take).command("seq 0 999")
        assert task.result(60) == 0
        assert ended.wait(60)
        assert lines == [str(n) for n in range(1000)]


class TestExecutor:
    def test_it_is_an_executor(self, bus: headway.Client) -> None:
        with headway.Executor(bus) as pool:
            futures = [pool.submit(pow, 2, n) for n in range(50)]
            assert [future.result(60) for future in futures] == [2**n for n in range(50)]
            assert list(pool.map(pow, range(100), [2] * 100, chunksize=30, timeout=60)) == [n * n for n in range(100)]

            async def main() -> int:
                value: int = await asyncio.get_running_loop().run_in_executor(pool, pow, 3, 4)
                return value

            assert asyncio.run(main()) == 81


class TestLocal:
    def test_nothing_is_left_after_the_block(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        others = set(psutil.Process().children(recursive=True))
        with headway.local(slots=1) as bus:
            assert bus.submit("math:sqrt", 4).result(60) == 2
            assert len(bus.runtimes()) == 1
            processes = set(psutil.Process().children(recursive=True)) - others
            assert processes
        _gone, alive = psutil.wait_procs(processes, timeout=10)
        assert alive == []
        assert list(tmp_path.iterdir()) == []

    def test_it_ends_with_a_program_that_is_killed(self, tmp_path: Path) -> None:
        code = """
import headway, threading
def start():
    global bus
    bus = headway.local(slots=1)
thread = threading.Thread(target=start)  # a thread that ends before the bus does
thread.start(); thread.join()
print(bus.submit("math:sqrt", 4).result(), flush=True)
input()
"""
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        program = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "2.0\n"
        processes = psutil.Process(program.pid).children(recursive=True)
        assert processes
        os.kill(program.pid, signal.SIGKILL)
        program.wait(30)
        _gone, alive = psutil.wait_procs(processes, timeout=60)
        assert alive == []
        assert list(tmp_path.iterdir()) == []
        program.stdin.close()
        program.stdout.close()

    def test_a_hub_that_does_not_end_is_killed_with_all_that_it_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("headway.private_bus.STOP_PATIENCE", 0.1)
        others = set(psutil.Process().children(recursive=True))
        with headway.local(slots=1) as bus:
            bus.submit("time:sleep", 600)
            processes = set(psutil.Process().children(recursive=True)) - others
            (hub,) = [process for process in processes if "headway.private_hub" in process.cmdline()]
            hub.suspend()
        _gone, alive = psutil.wait_procs(processes, timeout=60)
        assert alive == []

    def test_a_bus_that_cannot_start_says_what_it_wrote(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADWAY_BROKER_MAX_PEERS", "nonsense")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(BusError, match="max_peers"):
            headway.local(slots=1)
        assert list(tmp_path.iterdir()) == []

    def test_futures_of_several_buses_can_be_waited_for_together(self, bus: headway.Client) -> None:
        with headway.local(slots=1) as other:
            tasks = [bus.submit("math:sqrt", 4), other.submit("math:sqrt", 9)]
            assert sorted(task.result() for task in cf.as_completed(tasks, timeout=60)) == [2, 3]
