"""One client's round trips while others misbehave: ``python benchmarks/hostile.py [--connections 10000] [--seconds 5]``.

The broker has keys and is a process of its own; so is the hostile side, which does one thing at a time: raw connections that send
garbage and stay, connections that come and go, and a peer with a key that sends as fast as it can.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import socket as sockets
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import zmq
from curve import Pair

from headway_broker.limits import allow_descriptors
from headway_bus import messages as m
from headway_bus.codec import encode
from headway_bus.config import Broker
from headway_bus.keyring import Keyring
from headway_bus.keys import load_key, prepare_with
from headway_bus.link import BROKER, CONTROLLER

GARBAGE = [b"", b"\xff", b"\xff" + bytes(8) + b"\x7f\x03", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 16]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def stay(url: str, _: str, count: int, ready: Event, stop: Event) -> None:
    """Connections that send garbage, or nothing, and stay until they are cut."""
    allow_descriptors(count)
    held = []
    for number in range(count):
        with contextlib.suppress(OSError):
            each = sockets.create_connection(("127.0.0.1", _port(url)), timeout=5)
            each.sendall(GARBAGE[number % len(GARBAGE)])
            held.append(each)
        if number == count // 10:
            ready.set()
    stop.wait()


def come_and_go(url: str, _: str, count: int, ready: Event, stop: Event) -> None:
    """Connections, one after the other, as fast as they come."""
    ready.set()
    number = 0
    while not stop.is_set():
        number += 1
        with contextlib.suppress(OSError), sockets.create_connection(("127.0.0.1", _port(url)), timeout=5) as each:
            each.sendall(GARBAGE[number % len(GARBAGE)])


def flood(url: str, key: str, count: int, ready: Event, stop: Event) -> None:
    """A client with a key that sends what it may not, and garbage, without end."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.LINGER, 0)
        prepare = prepare_with(load_key(key))
        assert prepare is not None
        prepare(socket)
        socket.connect(url)
        socket.send_multipart([BROKER, encode(m.Hello(m.PROTOCOL_VERSION, "client", "", b"hostile"))])
        socket.recv_multipart()
        ready.set()
        while not stop.is_set():
            with contextlib.suppress(zmq.Again):
                for _ in range(100):
                    socket.send_multipart([CONTROLLER, b"\x91\xa5hello", GARBAGE[-1]], zmq.NOBLOCK)
            while socket.poll(0):
                socket.recv_multipart()


def percentiles(pair: Pair, seconds: float) -> tuple[float, float, float]:
    """Milliseconds: the median, the 99th percentile, the longest."""
    found = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        found.append(pair.round_trip(1) / 1000)
    ordered = sorted(found)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=Broker().messages_per_second, help="of a peer, in a second")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    attacks: dict[str, Callable[..., None]] = {
        f"{given.connections:,} connections with garbage that stay": stay,
        "connections that come and go": come_and_go,
        "a peer with a key that floods": flood,
    }
    with tempfile.TemporaryDirectory() as folder:
        keyring = Keyring(Path(folder) / "keys")
        keyring.init()
        client, controller = keyring.new("client", "client"), keyring.new("controller", "controller")
        keyring.new("hostile", "client")
        pair = Pair(str(keyring.folder), client, controller, given.rate)
        print("| what goes on | median, ms | p99, ms | longest, ms |\n|---|---|---|---|")
        print("| nothing else | {:.2f} | {:.2f} | {:.2f} |".format(*percentiles(pair, given.seconds)), flush=True)
        for what, attack in attacks.items():
            ready, stop = context.Event(), context.Event()
            key = str(keyring.key_path("hostile"))
            process = context.Process(target=attack, args=(pair.url, key, given.connections, ready, stop))
            process.start()
            ready.wait(60)
            print(f"| {what} | {{:.2f}} | {{:.2f}} | {{:.2f}} |".format(*percentiles(pair, given.seconds)), flush=True)
            stop.set()
            process.join(30)
        pair.close()


if __name__ == "__main__":
    main()
