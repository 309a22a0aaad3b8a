"""1 MiB there and back over the same two hops with nothing but sockets: client → router → echo, and back, 16 on their way.

``python -m benchmarks.bare_payload [--echoes N]`` prints echoes a second.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from typing import Any

import zmq
from benchmarks.ceiling import _run, free_port

from headway_bus import loops
from headway_bus.endpoint import Endpoint

MEBIBYTE = 1 << 20
OPEN = 16
CLIENT, ECHO = b"client", b"echo"


def _socket(kind: int, name: bytes = b"") -> zmq.Socket[bytes]:
    made: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    made.set_hwm(0)
    if name:
        made.setsockopt(zmq.IDENTITY, name)
    return made


async def hub(url: str) -> None:
    def forward(messages: list[list[Any]]) -> None:
        for source, target, *rest in messages:
            if target:
                end.send([target, source, *rest])

    router = _socket(zmq.ROUTER)
    router.bind(url)
    end = Endpoint(router, forward, head=2)
    await asyncio.Event().wait()


async def echo(url: str) -> None:
    def back(messages: list[list[Any]]) -> None:
        for source, *rest in messages:
            end.send([source, *rest])

    dealer = _socket(zmq.DEALER, ECHO)
    dealer.connect(url)
    end = Endpoint(dealer, back, head=1)
    end.send([b"", b"hello"])
    await asyncio.Event().wait()


async def client(url: str, echoes: int) -> float:
    content = bytes(MEBIBYTE)
    over = asyncio.get_running_loop().create_future()
    heard = sent = 0

    def on_messages(messages: list[list[Any]]) -> None:
        nonlocal heard, sent
        for _, body in messages:
            if len(body) != MEBIBYTE:
                raise AssertionError(f"an echo of {len(body)} bytes")
            heard += 1
            if sent < echoes:
                sent += 1
                end.send([ECHO, content])
        if heard >= echoes and not over.done():
            over.set_result(None)

    dealer = _socket(zmq.DEALER, CLIENT)
    dealer.connect(url)
    end = Endpoint(dealer, on_messages, head=1)
    end.send([b"", b"hello"])
    await asyncio.sleep(0.3)
    began = time.perf_counter()
    for _ in range(min(OPEN, echoes)):
        sent += 1
        end.send([ECHO, content])
    await over
    return echoes / (time.perf_counter() - began)


def measure(echoes: int) -> float:
    """Echoes a second."""
    url = f"tcp://127.0.0.1:{free_port()}"
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_run, args=(part, url)) for part in (hub, echo)]
    try:
        for process in others:
            process.start()
            time.sleep(0.2)
        return loops.run(client(url, echoes))
    finally:
        for process in others:
            process.terminate()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--echoes", type=int, default=1_000)
    print(round(measure(parser.parse_args().echoes), 1))


if __name__ == "__main__":
    main()
