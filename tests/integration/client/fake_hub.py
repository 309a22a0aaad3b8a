"""A bus of one thread that answers the client's messages over a real ROUTER socket, and misbehaves when told to.

It plays broker and controller at once: tasks are run on the spot, or kept until the test releases them. Its memory
outlives ``cut`` and ``restart``, as the real hub's store does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import zmq
from msgspec.structs import replace

from headway_bus import messages as m
from headway_bus import payloads
from headway_bus.codec import Decoder, encode
from headway_bus.ids import TaskId, text_of
from headway_bus.records import (
    Blob,
    Code,
    ErrorInfo,
    Estimate,
    JobInfo,
    Kind,
    LogRecord,
    Options,
    Outcome,
    QueueState,
    Reason,
    RuntimeInfo,
    RuntimeState,
    Status,
    TaskInfo,
)

CONTROLLER = b"controller"
FRAME = 64 * 1024


class FakeHub:
    """``with FakeHub() as hub``: ``hub.url`` is where it answers. Every attribute may be changed while it runs."""

    def __init__(self) -> None:
        self.hold = False
        """Keep tasks until :meth:`release` instead of running them at once."""

        self.drop: Counter[str] = Counter()
        """Messages to lose, by name, either direction: ``hub.drop["accepted"] = 2`` loses the next two."""

        self.twice: Counter[str] = Counter()
        """Messages to send twice."""

        self.deny: Callable[[Options], tuple[Code, str] | None] = lambda options: None
        self.refuse_hello: Code | None = None
        self.silent = False
        self.seen: Counter[str] = Counter()
        self.submits: list[m.Submit] = []
        self.tasks: dict[TaskId, tuple[Options, bytes]] = {}
        self.runs: Counter[TaskId] = Counter()
        self.outcomes: dict[TaskId, tuple[Outcome, list[bytes]]] = {}
        self.blobs: dict[bytes, bytearray] = {}
        self.logs: dict[TaskId, list[LogRecord]] = {}
        self.topics: dict[bytes, set[str]] = {}
        self.unacknowledged: set[int] = set()
        self.heartbeat = 0.4
        self._waiting: dict[TaskId, set[bytes]] = {}
        self._held: list[TaskId] = []
        self._batch = 0
        self._instance = os.urandom(8)
        self._controller = os.urandom(8)
        self._greeted: set[bytes] = set()
        self._work: queue.Queue[tuple[Callable[[], None], threading.Event]] = queue.Queue()
        self._decoder = Decoder(m.BROKER_RECEIVES | m.ClientToController)
        self._context = zmq.Context()
        self._bell_in = self._context.socket(zmq.PAIR)
        self._bell_in.bind("inproc://bell")
        self._bell_out = self._context.socket(zmq.PAIR)
        self._bell_out.connect("inproc://bell")
        self._router = self._bind("tcp://127.0.0.1:*")
        self.url = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="fake-hub", daemon=True)

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.do(self._stop)
        self._thread.join(10)
        self._bell_out.close(0)
        self._context.destroy(0)

    # ------------------------------------------------------------------------------------------------ a test's verbs

    def do(self, work: Callable[[], None]) -> None:
        """Run something in the hub's thread and wait for it."""
        done = threading.Event()
        self._work.put((work, done))
        self._bell_out.send(b"")
        assert done.wait(10)

    def release(self, count: int | None = None) -> None:
        """Run tasks that are held, oldest first."""
        self.do(lambda: self._release(count))

    def cut(self) -> None:
        """Every connection breaks; the address answers again at once, by a broker that knows nobody."""
        self.do(self._cut)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody answers inside the block."""
        self.do(lambda: self._router.close(0))
        try:
            yield
        finally:
            self.do(self._restart)

    def controller_away(self) -> None:
        self.do(lambda: self._set_controller(b""))

    def controller_back(self) -> None:
        """A new controller, which remembers tasks but not who waits for them."""
        self.do(lambda: self._set_controller(os.urandom(8)))

    def say(
        self, task: TaskId, text: str, *, stored: bool = True, published: bool = True, stream: str = "stdout"
    ) -> None:
        """A log record of a task: stored, published, or both."""

        def say() -> None:
            kept = self.logs.setdefault(task, [])
            sequence = self._sequences[task]
            self._sequences[task] += 1
            record = LogRecord(task, 1, sequence, stream, time.time(), text)
            if stored:
                kept.append(record)
            if published:
                self._publish(f"logs.{text_of(task)}", "logs", [record])

        self.do(say)

    def publish(self, topic: str, name: str, data: dict[str, Any]) -> None:
        self.do(lambda: self._publish(topic, name, [], data))

    @functools.cached_property
    def _sequences(self) -> Counter[TaskId]:
        return Counter()

    # ------------------------------------------------------------------------------------------------ the thread

    def _bind(self, url: str) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        while True:
            try:
                router.bind(url)
                return router
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise
                time.sleep(0.001)  # ZeroMQ closes the old socket in a thread of its own, and tells nobody when

    def _run(self) -> None:
        while not self._stopped:
            poller = zmq.Poller()
            poller.register(self._bell_in, zmq.POLLIN)
            if not self._router.closed:
                poller.register(self._router, zmq.POLLIN)
            ready = dict(poller.poll())
            if self._bell_in in ready:
                self._bell_in.recv()
                work, done = self._work.get()
                work()
                done.set()
            elif self._router in ready:
                self._receive(self._router.recv_multipart())
        self._router.close(0)
        self._bell_in.close(0)

    def _stop(self) -> None:
        self._stopped = True

    def _cut(self) -> None:
        self._router.close(0)
        self._restart()

    def _restart(self) -> None:
        self._greeted.clear()
        self._waiting.clear()
        self.topics.clear()
        self._instance = os.urandom(8)
        self._router = self._bind(self.url)

    def _set_controller(self, instance: bytes) -> None:
        self._controller = instance
        self._waiting.clear()
        for route in self._greeted:
            self._send(route, b"", m.ControllerChanged(instance))

    def _receive(self, frames: list[bytes]) -> None:
        route, target, header, *payload = frames
        message = self._decoder.decode(header)
        name = m.tag_of(type(message).__name__)
        self.seen[name] += 1
        if self.silent or self._spend(self.drop, name):
            return
        if isinstance(message, m.Hello):
            self._greet(route, message)
        elif route not in self._greeted:
            self._send(route, b"", m.Rejected(Code.NOT_GREETED, "say hello first"))
        elif target != b"" and not self._controller:
            self._send(route, b"", m.Undeliverable("controller", name, Code.NO_CONTROLLER))
        else:
            getattr(self, f"_on_{name}")(route, message, payload)

    def _send(self, route: bytes, source: bytes, message: m.Message, frames: list[bytes] | tuple[()] = ()) -> None:
        name = m.tag_of(type(message).__name__)
        if self._spend(self.drop, name):
            return
        for _ in range(2 if self._spend(self.twice, name) else 1):
            self._router.send_multipart([route, source, encode(message), *frames])

    @staticmethod
    def _spend(budget: Counter[str], name: str) -> bool:
        if budget[name] > 0:
            budget[name] -= 1
            return True
        return False

    def _answer(self, route: bytes, message: m.Message, frames: list[bytes] | tuple[()] = ()) -> None:
        self._send(route, CONTROLLER, message, frames)

    # ------------------------------------------------------------------------------------------------ as the broker

    def _greet(self, route: bytes, hello: m.Hello) -> None:
        if self.refuse_hello is not None:
            self._send(route, b"", m.Rejected(self.refuse_hello, "not today"))
            return
        self._greeted.add(route)
        name = hello.name or f"client-{len(self._greeted)}"
        self._send(route, b"", m.Welcome(1, name, self._instance, self.heartbeat, 64 * 1024 * 1024, self._controller))

    def _on_ping(self, route: bytes, message: m.Ping, payload: list[bytes]) -> None:
        self._send(route, b"", m.Pong(message.sent))

    def _on_bye(self, route: bytes, message: m.Bye, payload: list[bytes]) -> None:
        self._greeted.discard(route)

    def _on_subscribe(self, route: bytes, message: m.Subscribe, payload: list[bytes]) -> None:
        self.topics.setdefault(route, set()).update(message.topics)

    def _on_unsubscribe(self, route: bytes, message: m.Unsubscribe, payload: list[bytes]) -> None:
        self.topics.get(route, set()).difference_update(message.topics)

    def _on_ask_broker(self, route: bytes, message: m.AskBroker, payload: list[bytes]) -> None:
        self._send(route, b"", m.BrokerState(message.request, 0.0, [], {"routed": 1}))

    def _publish(self, topic: str, name: str, records: list[LogRecord], data: dict[str, Any] | None = None) -> None:
        for route, topics in self.topics.items():
            if topic in topics:
                self._answer(route, m.Event(topic, name, data or {}, records))

    # ------------------------------------------------------------------------------------------------ as the controller

    def _on_submit(self, route: bytes, message: m.Submit, payload: list[bytes]) -> None:
        self.submits.append(message)
        for group in message.groups:
            refusal = self.deny(group.options)
            if refusal is not None:
                self._answer(route, m.Denied(message.request, *refusal))
                return
        known = count = 0
        fresh: list[TaskId] = []
        for group in message.groups:
            for task, content in group.tasks:
                count += 1
                self._waiting.setdefault(task, set()).add(route)
                if task in self.tasks:
                    known += 1
                    if task in self.outcomes:
                        fresh.append(task)
                    continue
                data = payload[content] if isinstance(content, int) else content
                self.tasks[task] = (group.options, bytes(self.blobs[data.hash]) if isinstance(data, Blob) else data)
                fresh.append(task)
        self._answer(route, m.Accepted(message.request, count, known, "fake", Estimate(0.5, 0.1, 0.4, 0.9)))
        self._held += [task for task in fresh if task not in self.outcomes]
        if not self.hold:
            self._release(None)
        self._tell([task for task in fresh if task in self.outcomes])

    def _release(self, count: int | None) -> None:
        chosen, self._held = self._held[:count], [] if count is None else self._held[count:]
        for task in chosen:
            self._run_task(task)
        self._tell(chosen)

    def _run_task(self, task: TaskId) -> None:
        options, data = self.tasks[task]
        self.runs[task] += 1
        try:
            value = _perform(options, data)
            result = payloads.encode_result_by_value(value) if options.by_value else payloads.encode(value)
            outcome = Outcome(task, Status.SUCCEEDED, 1, by_value=options.by_value, runtime="fake", predicted=0.5)
        except Exception as error:
            details = ErrorInfo(Reason.EXCEPTION, str(error), type(error).__name__, f"Traceback …\n{error!r}")
            outcome, result = Outcome(task, Status.FAILED, 1, error=details, runtime="fake"), b""
        self._finish(outcome, result)

    def _finish(self, outcome: Outcome, result: bytes = b"") -> None:
        self.outcomes[outcome.task] = (outcome, [result])

    def end(self, task: TaskId, status: Status, reason: Reason, text: str) -> None:
        """End a task that is held in some other way."""

        def end() -> None:
            self._held.remove(task)
            self._finish(Outcome(task, status, 1, error=ErrorInfo(reason, text)))
            self._tell([task])

        self.do(end)

    def _tell(self, tasks: list[TaskId]) -> None:
        by_route: dict[bytes, list[TaskId]] = {}
        for task in tasks:
            for route in self._waiting.pop(task, ()):
                by_route.setdefault(route, []).append(task)
        for route, ended in by_route.items():
            outcomes, frames = [], []
            for task in ended:
                outcome, (result,) = self.outcomes[task]
                outcomes.append(replace(outcome, result=self._placed(result, frames)))
            self._batch += 1
            self.unacknowledged.add(self._batch)
            self._answer(route, m.TasksEnded(self._batch, outcomes), frames)

    def _placed(self, result: bytes, frames: list[bytes]) -> bytes | int | Blob:
        if len(result) > FRAME:
            blob = Blob(hashlib.blake2b(result, digest_size=32).digest(), len(result))
            self.blobs[blob.hash] = bytearray(result)
            return blob
        if len(result) > 1024:
            frames.append(result)
            return len(frames) - 1
        return result

    def _on_await(self, route: bytes, message: m.Await, payload: list[bytes]) -> None:
        for task in message.tasks:
            self._waiting.setdefault(task, set()).add(route)
        unknown = [(text_of(task), "not-found") for task in message.tasks if task not in self.tasks]
        self._answer(route, m.Changed(message.request, len(message.tasks) - len(unknown), unknown))
        self._tell([task for task in message.tasks if task in self.outcomes])

    def _on_received(self, route: bytes, message: m.Received, payload: list[bytes]) -> None:
        self.unacknowledged.difference_update(message.batches)

    def _on_cancel(self, route: bytes, message: m.Cancel, payload: list[bytes]) -> None:
        chosen = [
            task
            for task, (options, _) in self.tasks.items()
            if (task in message.tasks or (message.job and options.job == message.job)) and task not in self.outcomes
        ]
        for task in chosen:
            self._held.remove(task)
            self._finish(Outcome(task, Status.CANCELLED, 0, error=ErrorInfo(Reason.CANCELLED, "by a client")))
        refused = [(text_of(task), "it is over") for task in message.tasks if task not in chosen]
        self._tell(chosen)  # as the controller does: the ends, then the answer
        self._answer(route, m.Changed(message.request, len(chosen), refused))

    def _on_retry_tasks(self, route: bytes, message: m.RetryTasks, payload: list[bytes]) -> None:
        chosen = [task for task in message.tasks if task in self.outcomes]
        for task in chosen:
            del self.outcomes[task]
        self._held += chosen
        self._answer(route, m.Changed(message.request, len(chosen)))
        if not self.hold:
            self._release(None)

    def _on_purge(self, route: bytes, message: m.Purge, payload: list[bytes]) -> None:
        chosen = [task for task in message.tasks if self.tasks.pop(task, None)]
        self._answer(route, m.Changed(message.request, len(chosen)))

    def _on_drain_runtime(self, route: bytes, message: m.DrainRuntime, payload: list[bytes]) -> None:
        if message.runtime != "fake":
            self._answer(
                route, m.Denied(message.request, Code.NOT_FOUND, f"no runtime {message.runtime}; there is: fake")
            )
        else:
            self._answer(route, m.Changed(message.request, 1))

    def _info(self, task: TaskId) -> TaskInfo:
        options, _ = self.tasks[task]
        ended = task in self.outcomes
        status = self.outcomes[task][0].status if ended else Status.QUEUED
        if ended:
            return TaskInfo(task, status, options, 1, 0.0, runtime="fake")
        estimate = Estimate(1.0, 0.5, 0.9, 2.0)
        return TaskInfo(
            task, status, options, 1, 0.0, start_estimate=estimate, end_estimate=estimate, start_runtime="fake"
        )

    def _on_ask_task(self, route: bytes, message: m.AskTask, payload: list[bytes]) -> None:
        found = [task for task, (options, _) in self.tasks.items() if message.prefix in (options.key, text_of(task))]
        found = found or [task for task in self.tasks if text_of(task).startswith(message.prefix)]
        if len(found) == 1:
            self._answer(route, m.TaskFound(message.request, self._info(found[0])))
        else:
            code = Code.AMBIGUOUS if found else Code.NOT_FOUND
            self._answer(route, m.Denied(message.request, code, f"{len(found)} tasks begin with {message.prefix!r}"))

    def _on_ask_tasks(self, route: bytes, message: m.AskTasks, payload: list[bytes]) -> None:
        found = [
            task
            for task in sorted(self.tasks, reverse=True)
            if (not message.job or self.tasks[task][0].job == message.job)
            and (not message.before or task < message.before)
        ]
        page = found[: message.limit]
        following = page[-1] if len(found) > len(page) else TaskId(b"")
        self._answer(route, m.TaskPage(message.request, [self._info(task) for task in page], following))

    def _on_ask_logs(self, route: bytes, message: m.AskLogs, payload: list[bytes]) -> None:
        records = self.logs.get(message.task, [])[message.after : message.after + message.limit]
        following = message.after + len(records)
        complete = message.task in self.outcomes and following == len(self.logs.get(message.task, []))
        self._answer(route, m.LogPage(message.request, records, following, complete))

    def _on_ask_jobs(self, route: bytes, message: m.AskJobs, payload: list[bytes]) -> None:
        counts = Counter(options.job for options, _ in self.tasks.values())
        jobs = [
            JobInfo(job, {"queued": count}) for job, count in counts.items() if not message.job or job == message.job
        ]
        self._answer(route, m.JobPage(message.request, jobs))

    def _on_ask_runtimes(self, route: bytes, message: m.AskRuntimes, payload: list[bytes]) -> None:
        state = RuntimeState(RuntimeInfo("fake", 2.0), "online", 0.0, 0.0)
        self._answer(route, m.RuntimePage(message.request, [state]))

    def _on_ask_queues(self, route: bytes, message: m.AskQueues, payload: list[bytes]) -> None:
        queues = [QueueState("fake", message.target or "any", Estimate(1.0, 0.5))]
        self._answer(route, m.QueuePage(message.request, queues, {"": {"p50": 0.5}}))

    def _on_ask_estimate(self, route: bytes, message: m.AskEstimate, payload: list[bytes]) -> None:
        self._answer(route, m.EstimateFound(message.request, "fake", Estimate(1.0, 0.5), Estimate(2.0, 0.5)))

    def _on_ask_explain(self, route: bytes, message: m.AskExplain, payload: list[bytes]) -> None:
        self._answer(route, m.Explained(message.request, {"chosen": "fake"}))

    def _on_ask_controller(self, route: bytes, message: m.AskController, payload: list[bytes]) -> None:
        self._answer(route, m.ControllerState(message.request, {"version": "0"}, {"accepted": len(self.tasks)}))

    def _on_control(self, route: bytes, message: m.Control, payload: list[bytes]) -> None:
        self._answer(route, m.Changed(message.request, 1))

    def _on_blob_put(self, route: bytes, message: m.BlobPut, payload: list[bytes]) -> None:
        have = self.blobs.setdefault(message.blob.hash, bytearray())
        if message.offset == len(have) and len(have) < message.blob.size:
            have += payload[0]
        self._answer(route, m.BlobHave(message.request, message.blob, len(have)))

    def _on_blob_get(self, route: bytes, message: m.BlobGet, payload: list[bytes]) -> None:
        have = self.blobs.get(message.blob.hash)
        if have is None:
            self._answer(route, m.Denied(message.request, Code.NOT_FOUND, "no such blob"))
            return
        part = bytes(have[message.offset : message.offset + message.length])
        self._answer(route, m.BlobPart(message.request, message.blob, message.offset), [part])


def _perform(options: Options, data: bytes) -> Any:
    if options.by_value:
        function, args, kwargs = payloads.decode_by_value(data)
        return function(*args, **kwargs)
    args, kwargs, extras = payloads.decode_call(data)
    if options.kind == Kind.CALL:
        module, _, path = options.target.partition(":")
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))(*args, **kwargs)
    files = [[file.path, file.content.size] for file in options.files]
    return {"target": options.target, "args": list(args), "extras": extras, "files": files}
