"""How fast the bus could be if it did nothing but move tasks: the same hops, and none of the duties.

client → broker → controller → broker → runtime → child and all the way back, over the same sockets
(:mod:`headway_bus.endpoint`) and pipes as headway's own, but nothing is checked, placed, leased, learned, repeated or logged.
With ``--store`` the controller writes every submission and every result to SQLite in a thread, and waits for neither.

``python -m benchmarks.ceiling [--tasks N] [--window N] [--chunk N] [--store] [--one-process]`` prints a line of JSON:
tasks_per_second, round_trip_p50_us, round_trip_p99_us.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import queue
import signal
import socket
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import zmq

from headway_bus import loops
from headway_bus.endpoint import Endpoint

BROKER, CONTROLLER, RUNTIME, CLIENT = b"b", b"c", b"r", b"u"
CHILDREN = 2
CREDIT = 256
"""Tasks at the runtime at most."""

Messages = list[list[Any]]
Send = Callable[[bytes, bytes, Any], None]
"""``send(target, kind, content)``"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# ---------------------------------------------------------------------------------------------- broker


def router(url: str, on_messages: Callable[[Messages], None]) -> Endpoint:
    hub: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    hub.set_hwm(0)
    hub.bind(url)
    return Endpoint(hub, on_messages, head=4)


def dealer(url: str, name: bytes, on_messages: Callable[[Messages], None]) -> tuple[Endpoint, Send]:
    end: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    end.set_hwm(0)
    end.setsockopt(zmq.IDENTITY, name)
    end.connect(url)
    endpoint = Endpoint(end, on_messages, head=3)

    def send(target: bytes, kind: bytes, content: Any) -> None:
        endpoint.send([target, kind, msgpack.packb(content)])

    send(BROKER, b"hello", None)
    return endpoint, send


async def broker(url: str) -> None:
    def forward(messages: Messages) -> None:
        for source, target, kind, body in messages:
            if target != BROKER:
                hub.send([target, source, kind, body])

    hub = router(url, forward)
    await asyncio.Event().wait()


async def broker_and_controller(url: str, path: str) -> None:
    def forward(messages: Messages) -> None:
        own = []
        for source, target, kind, body in messages:
            if target == CONTROLLER:
                own.append([source, kind, body])
        if own:
            brain.handle(own)

    def send(target: bytes, kind: bytes, content: Any) -> None:
        hub.send([target, CONTROLLER, kind, msgpack.packb(content)])

    brain = Brain(send, path)
    hub = router(url, forward)
    await asyncio.Event().wait()


# ---------------------------------------------------------------------------------------------- controller


class Brain:
    """Remembers who wants what, and keeps the runtime supplied."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._tasks: dict[bytes, tuple[bytes, list[Any]]] = {}
        self._waiting: deque[bytes] = deque()
        self._credit = CREDIT
        self._rows: queue.SimpleQueue[tuple[str, list[tuple[bytes, bytes]]]] = queue.SimpleQueue()
        self._stores = bool(path)
        if path:
            threading.Thread(target=keep, args=(path, self._rows), daemon=True).start()

    def handle(self, messages: Messages) -> None:
        ends: dict[bytes, list[Any]] = {}
        for source, kind, body in messages:
            content = msgpack.unpackb(body)
            if kind == b"submit":
                self._on_submit(source, content)
            elif kind == b"report":
                self._on_report(content, ends)
        for client, results in ends.items():
            self._send(client, b"ended", results)
        count = min(self._credit, len(self._waiting))
        if count:
            self._credit -= count
            self._send(RUNTIME, b"assign", [self._tasks[self._waiting.popleft()][1] for _ in range(count)])

    def _on_submit(self, client: bytes, tasks: list[list[Any]]) -> None:
        for task in tasks:
            self._tasks[task[0]] = client, task
            self._waiting.append(task[0])
        if self._stores:
            self._rows.put(("INSERT INTO tasks (body, id) VALUES (?, ?)", [(msgpack.packb(t), t[0]) for t in tasks]))

    def _on_report(self, results: list[list[Any]], ends: dict[bytes, list[Any]]) -> None:
        self._credit += len(results)
        for result in results:
            ends.setdefault(self._tasks.pop(result[0])[0], []).append(result)
        if self._stores:
            rows = [(msgpack.packb(value), task) for task, value in results]
            self._rows.put(("UPDATE tasks SET result = ? WHERE id = ?", rows))


def keep(path: str, rows: queue.SimpleQueue[tuple[str, list[tuple[bytes, bytes]]]]) -> None:
    """The store's thread: everything that lies there is one transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE tasks (id BLOB PRIMARY KEY, body BLOB, result BLOB) WITHOUT ROWID")
    while True:
        work = [rows.get()]
        while not rows.empty():
            work.append(rows.get())
        connection.execute("BEGIN")
        for statement, values in work:
            connection.executemany(statement, values)
        connection.execute("COMMIT")


async def controller(url: str, path: str) -> None:
    def on_messages(messages: Messages) -> None:
        brain.handle(messages)

    _, send = dealer(url, CONTROLLER, on_messages)
    brain = Brain(send, path)
    await asyncio.Event().wait()


# ---------------------------------------------------------------------------------------------- runtime


def child(reading: int, writing: int) -> None:
    """Runs what comes through a pipe until that is closed."""
    functions = {"nothing": lambda value: value}
    unpacker = msgpack.Unpacker()
    while data := os.read(reading, 1 << 20):
        unpacker.feed(data)
        done = [(task, functions[name](*values)) for batch in unpacker for task, name, values in batch]
        if done:
            os.write(writing, msgpack.packb(done))


def start_child(others: list[tuple[int, int]]) -> tuple[int, int]:
    """Returns (where to write its work, where to read its results)."""
    work_out, work_in = os.pipe()
    done_out, done_in = os.pipe()
    if os.fork() == 0:
        for descriptor in (work_in, done_out, *(each for pair in others for each in pair)):
            os.close(descriptor)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        child(work_out, done_in)
        os._exit(0)
    os.close(work_out)
    os.close(done_in)
    os.set_blocking(done_out, False)
    return work_in, done_out


async def runtime(url: str, children: list[tuple[int, int]]) -> None:
    def on_messages(messages: Messages) -> None:
        for _, kind, body in messages:
            if kind == b"assign":
                tasks = msgpack.unpackb(body)
                share = -(-len(tasks) // len(children))
                for index, (pipe, _) in enumerate(children):
                    if part := tasks[index * share : (index + 1) * share]:
                        os.write(pipe, msgpack.packb(part))

    def on_done(pipe: int, unpacker: msgpack.Unpacker) -> None:
        unpacker.feed(os.read(pipe, 1 << 20))
        for results in unpacker:
            send(CONTROLLER, b"report", results)

    _, send = dealer(url, RUNTIME, on_messages)
    for _, pipe in children:
        asyncio.get_running_loop().add_reader(pipe, on_done, pipe, msgpack.Unpacker())
    await asyncio.Event().wait()


# ---------------------------------------------------------------------------------------------- client


async def client(url: str, tasks: int, window: int, chunk: int) -> dict[str, float]:
    began: dict[bytes, float] = {}
    trips: list[float] = []
    over = asyncio.get_running_loop().create_future()
    submitted = 0

    def submit() -> None:
        nonlocal submitted
        while submitted < tasks and len(began) + chunk <= max(window, chunk):
            now = time.perf_counter()
            made = [(os.urandom(16), "nothing", (submitted + n,)) for n in range(min(chunk, tasks - submitted))]
            began.update((task, now) for task, _, _ in made)
            submitted += len(made)
            send(CONTROLLER, b"submit", made)

    def on_messages(messages: Messages) -> None:
        now = time.perf_counter()
        for _, _, body in messages:
            trips.extend(now - began.pop(task) for task, _ in msgpack.unpackb(body))
        submit()
        if len(trips) >= tasks and not over.done():
            over.set_result(None)

    _, send = dealer(url, CLIENT, on_messages)
    await asyncio.sleep(0.5)
    start = time.perf_counter()
    submit()
    await over
    took = time.perf_counter() - start
    trips.sort()
    return {
        "tasks_per_second": tasks / took,
        "round_trip_p50_us": 1e6 * trips[tasks // 2],
        "round_trip_p99_us": 1e6 * trips[int(tasks * 0.99)],
    }


# ---------------------------------------------------------------------------------------------- all of them


def _run(part: Callable[..., Any], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loops.run(part(*arguments))


def _run_runtime(url: str) -> None:
    children: list[tuple[int, int]] = []
    for _ in range(CHILDREN):
        children.append(start_child(children))
    _run(runtime, url, children)


@contextmanager
def processes(url: str, path: str, one_process: bool) -> Iterator[None]:
    hub = [(broker_and_controller, url, path)] if one_process else [(broker, url), (controller, url, path)]
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_run, args=each) for each in hub]
    started.append(context.Process(target=_run_runtime, args=(url,)))
    try:
        for process in started:
            process.start()
            time.sleep(0.2)
        yield
    finally:
        for process in started:
            process.terminate()
            process.join()


def measure(tasks: int, window: int, chunk: int, *, store: bool = True, one_process: bool = False) -> dict[str, float]:
    """Everything in processes of its own, this one being the client."""
    url = f"tcp://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="ceiling-") as folder:
        path = str(Path(folder) / "ceiling.db") if store else ""
        with processes(url, path, one_process):
            return loops.run(client(url, tasks, window, chunk))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--window", type=int, default=5_000, help="tasks that are open at most")
    parser.add_argument("--chunk", type=int, default=100, help="tasks in one message")
    parser.add_argument("--store", action="store_true", help="write submissions and results to SQLite")
    parser.add_argument("--one-process", action="store_true", help="broker and controller in one process")
    found = parser.parse_args()
    rates = measure(found.tasks, found.window, found.chunk, store=found.store, one_process=found.one_process)
    print(json.dumps({name: round(value) for name, value in rates.items()}))


if __name__ == "__main__":
    main()
