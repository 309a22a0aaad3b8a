"""The asynchronous face of the bus: ``async with headway.connect() as bus``."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from headway.blobs import store, store_content, store_file
from headway.bundle import BundleFile, opened
from headway.calls import Caller, Files, Target, chunks, command_extras, command_line, file_contents, script_files
from headway.connection import ASK_PATIENCE, FLUSH_PATIENCE, Connection, within
from headway.logs import call_back
from headway.options import NONE_CHOSEN
from headway.outputs import Output
from headway.parcels import MESSAGE_BYTES, make_unit
from headway.places import Place, find_place
from headway.questions import Questions
from headway.task import Prediction, Task
from headway.union import Union
from headway_bus import ids, messages
from headway_bus.errors import Refused
from headway_bus.ids import TaskId
from headway_bus.records import Blob, Code, File, Kind, Options

FILES_AT_A_TIME = 8
"""Files of a bundle that are on their way at the same time."""

EDGE_MODEL = "edge"
"""What every edge serves: messages to its plugins, and files."""

TELL_PATIENCE = 86_400.0
"""Seconds."""

MAP_UNACCEPTED = 8
"""Messages of one map that may be on their way, unaccepted; it reads its input no faster than that."""


class Bus(Questions):
    """A connection to the bus, with the options that its verbs use. Belongs to one event loop.

    ``options(…)`` gives another view on the same connection; closing any of them closes it.
    """

    __slots__ = ("_caller",)

    def __init__(self, connection: Connection, caller: Caller) -> None:
        super().__init__(connection)
        self._caller = caller

    # ------------------------------------------------------------------------------------------------ the connection

    @property
    def url(self) -> str:
        return self._connection.url

    @property
    def name(self) -> str:
        """This client's name on the bus."""
        return self._connection.name

    async def close(self, patience: float = FLUSH_PATIENCE) -> None:
        """Wait at most ``patience`` seconds until what was submitted is stored, then leave. Cancels no task."""
        await self._connection.close(patience)

    async def __aenter__(self) -> Bus:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def options(self, **options: Any) -> Bus:
        """The same bus with these options for what it submits; see docs/library.md for all of them."""
        return Bus(self._connection, self._caller.with_(options))

    async def attach(self, files: Files) -> Bus:
        """The same bus with files for the calls that it submits, uploaded now: paths, or names to paths or bytes.

        Each travels once to a runtime, by its hash, however many calls have it; ``headway.context().files[name]`` is its
        path there.
        """
        contents = await asyncio.to_thread(file_contents, files)
        uploaded = [File(name, await store_content(self._connection, each)) for name, each in contents.items()]
        return Bus(self._connection, self._caller.with_files(uploaded))

    # ------------------------------------------------------------------------------------------------ submitting

    async def submit(self, target: Target, /, *args: Any, **kwargs: Any) -> Task:
        """Submit one call, ``target(*args, **kwargs)``. Returns when the bus has stored it.

        ``target``: "package.module:function", or a function that the runtime can import. Raises Refused, CannotEncode,
        TooLarge, and TimeoutError if the option ``submit_timeout`` is set and passes.
        """
        caller = self._caller
        return await self._submit(caller.call(target), caller.encode(target, args, kwargs))

    async def command(
        self,
        line: str,
        params: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> Task:
        """Submit a line for the shell. ``params`` replace ``{name}`` in it, quoted; ``env`` is added to its environment."""
        caller = self._caller
        data = caller.encode_extras((), command_extras(params, env, cwd))
        return await self._submit(caller.other(Kind.COMMAND, command_line(line, params)), data)

    async def script(
        self,
        path: str | Path,
        args: Sequence[Any] = (),
        files: Files | None = None,
        params: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> Task:
        """Submit a Python script of this machine, uploaded with its files. ``files``: paths, or names to paths or bytes."""
        name, contents = await asyncio.to_thread(script_files, path, files)
        uploaded = [File(where, await store_content(self._connection, each)) for where, each in contents.items()]
        data = self._caller.encode_extras([str(arg) for arg in args], command_extras(params, env, cwd))
        return await self._submit(self._caller.script(name, uploaded), data)

    async def bundle(
        self,
        source: str | Path,
        args: Sequence[Any] = (),
        entry: str = "",
        commit: str = "",
        params: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Task:
        """Submit a script with all that it needs: a file, a folder, a zip, or (with ``commit``) a git repository.

        ``entry``: the script among its files that is run, if the bundle does not say. What the bus has already is not sent
        again. Raises BundleError for a bad bundle, PullFailed with what git said; see docs/bundles.md.
        """
        opening = opened(source, entry, commit)
        found = await asyncio.to_thread(opening.__enter__)
        try:
            files = await self._upload(found.files)
            data = self._caller.encode_extras([str(arg) for arg in args], command_extras(params, env, None))
            return await self._submit(self._caller.script(found.entry, files), data)
        finally:
            await asyncio.to_thread(opening.__exit__, None, None, None)

    async def model(self, name: str, /, *args: Any, **kwargs: Any) -> Task:
        """Submit a call of a model that a runtime serves."""
        caller = self._caller
        return await self._submit(caller.other(Kind.MODEL, name), caller.encode(name, args, kwargs))

    async def tell(self, edge: str, value: Any, /, *, offline: float = TELL_PATIENCE) -> Task:
        """Tell an edge's plugins something: a task that ends with what they answer.

        ``offline``: seconds for which it stays with an edge that is cut off.
        """
        return await self.options(runtime=edge, offline=offline).model(EDGE_MODEL, "tell", value)

    async def union(
        self,
        target: Target,
        /,
        *args: Any,
        merge: Target | None = None,
        rounds: int | None = None,
        initial: Any = None,
        **kwargs: Any,
    ) -> Union:
        """Submit ``target(*args, **kwargs)`` to every runtime that the option ``edges`` selects, as one task.

        ``merge``: a function of the list of values, whose value is the union's ``merged``. With ``rounds`` the target is
        called as ``target(value, *args, …)``: ``initial`` in the first round, the merged value of the round before in the
        others. The options ``quorum``, ``deadline``, ``late``, ``least_edges`` and ``associative`` are in docs/union.md.
        """
        record, data = self._caller.union(target, args, kwargs, merge, rounds, initial)
        return Union(await self._submit(record, data))

    async def deploy(
        self, content: bytes | Path | Output, name: str, to: str, *, deadline: float | None = None
    ) -> Union:
        """Bring a file to every runtime that the selector ``to`` matches; ``headway.deployed(name)`` is its path there.

        ``content``: its bytes, a file of this machine, or what a task left (``task.outputs()``), which need not come here.
        A union whose values say ``path``, ``size`` and ``hash``; those that are away get it when they are back.
        """
        source = content.content if isinstance(content, Output) else content
        blob = source if isinstance(source, Blob) else await store_content(self._connection, source)
        chosen = Bus(self._connection, self._caller.with_files([File(name, blob)]))
        chosen = chosen.options(edges=to, **({} if deadline is None else {"deadline": deadline}))
        return await chosen.union("headway_bus.deployed:place_file", name)

    async def union_of(self, which: str | bytes, *, timeout: float | None = ASK_PATIENCE) -> Union:
        """A union by its id, the beginning of its id, or its key. Raises Refused if there is none, or it is no union."""
        task = await self.task(which, timeout=timeout)
        if task.options.union is None:
            raise Refused(Code.INVALID, f"{task!r} is no union: it runs on one runtime")
        return Union(task)

    async def map(self, target: Target, /, *iterables: Iterable[Any], chunksize: int | None = None) -> list[Task]:
        """Submit ``target(*row)`` for each row of the zipped iterables; the tasks in their order, when all are stored.

        ``chunksize``: tasks in one message at most; None: as many as fit.
        """
        return await self.starmap(target, zip(*iterables, strict=False), chunksize=chunksize)

    async def starmap(
        self, target: Target, rows: Iterable[Sequence[Any]], *, chunksize: int | None = None
    ) -> list[Task]:
        """Submit ``target(*row)`` for each row; like :meth:`map` with the arguments zipped already."""
        self._caller.check_several()
        record = self._caller.call(target)
        tasks: list[Task] = []
        accepting: list[asyncio.Future[Any]] = []
        for chunk in chunks(rows, chunksize):
            encoded = [self._caller.encode(target, row, {}) for row in chunk]
            for part in await self._parts(encoded):
                made = self._hand_in(record, ids.new_task_ids(len(part)), part, accepting)
                await self._until_few(accepting, MAP_UNACCEPTED, len(tasks))
                tasks += made
        await self._until_few(accepting, 0, len(tasks))
        return tasks

    async def estimate(
        self, target: Target, *, kind: str = "call", timeout: float | None = ASK_PATIENCE, **options: Any
    ) -> Prediction:
        """Where and when a task would start and end, were it submitted now: ``estimate("work:train", meta={"rows": 1e6})``."""
        caller = self._caller.with_(options)
        record = caller.call(target) if kind == Kind.CALL else caller.other(Kind(kind), str(target))
        found: messages.EstimateFound = await self._ask(lambda number: messages.AskEstimate(number, record), timeout)
        return Prediction(found.runtime, found.starts, found.ends)

    # ------------------------------------------------------------------------------------------------ inside

    async def _upload(self, files: Sequence[BundleFile]) -> list[File]:
        """Bring the files of a bundle to the bus, a few at a time."""
        left = iter(enumerate(files))
        brought: dict[int, File] = {}

        async def worker() -> None:
            for place, file in left:
                brought[place] = File(file.path, await store_file(self._connection, file.source))

        workers = [asyncio.create_task(worker()) for _ in range(min(FILES_AT_A_TIME, len(files)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [brought[place] for place in range(len(files))]

    async def _submit(self, record: Options, data: bytes) -> Task:
        connection = self._connection
        content: bytes | Blob = data
        if len(data) > connection.limits.frame:
            content = await store(connection, data)
        if not connection.core.has_room or connection.closed:
            await connection.room()
        task_id = self._caller.new_id(connection.namespace)
        task = Task(task_id, connection, record)
        accepted = asyncio.get_running_loop().create_future()
        unit = make_unit(record, [(task_id, content)], [task], connection.limits.inline, accepted)
        if self._caller.choice.on_log is not None:
            connection.accompany(call_back(connection, task, self._caller.choice.on_log, accepted), lambda: task.done)
        connection.submit(unit)
        try:
            await within(self._caller.choice.submit_timeout, accepted)
        except TimeoutError:
            if connection.core.withdraw(unit):
                raise TimeoutError(f"the bus has not taken {task!r} in time; it was withdrawn") from None
            raise TimeoutError(
                f"the bus has not said in time whether it has taken {task!r}; bus.task({task.id!r}) will know"
            ) from None
        except asyncio.CancelledError:
            connection.core.withdraw(unit)
            raise
        return task

    async def _parts(self, encoded: list[bytes]) -> list[list[bytes | Blob]]:
        """The encoded calls in parts of a message each: bounded by bytes, large ones brought to the bus beforehand."""
        parts: list[list[bytes | Blob]] = [[]]
        weight = 0
        for data in encoded:
            content: bytes | Blob = data
            if len(data) > self._connection.limits.frame:
                content = await store(self._connection, data)
            else:
                weight += len(data)
            if weight > MESSAGE_BYTES and parts[-1]:
                parts.append([])
                weight = len(data)
            parts[-1].append(content)
        return parts

    def _hand_in(
        self,
        record: Options,
        task_ids: list[TaskId],
        contents: list[bytes | Blob],
        accepting: list[asyncio.Future[Any]],
    ) -> list[Task]:
        connection = self._connection
        tasks = [Task(task_id, connection, record) for task_id in task_ids]
        accepted = asyncio.get_running_loop().create_future()
        accepting.append(accepted)
        on_log = self._caller.choice.on_log
        if on_log is not None:
            for task in tasks:
                connection.accompany(call_back(connection, task, on_log, accepted), lambda task=task: task.done)  # type: ignore[misc]
        connection.submit(
            make_unit(record, list(zip(task_ids, contents, strict=True)), tasks, connection.limits.inline, accepted)
        )
        return tasks

    async def _until_few(self, accepting: list[asyncio.Future[Any]], most: int, before: int) -> None:
        """Wait until at most ``most`` messages of a map are unaccepted, which bounds what it holds in memory twice."""
        timeout = self._caller.choice.submit_timeout
        while len(accepting) > most:
            try:
                await within(timeout, accepting[0])
            except BaseException as error:
                for each in accepting:
                    if not each.cancel() and not each.cancelled():
                        each.exception()  # has been told by the first of them
                error.add_note(f"{before} tasks of this map had been handed in before and go on")
                raise
            accepting.pop(0)
        await self._connection.room()


class Connecting:
    """What :func:`connect` returns: ``async with`` it, or ``await`` it and close the bus yourself."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._bus: Bus | None = None

    def __await__(self) -> Generator[Any, None, Bus]:
        return self._connect().__await__()

    async def __aenter__(self) -> Bus:
        self._bus = await self._connect()
        return self._bus

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bus is not None:
            await self._bus.close()

    async def _connect(self) -> Bus:
        place = self._place
        connection = Connection(
            place.url, place.limits, name=place.name, by_value=place.by_value, prepare=place.prepare
        )
        await connection.open(place.connect_timeout)
        return Bus(connection, Caller(NONE_CHOSEN, place.limits.payload_limit))


def connect(
    url: str | None = None,
    *,
    config: str | Path | None = None,
    timeout: float | None = None,
    name: str = "",
    by_value: bool = False,
    key_file: str | Path | None = None,
) -> Connecting:
    """Connect to a bus: ``async with headway.connect() as bus``, or ``bus = await headway.connect()``.

    ``url``: else $HEADWAY_BUS, else ``url`` under ``[bus]`` in config.toml (``config`` says which), else the default.
    ``timeout``: seconds until NoBus is raised, else ``connect_timeout``. ``name``: this client's name in listings, else the
    broker makes one. ``by_value``: open pickled results, even of tasks that this client did not submit. ``key_file``: the key
    that is shown to a bus that asks for one, else $HEADWAY_KEY_FILE, else the settings.
    """
    return Connecting(find_place(url, config, timeout, name, by_value, key_file))
