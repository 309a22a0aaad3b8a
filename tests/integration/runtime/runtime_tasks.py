"""What the attempts of the integration tests run."""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from headway_bus import task_context

STARTED_AT = time.monotonic()
calls = 0


def add(left: Any, right: Any = 0) -> Any:
    return left + right


async def add_slowly(left: int, right: int) -> int:
    await asyncio.sleep(0.001)
    return left + right


async def leave_task_behind(path: str) -> None:
    async def later() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            touch(path)

    asyncio.get_running_loop().create_task(later(), name="left behind")
    await asyncio.sleep(0)


def pid() -> int:
    return os.getpid()


class CustomError(ValueError):
    pass


def fail(text: str) -> None:
    raise CustomError(text)


def fail_with_cause() -> None:
    try:
        fail("inner")
    except CustomError as error:
        raise RuntimeError("outer") from error


def leave(code: int) -> None:
    sys.exit(code)


def crash() -> None:
    ctypes.string_at(0)


def unencodable() -> Any:
    return {"fine": 1, "bad": [1, object()]}


def no_memory() -> None:
    raise MemoryError


def allocate(size: int) -> int:
    return len(bytearray(size))


def touch(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{task_context.current().id}\n")


def touch_and_wait_for(path: str, gate: str) -> None:
    touch(path)
    while not Path(gate).exists():
        time.sleep(0.005)


def wait_for(gate: str) -> str:
    while not Path(gate).exists():
        time.sleep(0.005)
    return gate


def say_and_wait_for(gate: str) -> None:
    print("one")
    print("two")
    wait_for(gate)


def ignore_everything(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            continue


def import_slowly(path: str, gate: str) -> str:
    """Import a module that stands still while it is imported, as large ones do, until the gate is open."""
    folder = Path(path).parent
    lines = ["import os, pathlib, time", f"pathlib.Path({path!r}).write_text(str(os.getpid()))"]
    lines += [f"while not pathlib.Path({gate!r}).exists():", "    time.sleep(0.005)", "STATE = 'imported'"]
    (folder / "runtime_slow_module.py").write_text("\n".join(lines))
    sys.path.insert(0, str(folder))
    state: str = importlib.import_module("runtime_slow_module").STATE
    return state


def stop_politely(path: str) -> str:
    while True:
        try:
            Path(path).write_text("begun")
            while not task_context.current().should_stop:
                time.sleep(0.005)
            return "stopped"
        except BaseException:
            continue


async def sleep_long(path: str) -> None:
    touch(path)
    await asyncio.sleep(1000)


def start_daemon(path: str) -> int:
    """Leave a process behind that has detached itself in every way there is."""
    line = f"setsid sh -c 'echo $$ > {path}.tmp; mv {path}.tmp {path}; exec sleep 1000' > /dev/null 2>&1 &"
    subprocess.run(["sh", "-c", line], check=True)
    while not Path(path).exists():
        time.sleep(0.005)
    return 7


def say() -> None:
    print("one")
    print("two", file=sys.stderr)
    os.write(1, b"three\n")
    subprocess.run(["sh", "-c", "echo four >&2"], check=True)
    sys.stdout.buffer.write("fünf\n".encode())
    print("six", end="")


def say_much(lines: int) -> None:
    for number in range(lines):
        print(f"{number:09d}")


def report() -> dict[str, Any]:
    context = task_context.current()
    task_context.log("epoch", loss=0.5)
    task_context.progress(3, 10)
    task_context.metric("loss", 0.25, step=2)
    return {"id": context.id, "attempt": context.attempt, "job": context.job, "name": context.name}


def count_calls() -> int:
    global calls
    calls += 1
    return calls


class Model:
    def __init__(self) -> None:
        self.loaded = time.monotonic()

    def __call__(self, text: str) -> list[Any]:
        return [text.upper(), self.loaded]


def load_model() -> Model:
    return Model()


def not_a_model() -> int:
    return 3


def fork_and_wait() -> int:
    child = os.fork()
    if not child:
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def square_aloud(number: int) -> int:
    print(f"squaring {number}")
    task_context.log("from a copy")
    return number * number


def use_a_pool(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square_aloud, range(20))


def upset_the_process() -> None:
    os.chdir("/")
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(0.001)  # the signal is looked at after attempts that are not among the very shortest


def where() -> list[Any]:
    print("here")
    return [os.getcwd(), signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN]  # noqa: PTH109


def print_from_threads(count: int) -> None:
    def talk(number: int) -> None:
        for line in range(count):
            print(f"{number}", end="-")
            print(f"{line}")

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


not_callable = 3
