"""What CURVE costs: round trips and throughput through a broker, with keys and without, on this machine.

``python benchmarks/curve.py [--messages 20000] [--rounds 5]`` prints a table. The broker is a process of its own; the two peers,
a client that asks and a controller that answers, are sockets in this one. Runs alternate, and the medians are compared, because
a machine is never the same for long.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import zmq

from headway_broker.limits import Limits
from headway_broker.service import BrokerService
from headway_bus import messages as m
from headway_bus.codec import encode
from headway_bus.keyring import Keyring
from headway_bus.keys import Key, prepare_with
from headway_bus.link import BROKER, CONTROLLER

WINDOW = 200
"""Messages on their way while throughput is measured."""

SIZES = (100, 10_000, 1_000_000)


def serve(keys: str, rate: int, pipe: Connection) -> None:
    """A broker, until the pipe says something. ``rate``: messages of a peer in a second; 0: any number."""

    async def work() -> None:
        keyring = Keyring(keys) if keys else None
        broker = BrokerService("tcp://127.0.0.1:0", keyring=keyring, limits=Limits(messages_per_second=rate))
        broker.start()
        pipe.send(broker.url)
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await broker.close()

    asyncio.run(work())


class Pair:
    """A client and a controller on one broker."""

    def __init__(self, keys: str, client: Key | None, controller: Key | None, rate: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(keys, rate, theirs))
        self._process.start()
        self.url: str = self._pipe.recv()
        self.client = self._connect("client", "", client)
        self.controller = self._connect("controller", "controller", controller)
        self.asker = self._ask_name()
        """As whom the controller is told of the client: its name, and its namespaces after a NUL."""

        self.name = self.asker.partition(b"\0")[0]

    def _connect(self, role: str, name: str, key: Key | None) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        prepare = prepare_with(key)
        if prepare is not None:
            prepare(socket)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVTIMEO, 30_000)
        socket.connect(self.url)
        socket.send_multipart([BROKER, encode(m.Hello(m.PROTOCOL_VERSION, role, name, role.encode()))])
        socket.recv_multipart()
        return socket

    def _ask_name(self) -> bytes:
        self.client.send_multipart([CONTROLLER, encode(m.AskJobs(1))])
        while True:
            source, _, *_ = self.controller.recv_multipart()
            if source != BROKER:
                break
        self.controller.send_multipart([source.partition(b"\0")[0], encode(m.JobPage(1, []))])
        while self.client.recv_multipart()[0] == BROKER:
            pass
        return source

    def round_trip(self, count: int) -> float:
        """Microseconds of one question and its answer."""
        ask, answer = encode(m.AskJobs(1)), encode(m.JobPage(1, []))
        began = time.perf_counter()
        for _ in range(count):
            self.client.send_multipart([CONTROLLER, ask])
            while self.controller.recv_multipart()[0] != self.asker:
                pass  # others may speak to it, too
            self.controller.send_multipart([self.name, answer])
            while self.client.recv_multipart()[0] == BROKER:
                pass
        return (time.perf_counter() - began) / count * 1e6

    def throughput(self, count: int, size: int) -> float:
        """Messages in a second from the client to the controller, with a payload of that size."""
        header, body = encode(m.AskJobs(1)), bytes(size)
        window = max(2, min(WINDOW, 20_000_000 // size))
        sent = received = 0
        began = time.perf_counter()
        while received < count:
            while sent < count and sent - received < window:
                self.client.send_multipart([CONTROLLER, header, body], copy=size < 100_000)
                sent += 1
            self.controller.recv_multipart(copy=False)
            received += 1
        return count / (time.perf_counter() - began)

    def close(self) -> None:
        self.client.close(0)
        self.controller.close(0)
        self._pipe.send(None)
        self._process.join(10)


def measure(messages: int, rounds: int) -> list[tuple[str, float, float]]:
    """What, without keys, with keys: medians over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        keyring = Keyring(Path(folder) / "keys")
        keyring.init()
        client, controller = keyring.new("client", "client"), keyring.new("controller", "controller")
        pairs = [Pair("", None, None), Pair(str(keyring.folder), client, controller)]
        found: dict[str, tuple[list[float], list[float]]] = {}
        try:
            for _ in range(rounds):
                for place, pair in enumerate(pairs):
                    found.setdefault("round trip, µs", ([], []))[place].append(pair.round_trip(messages // 10))
                    for size in SIZES:
                        count = max(50, min(messages, 100_000_000 // size))
                        what = f"messages of {size:,} bytes in a second"
                        found.setdefault(what, ([], []))[place].append(pair.throughput(count, size))
        finally:
            for pair in pairs:
                pair.close()
    return [(what, statistics.median(plain), statistics.median(keyed)) for what, (plain, keyed) in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print("| what | without keys | with CURVE | ratio |\n|---|---|---|---|")
    for what, plain, keyed in measure(given.messages, given.rounds):
        print(f"| {what} | {plain:,.0f} | {keyed:,.0f} | {keyed / plain:.2f} |")


if __name__ == "__main__":
    main()
