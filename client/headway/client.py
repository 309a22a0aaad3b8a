"""The blocking face of the bus: ``with headway.Client() as bus``. The same verbs, from any thread."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from headway.blobs import store, store_content
from headway.bus import EDGE_MODEL, MAP_UNACCEPTED, TELL_PATIENCE, Bus
from headway.calls import Caller, Files, Target, chunks, command_extras, command_line, file_contents, script_files
from headway.client_task import ClientTask
from headway.client_union import ClientUnion
from headway.connection import ASK_PATIENCE, FLUSH_PATIENCE
from headway.engine import Accepting, Engine, awaited
from headway.options import NONE_CHOSEN
from headway.outputs import Output
from headway.parcels import MESSAGE_BYTES, make_unit
from headway.places import find_place
from headway.questions import CHANGE_PATIENCE
from headway.subscription import Subscription
from headway.task import Prediction
from headway.union import Union
from headway_bus import ids, messages
from headway_bus.records import Blob, File, JobInfo, Kind, Options, QueueState, RuntimeState, TaskInfo


class Client:
    """A connection to the bus for code without ``async``. Thread-safe; ``close()`` it, or use ``with``.

    ``url``: else $HEADWAY_BUS, else config.toml (``config`` says which), else the default. ``timeout``: seconds until
    NoBus is raised. ``name``, ``by_value``, ``key_file``: as for :func:`headway.connect`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        config: str | Path | None = None,
        timeout: float | None = None,
        name: str = "",
        by_value: bool = False,
        key_file: str | Path | None = None,
    ) -> None:
        place = find_place(url, config, timeout, name, by_value, key_file)
        self._engine = Engine(place)
        self._caller = Caller(NONE_CHOSEN, place.limits.payload_limit)

    # ------------------------------------------------------------------------------------------------ the connection

    @property
    def url(self) -> str:
        return self._engine.connection.url

    @property
    def name(self) -> str:
        """This client's name on the bus."""
        return self._engine.connection.name

    def wait_until_served(self, timeout: float) -> None:
        """Wait for a controller behind the broker that answers. Raises NoBus if there is none within ``timeout`` seconds."""
        self._engine.run(self._engine.connection.until_served(timeout))

    @property
    def closed(self) -> bool:
        return self._engine.closed

    def close(self, patience: float = FLUSH_PATIENCE) -> None:
        """Wait at most ``patience`` seconds until what was submitted is stored, then leave. Cancels no task."""
        self._engine.close(patience)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def options(self, **options: Any) -> Client:
        """The same client with these options for what it submits; see docs/library.md for all of them."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._caller = self._caller.with_(options)
        return view

    def attach(self, files: Files) -> Client:
        """The same client with files for the calls that it submits, uploaded now: paths, or names to paths or bytes.

        Each travels once to a runtime, by its hash, however many calls have it; ``headway.context().files[name]`` is its
        path there.
        """
        uploaded = [File(name, self._store_content(each)) for name, each in file_contents(files).items()]
        view = self.options()
        view._caller = self._caller.with_files(uploaded)
        return view

    # ------------------------------------------------------------------------------------------------ submitting

    def submit(self, target: Target, /, *args: Any, **kwargs: Any) -> ClientTask:
        """Submit one call, ``target(*args, **kwargs)``. Returns when the bus has stored it.

        ``target``: "package.module:function", or a function that the runtime can import. Raises Refused, CannotEncode,
        TooLarge, and TimeoutError if the option ``submit_timeout`` is set and passes.
        """
        return self._submit(self._caller.call(target), self._caller.encode(target, args, kwargs))

    def submit_soon(self, target: Target, /, *args: Any, **kwargs: Any) -> ClientTask:
        """Submit one call and do not wait until it is stored; a refusal becomes the task's exception."""
        record, data = self._caller.call(target), self._caller.encode(target, args, kwargs)
        task = ClientTask(self._caller.new_id(self._engine.connection.namespace), self._engine, record)
        accepted = Accepting()

        def on_answer(accepted: Accepting) -> None:
            error = accepted.exception()
            if error is not None:
                task._abandon(error)

        accepted.add_done_callback(on_answer)
        self._hand_in(record, [task], [self._content(data)], accepted)
        return task

    def command(
        self,
        line: str,
        params: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> ClientTask:
        """Submit a line for the shell. ``params`` replace ``{name}`` in it, quoted; ``env`` is added to its environment."""
        data = self._caller.encode_extras((), command_extras(params, env, cwd))
        return self._submit(self._caller.other(Kind.COMMAND, command_line(line, params)), data)

    def script(
        self,
        path: str | Path,
        args: Sequence[Any] = (),
        files: Files | None = None,
        params: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> ClientTask:
        """Submit a Python script of this machine, uploaded with its files. ``files``: paths, or names to paths or bytes."""
        name, contents = script_files(path, files)
        uploaded = [File(where, self._store_content(each)) for where, each in contents.items()]
        data = self._caller.encode_extras([str(arg) for arg in args], command_extras(params, env, cwd))
        return self._submit(self._caller.script(name, uploaded), data)

    def bundle(
        self,
        source: str | Path,
        args: Sequence[Any] = (),
        entry: str = "",
        commit: str = "",
        params: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ClientTask:
        """Submit a script with all that it needs: a file, a folder, a zip, or (with ``commit``) a git repository.

        ``entry``: the script among its files that is run, if the bundle does not say. What the bus has already is not sent
        again. Raises BundleError for a bad bundle, PullFailed with what git said; see docs/bundles.md.
        """
        found = self._engine.run(self._bus.bundle(source, args, entry, commit, params, env))
        return ClientTask(found.task_id, self._engine, found.options, heeded=False)

    def model(self, name: str, /, *args: Any, **kwargs: Any) -> ClientTask:
        """Submit a call of a model that a runtime serves."""
        return self._submit(self._caller.other(Kind.MODEL, name), self._caller.encode(name, args, kwargs))

    def tell(self, edge: str, value: Any, /, *, offline: float = TELL_PATIENCE) -> ClientTask:
        """Tell an edge's plugins something: a task that ends with what they answer.

        ``offline``: seconds for which it stays with an edge that is cut off.
        """
        return self.options(runtime=edge, offline=offline).model(EDGE_MODEL, "tell", value)

    def union(
        self,
        target: Target,
        /,
        *args: Any,
        merge: Target | None = None,
        rounds: int | None = None,
        initial: Any = None,
        **kwargs: Any,
    ) -> ClientUnion:
        """Submit ``target(*args, **kwargs)`` to every runtime that the option ``edges`` selects, as one task.

        ``merge``: a function of the list of values, whose value is the union's ``merged``. With ``rounds`` the target is
        called as ``target(value, *args, …)``: ``initial`` in the first round, the merged value of the round before in the
        others. The options ``quorum``, ``deadline``, ``late``, ``least_edges`` and ``associative`` are in docs/union.md.
        """
        record, data = self._caller.union(target, args, kwargs, merge, rounds, initial)
        return ClientUnion(self._submit(record, data), self._engine)

    def deploy(
        self, content: bytes | Path | Output, name: str, to: str, *, deadline: float | None = None
    ) -> ClientUnion:
        """Bring a file to every runtime that the selector ``to`` matches; ``headway.deployed(name)`` is its path there.

        ``content``: its bytes, a file of this machine, or what a task left (``task.outputs()``), which need not come here.
        A union whose values say ``path``, ``size`` and ``hash``; those that are away get it when they are back.
        """
        return self._union(self._engine.run(self._bus.deploy(content, name, to, deadline=deadline)))

    def union_of(self, which: str | bytes, *, timeout: float | None = ASK_PATIENCE) -> ClientUnion:
        """A union by its id, the beginning of its id, or its key. Raises Refused if there is none, or it is no union."""
        return self._union(self._engine.run(self._bus.union_of(which, timeout=timeout)))

    def _union(self, found: Union) -> ClientUnion:
        task = ClientTask(found.task.task_id, self._engine, found.task.options, found.task.status, heeded=False)
        return ClientUnion(task, self._engine)

    def map(self, target: Target, /, *iterables: Iterable[Any], chunksize: int | None = None) -> list[ClientTask]:
        """Submit ``target(*row)`` for each row of the zipped iterables; the tasks in their order, when all are stored.

        ``chunksize``: tasks in one message at most; None: as many as fit.
        """
        return self.starmap(target, zip(*iterables, strict=False), chunksize=chunksize)

    def starmap(
        self, target: Target, rows: Iterable[Sequence[Any]], *, chunksize: int | None = None
    ) -> list[ClientTask]:
        """Submit ``target(*row)`` for each row; like :meth:`map` with the arguments zipped already."""
        caller = self._caller
        caller.check_several()
        record = caller.call(target)
        tasks: list[ClientTask] = []
        accepting: list[Accepting] = []
        for chunk in chunks(rows, chunksize):
            for part in self._parts([caller.encode(target, row, {}) for row in chunk]):
                made = [ClientTask(task_id, self._engine, record) for task_id in ids.new_task_ids(len(part))]
                accepting.append(Accepting())
                self._hand_in(record, made, part, accepting[-1])
                self._until_few(accepting, MAP_UNACCEPTED, len(tasks))
                tasks += made
        self._until_few(accepting, 0, len(tasks))
        return tasks

    def estimate(
        self, target: Target, *, kind: str = "call", timeout: float | None = ASK_PATIENCE, **options: Any
    ) -> Prediction:
        """Where and when a task would start and end, were it submitted now."""
        return self._engine.run(self._bus.estimate(target, kind=kind, timeout=timeout, **options))

    # ------------------------------------------------------------------------------------------------ asking

    def task(self, which: str | bytes, *, timeout: float | None = ASK_PATIENCE) -> ClientTask:
        """A task by its id, the beginning of its id, or its key, whoever submitted it. Raises Refused if none or several."""
        found = self._engine.run(self._bus.task(which, timeout=timeout))
        return ClientTask(found.task_id, self._engine, found.options, found.status, heeded=False)

    def tasks(
        self,
        job: str = "",
        status: str | Iterable[str] = (),
        queue: str = "",
        name: str = "",
        runtime: str = "",
        limit: int | None = None,
        *,
        timeout: float | None = ASK_PATIENCE,
    ) -> list[TaskInfo]:
        """Tasks, newest first, at most ``limit``. ``name`` is a shell-style pattern."""
        listing = self._bus.tasks(job, status, queue, name, runtime, limit, timeout=timeout)
        return self._engine.run(awaited(listing))

    def jobs(self, job: str = "", *, timeout: float | None = ASK_PATIENCE) -> list[JobInfo]:
        """The named groups of tasks, or one of them, with the number of tasks by status."""
        return self._engine.run(self._bus.jobs(job, timeout=timeout))

    def runtimes(self, *, timeout: float | None = ASK_PATIENCE) -> list[RuntimeState]:
        """The runtimes: what they offer, how they are, what they run."""
        return self._engine.run(self._bus.runtimes(timeout=timeout))

    def queues(self, target: str | None = None, *, timeout: float | None = ASK_PATIENCE) -> list[QueueState]:
        """The expected waiting time (expectation, error, p50, p90, in seconds) by runtime and target."""
        return self._engine.run(self._bus.queues(target, timeout=timeout))

    def scores(self, target: str | None = None, *, timeout: float | None = ASK_PATIENCE) -> dict[str, dict[str, float]]:
        """How well earlier estimates held, by target; under "" over all."""
        return self._engine.run(self._bus.scores(target, timeout=timeout))

    def cancel(
        self, tasks: Iterable[Any] = (), *, job: str = "", timeout: float | None = CHANGE_PATIENCE
    ) -> messages.Changed:
        """Cancel tasks, or all unfinished ones of a job; returns when they are over, with ``.count`` and ``.refused``."""
        return self._engine.run(self._bus.cancel(tasks, job=job, timeout=timeout))

    def retry(
        self, tasks: Iterable[Any] = (), *, job: str = "", timeout: float | None = CHANGE_PATIENCE
    ) -> messages.Changed:
        """Run ended tasks again, with a fresh count of attempts. Take them anew with ``task()`` to wait for their next end."""
        return self._engine.run(self._bus.retry(tasks, job=job, timeout=timeout))

    def purge(
        self, tasks: Iterable[Any] = (), *, job: str = "", timeout: float | None = CHANGE_PATIENCE
    ) -> messages.Changed:
        """Forget ended tasks and their results now."""
        return self._engine.run(self._bus.purge(tasks, job=job, timeout=timeout))

    def describe(self, task: Any, text: str, *, timeout: float | None = CHANGE_PATIENCE) -> None:
        """Give a task another description, whatever its status; nothing else of it changes, and a running one goes on.

        ``task``: one, or its id. Returns when it is stored.
        """
        self._engine.run(self._bus.describe(task, text, timeout=timeout))

    def drain(self, runtime: str, *, resume: bool = False, timeout: float | None = CHANGE_PATIENCE) -> messages.Changed:
        """Let a runtime finish what it runs and give it nothing new; ``resume`` takes that back."""
        return self._engine.run(self._bus.drain(runtime, resume=resume, timeout=timeout))

    def control(self, verb: str, *, timeout: float | None = CHANGE_PATIENCE, **arguments: Any) -> messages.Message:
        """An operator's verb on the controller: pause, resume, strategy, predictor, backup …"""
        return self._engine.run(self._bus.control(verb, timeout=timeout, **arguments))

    def counters(self, *, timeout: float | None = ASK_PATIENCE) -> dict[str, dict[str, int]]:
        """Everything that is counted, every drop and repeat: by "client", "broker", "controller"."""
        return self._engine.run(self._bus.counters(timeout=timeout))

    def broker(self, *, timeout: float | None = ASK_PATIENCE) -> messages.BrokerState:
        """What the broker knows of itself: start, peers, counters."""
        return self._engine.run(self._bus.broker(timeout=timeout))

    def controller(self, *, timeout: float | None = ASK_PATIENCE) -> messages.ControllerState:
        """What the controller knows of itself: version, store, settings, counters."""
        return self._engine.run(self._bus.controller(timeout=timeout))

    def subscribe(self, topic: str, *, timeout: float | None = None) -> Iterator[messages.Event]:
        """What is published on a topic, as it comes. TimeoutError after ``timeout`` seconds without an event."""

        async def begin() -> Subscription:
            return Subscription(self._engine.connection, topic)

        subscription = self._engine.run(begin())

        def events() -> Iterator[messages.Event]:
            try:
                while True:
                    yield self._engine.run(subscription.get(timeout))
            finally:
                self._engine.call_soon(subscription.close)

        return events()

    # ------------------------------------------------------------------------------------------------ inside

    @property
    def _bus(self) -> Bus:
        self._engine.check()
        return Bus(self._engine.connection, self._caller)

    def _submit(self, record: Options, data: bytes) -> ClientTask:
        task = ClientTask(self._caller.new_id(self._engine.connection.namespace), self._engine, record)
        accepted = Accepting()
        self._hand_in(record, [task], [self._content(data)], accepted)
        try:
            accepted.result(self._caller.choice.submit_timeout)
        except TimeoutError:
            raise TimeoutError(
                f"the bus has not said in time whether it has taken {task!r}; bus.task({task.id!r}) will know"
            ) from None
        return task

    def _hand_in(
        self, record: Options, tasks: list[ClientTask], contents: Sequence[bytes | Blob], accepted: Accepting
    ) -> None:
        on_log = self._caller.choice.on_log
        if on_log is not None:
            for task in tasks:
                task._call_back(on_log, accepted)
        pairs = [(task.task_id, content) for task, content in zip(tasks, contents, strict=True)]
        self._engine.submit(make_unit(record, pairs, tasks, self._engine.connection.limits.inline, accepted))

    def _content(self, data: bytes) -> bytes | Blob:
        return data if len(data) <= self._engine.connection.limits.frame else self._store(data)

    def _store_content(self, content: bytes | Path) -> Blob:
        return self._engine.run(store_content(self._engine.connection, content))

    def _store(self, data: bytes) -> Blob:
        return self._engine.run(store(self._engine.connection, data))

    def _parts(self, encoded: list[bytes]) -> Iterator[list[bytes | Blob]]:
        """The encoded calls in parts of a message each, large ones brought to the bus beforehand."""
        part: list[bytes | Blob] = []
        weight = 0
        for data in encoded:
            content = self._content(data)
            size = 0 if isinstance(content, Blob) else len(data)
            if part and weight + size > MESSAGE_BYTES:
                yield part
                part, weight = [], 0
            part.append(content)
            weight += size
        if part:
            yield part

    def _until_few(self, accepting: list[Accepting], most: int, before: int) -> None:
        """Wait until at most ``most`` messages of a map are unaccepted, which bounds what it holds in memory twice."""
        while len(accepting) > most:
            try:
                accepting[0].result(self._caller.choice.submit_timeout)
            except (Exception, concurrent.futures.CancelledError) as error:
                error.add_note(f"{before} tasks of this map had been handed in before and go on")
                raise
            accepting.pop(0)
