"""The controller's shell: the link, the timers, the store's thread. The only file here that awaits."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from headway_bus.codec import MAX_HEADER_BYTES, encode, for_controller
from headway_bus.config import Settings, state_folder
from headway_bus.endpoint import Frame
from headway_bus.errors import ConfigError, HeadwayError, ProtocolError, Refused, StoreError
from headway_bus.ids import TaskId
from headway_bus.keys import Prepare
from headway_bus.link import BROKER, BusLink, Link, Received
from headway_bus.logs import get_logger
from headway_bus.messages import Denied, Heartbeat, Message, Packed, Rejected, Submit, Welcome
from headway_bus.namespaces import Scope, may_see, read_source
from headway_bus.packing import can_pack
from headway_bus.records import Blob, Code, Status
from headway_controller.answers import code_of, shortened
from headway_controller.blob_threads import BlobThreads
from headway_controller.core import Controller
from headway_controller.desk import Desk
from headway_controller.edges import EDGES_STATE, restore_edges
from headway_controller.effects import Effect, Join, Note, ReadOutcomes, Send, TellUnknown, Write
from headway_controller.extensions import use_predictor, use_strategy
from headway_controller.kept import FleetKeeper, load_roster, load_scheduler, pack_learned
from headway_controller.packed import WORTH_PACKING, packed_for, unpacked
from headway_controller.placement import BATCH_INTERVAL
from headway_controller.store import Receipt, StoredTask, open_store
from headway_controller.store.sealing import can_seal
from headway_controller.unions import Unions
from headway_controller.unions.joining import answer, load_unions
from headway_controller.usage import Quotas
from headway_controller.verbs import Verbs
from headway_controller.views import outcome_of_stored

TICKS_PER_HEARTBEAT = 8

QUIET = 1.5
"""Heartbeats without a word from the broker, which answers one each, after which nobody else's silence counts either: it may
be suspended, and a lease is shorter than the time after which the link takes that for a cut."""

HOUSEKEEPING = 30.0
"""Seconds between looks at what may be purged, and between savings of what the predictor has learned."""

BLOB_AGE = 86_400.0
"""Seconds for which a blob is kept that no task refers to: what refers to it, or the rest of it, may be behind a cut link."""
Result = TypeVar("Result")
log = get_logger("headway.controller")


class ControllerService:
    """A controller with its store. ``await open()``, then give it a link: ``connect`` or ``attach``."""

    def __init__(
        self,
        state_folder: Path,
        *,
        durability: str = "normal",
        heartbeat: float = 2.0,
        missed_heartbeats: float = 2.0,
        retention: float = 30 * 86_400.0,
        quotas: Quotas = Quotas(max_tasks_per_client=5_000_000),  # noqa: B008  # immutable
        namespace_weights: Mapping[str, float] | None = None,
        payload_limit: int = 1 << 30,
        file_limit: int = 64 << 30,
        fifo_queues: Sequence[str] = (),
        logs_per_task: int = 10_000,
        logs_per_second: int = 0,
        speculation: float = 0.05,
        ahead: float = BATCH_INTERVAL,
        strategy: str = "",
        predictor: str = "",
        lookup_table: str = "",
    ) -> None:
        self.instance = os.urandom(8)
        self._loop = asyncio.get_running_loop()
        self._receipts: deque[Receipt] = deque()
        self.store = open_store(state_folder / "headway.db", self._on_stored_in_thread, durability)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="headway-read")
        self._blobs = BlobThreads(self.store.blobs)
        self.core = Controller(
            self.instance,
            load_scheduler(self.store, fifo_queues, ahead),
            wall_offset=time.time() - time.monotonic(),
            heartbeat=heartbeat,
            missed_heartbeats=missed_heartbeats,
            quotas=quotas,
            payload_limit=payload_limit,
            file_limit=file_limit,
            seed=int.from_bytes(self.instance, "big"),
        )
        self.core.reports.limit_logs(logs_per_task, float(logs_per_second))
        self.core.audience.can_seal = durability == "memory" or can_seal()
        self.core.scheduler.backlog.shares.weights.update(namespace_weights or {})
        self.core.copies.share = speculation
        self.core.fleet.unpacks = can_pack()
        self._choose(strategy, predictor, lookup_table)
        self._desk = Desk(self)
        self._verbs = Verbs(self, self._finish, lookup_table)
        self._retention = retention
        self._link: BusLink | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._wake: asyncio.Handle | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._ticked = self._kept_house = self.now()
        self._asking: set[asyncio.Task[None]] = set()
        self._closed = False
        self._stop = asyncio.Event()
        self._joined = asyncio.Event()
        self._refused = ""
        self._keeper = FleetKeeper(self.core)

    def _choose(self, strategy: str, predictor: str, lookup_table: str) -> None:
        try:
            if strategy:
                use_strategy(self.core.scheduler, strategy)
            use_predictor(self.core.scheduler, predictor, lookup_table)
        except ValueError as error:
            self.store.close()
            raise ConfigError(f"[controller] strategy or predictor: {error}") from None

    @classmethod
    def from_settings(cls, settings: Settings) -> ControllerService:
        """A controller as the settings say, with its state folder, which is made for its owner only."""
        own, bus = settings.controller, settings.bus
        folder = Path(own.state).expanduser() if own.state else state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(
            folder,
            durability=own.durability,
            heartbeat=bus.heartbeat,
            missed_heartbeats=own.missed_heartbeats,
            retention=own.retention,
            quotas=Quotas(*(getattr(own, name) for name in Quotas._fields)),
            namespace_weights=own.namespace_weights,
            payload_limit=bus.payload_limit,
            file_limit=bus.file_limit,
            fifo_queues=own.fifo_queues,
            logs_per_task=own.logs_per_task,
            logs_per_second=own.logs_per_second,
            speculation=own.speculation,
            ahead=own.ahead,
            strategy=own.strategy,
            predictor=own.predictor,
            lookup_table=own.lookup_table,
        )

    def now(self) -> float:
        return time.monotonic()

    async def open(self) -> int:
        """Take in what an earlier controller left; how many tasks. Call before there is a link."""
        now, core = self.now(), self.core
        pages = await self.read(lambda: list(self.store.load_unfinished()))
        found = [task for page in pages for task in page]
        parents = {parent for task in found for parent in task.options.after}
        unions = await self.read(load_unions, self.store, found)
        parents |= {part for saved in unions.values() for part in Unions.parts_in(saved)}
        statuses = self._find_statuses(parents)
        core.life.remember(statuses)
        # Runtimes come back within a heartbeat or two; until then nobody knows whether they have these tasks.
        until = now + core.heartbeat * (core.fleet.missed + 0.5)
        core.restore(found, statuses, now, until, await self.read(load_roster, self.store), unions)
        restore_edges(core.state, await self.read(self.store.load_state, EDGES_STATE), core.life.wall_offset)
        core.on_cut()  # until the broker takes us in
        if found:
            log.info("tasks recovered", count=len(found))
        self._finish()
        self._tick()
        return len(found)

    def connect(self, url: str, prepare: Prepare | None = None) -> Link:
        """Reach the broker over a socket. ``prepare`` gives it the controller's key, if there is one."""
        link = Link(
            url, "controller", for_controller(), self, name="controller", instance=self.instance, prepare=prepare
        )
        self._link = link
        link.start()
        return link

    def attach(self, link: BusLink) -> None:
        """Use a link that somebody else made: a controller in the broker's process."""
        self._link = link

    async def until_serving(self, with_runtime: bool) -> None:
        """Wait until there is a broker and, if wanted, a runtime that takes work."""
        while not (self._link is not None and self._link.is_up and (not with_runtime or self._has_runtime())):
            self._joined.clear()
            await self._joined.wait()

    def _has_runtime(self) -> bool:
        return any(runtime.state == "online" for runtime in self.core.state.runtimes.values())

    def stop(self) -> None:
        """Let ``until_stopped`` return."""
        self._stop.set()

    async def until_stopped(self) -> str:
        """Wait for ``stop``, or for the broker to refuse this controller for good; then the text says why."""
        await self._stop.wait()
        return self._refused

    async def close(self) -> None:
        """Stop: what has been handed over is stored, and told as far as the link still carries it."""
        if self._closed:
            return
        self._closed = True
        for handle in (self._ticker, self._wake, self._impatience):
            if handle is not None:
                handle.cancel()
        for task in list(self._asking):
            task.cancel()
        self.store.write([pack_learned(self.core.scheduler), *self._keeper.edges()])
        await asyncio.get_running_loop().run_in_executor(None, self.store.close)
        self._on_stored()
        if self._link is not None:
            await self._link.close()
        self._readers.shutdown(wait=False)
        self._blobs.close()

    # ------------------------------------------------------------------------------------------- the link's calls

    def on_up(self, welcome: Welcome) -> None:
        log.debug("connected to the broker", broker=welcome.broker.hex())
        self._joined.set()
        self.core.on_back(self.now())
        self._finish()

    def on_down(self, reason: str) -> None:
        log.warning("lost the broker; work goes on", reason=reason)
        self.core.on_cut()

    def on_controller(self, controller: bytes) -> None:
        """That is ourselves."""

    def on_over(self, rejected: Rejected) -> None:
        self._refused = f"the broker refuses this controller: {rejected.text}"
        self._stop.set()

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        self.core.state.counters["messages.undecodable"] += 1
        if source != BROKER and self._link is not None:
            self._link.send(read_source(source)[0].encode(), Denied(request, Code.MALFORMED, text))

    def on_messages(self, messages: list[Received]) -> None:
        if self._closed:
            return  # the store takes nothing any more; what matters of this is said again to the next controller
        now = self.now()
        core = self.core
        for source, message, frames in messages:
            name, scope = read_source(source)
            core.audience.tenancy.vouch(name, scope)
            try:
                if isinstance(message, Packed):
                    message, frames = unpacked(message, frames)  # noqa: PLW2901
                if isinstance(message, Submit):
                    self._look_up(name, message)
                if not core.on_message(name, message, frames, now):
                    self._ask(name, scope, message, frames)
            except ProtocolError as error:
                core.state.counters["messages.undecodable"] += 1
                self._perform(Send(name, Denied(0, Code.MALFORMED, str(error))))
            except StoreError as error:
                self._perform(Send(name, Denied(getattr(message, "request", 0), Code.STORE, str(error))))
            except Exception as error:
                # A defect of ours, met by one message: the others of this wake-up must not pay for it.
                core.state.counters["messages.failed"] += 1
                log.exception("a message could not be handled", source=name, message=type(message).__name__)
                request = getattr(message, "request", 0)
                if request:
                    self._perform(
                        Send(name, Denied(request, Code.INVALID, f"the controller failed at this: {error!r}"))
                    )
        self._finish(all(type(message) is Heartbeat for _, message, _ in messages))

    def _look_up(self, name: str, message: Submit) -> None:
        """Tell the core of what the submission names and only the store knows."""
        # By key that takes microseconds; a thread would let later messages overtake this one.
        audience, life = self.core.audience, self.core.life
        if unknown := audience.unknown_ids(message):
            life.remember(self._find_statuses(unknown))
        ended = audience.tenancy.ids_to_look_up(name, message, life.recent)
        audience.tenancy.known = self.store.find_namespaces(ended) if ended else {}

    # ------------------------------------------------------------------------------------------- effects

    def _finish(self, is_quiet: bool = False) -> None:
        now = self.now()
        if is_quiet and (effects := self.core.finish_quietly(now)) is not None:
            self._carry_out(effects)
            return
        if not self._closed and (changes := self._keeper.roster()):
            self.store.write(changes)
        self._carry_out(self.core.finish(now))
        if self._receipts:
            self._on_stored()  # stored already; what it allows to be said is said in the same wake-up
        else:
            self._set_wake(now)
        if self._impatience is None and self.core.patience.until is not None:
            self._impatience = self._loop.call_later(self.core.patience.until - now, self._on_impatience)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            try:
                self._perform(effect)
            except Exception:
                # A defect of ours, met by one effect: the others, the write above all, must not be lost for it.
                self.core.state.counters["effects.failed"] += 1
                log.exception("an effect could not be carried out", effect=type(effect).__name__)

    def _on_impatience(self) -> None:
        # One timer for many that did not have to wait for it: most have gone out when it comes.
        self._impatience = None
        until = self.core.patience.until
        if until is None or self._closed:
            return
        if (left := until - self.now()) > 0.0:
            self._impatience = self._loop.call_later(left, self._on_impatience)
        else:
            self._finish()

    def _send(self, target: str, message: Message, frames: Sequence[Frame]) -> None:
        if self._link is None:
            return
        if isinstance(message, WORTH_PACKING):
            message, frames = packed_for(self.core.state.runtimes.get(target), message, frames)
        self._link.send(target.encode(), message, frames)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(target, message, frames):
                self._send(target, shortened(message), frames)
            case Write() if self._closed:
                pass  # nobody was told that it is stored, so whoever said it says it to the next controller
            case Write(ticket, operations):
                receipt = self.store.write_at_once(operations, ticket)
                if receipt is None:
                    self.store.write(operations, ticket)
                else:
                    self._receipts.append(receipt)
            case ReadOutcomes(client, tasks):
                self._start(self._read_outcomes(client, tasks))
            case Join():
                self._start(self._join(effect))
            case TellUnknown(client, tasks):
                self._start(self._tell_unknown(client, tasks))
            case Note(level, event, fields):
                getattr(log, level)(event, **fields)
                self._joined.set()

    async def _read_outcomes(self, client: str, tasks: list[TaskId]) -> None:
        stored: list[StoredTask] = await self.read(self.store.find, tasks)
        if client not in self.core.state.clients:
            return  # gone, and nobody vouches for it: it says what it waits for when it is back
        scope = self.core.audience.tenancy.scope_of(client)
        hidden = {each.task for each in stored if not may_see(scope, each.options.namespace)}
        seen = [each for each in stored if each.task not in hidden]
        outcomes = [outcome for each in seen if (outcome := outcome_of_stored(each)) is not None]
        found = {outcome.task for outcome in outcomes}
        missing = [task for task in tasks if task not in found and task not in hidden]
        self.core.on_outcomes(client, outcomes, missing, self.now(), list(hidden))
        self._finish()

    async def _tell_unknown(self, client: str, tasks: list[TaskId]) -> None:
        self.core.on_outcomes(client, [], [], self.now(), tasks)
        self._finish()

    async def _join(self, wanted: Join) -> None:
        found = await self.read(answer, self.store, wanted, self.core.audience.payload_limit)
        self.core.on_joined(wanted, *found, self.now())
        self._finish()

    def _find_statuses(self, tasks: Sequence[TaskId] | set[TaskId]) -> dict[TaskId, Status]:
        """How those ended that have, by the store."""
        found = self.store.find_statuses(list(tasks)) if tasks else {}
        return {task: status for task, status in found.items() if status is not None}

    # ------------------------------------------------------------------------------------------- the store

    def _on_stored_in_thread(self, receipts: list[Receipt]) -> None:
        self._receipts.extend(receipts)
        if not self._closed:
            self._loop.call_soon_threadsafe(self._on_stored)

    def _on_stored(self) -> None:
        if not self._receipts:
            return
        now = self.now()
        while self._receipts:
            receipt = self._receipts.popleft()
            if isinstance(receipt.token, int):
                self.core.on_stored(receipt.token, receipt.error, receipt.known, now)
        self._finish()

    async def read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await self._loop.run_in_executor(self._readers, function, *arguments)

    async def put_blob(self, blob: Blob, offset: int, data: bytes) -> int:
        return await self._blobs.put(blob, offset, data)

    async def get_blob(self, blob: Blob, offset: int, length: int) -> bytes:
        return await self._blobs.get(blob, offset, length)

    # ------------------------------------------------------------------------------------------- questions

    def _ask(self, source: str, scope: Scope, message: Any, frames: Sequence[Any]) -> None:
        answer = self._desk.answers.get(type(message))
        verb = self._verbs.answers.get(type(message))
        if answer is not None:
            self._start(self._reply(source, message.request, lambda: answer(source, scope, message)))
        elif verb is not None:
            self._start(self._reply(source, message.request, lambda: verb(source, scope, message, list(frames))))
        elif hasattr(message, "request"):
            text = f"this controller does not answer {type(message).__name__}"
            self._perform(Send(source, Denied(message.request, Code.UNKNOWN_MESSAGE, text)))

    async def _reply(self, source: str, request: int, work: Callable[[], Any]) -> None:
        try:
            answer = await work()
            if answer is not None:
                message, frames = answer
                if (size := len(encode(message))) > MAX_HEADER_BYTES:
                    text = f"the answer has {size} bytes, and {MAX_HEADER_BYTES} is what a peer reads; ask for less"
                    raise Refused(Code.TOO_LARGE, text)
                self._perform(Send(source, message, tuple(frames)))
        except HeadwayError as error:
            self._perform(Send(source, Denied(request, code_of(error), str(error))))
        except Exception as error:  # a defect of ours; whoever asked must not wait for an answer that never comes
            self.core.state.counters["questions.failed"] += 1
            log.error("a question could not be answered", exc_info=error)
            text = f"the controller failed at this question ({type(error).__name__}: {error}); its log has the details"
            self._perform(Send(source, Denied(request, Code.INVALID, text)))

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._on_asked)

    def _on_asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.core.state.counters["questions.failed"] += 1
            log.error("a question could not be answered", exc_info=error)

    # ------------------------------------------------------------------------------------------- time

    def _tick(self) -> None:
        now, core = self.now(), self.core
        # First: a defect below must not have been the last look at the time.
        self._ticker = self._loop.call_later(core.heartbeat / TICKS_PER_HEARTBEAT, self._tick)
        if now - self._ticked > core.heartbeat or (self._link and self._link.silence > core.heartbeat * QUIET):
            core.on_stood_still(now)
        self._ticked = now
        core.life.wall_offset = time.time() - time.monotonic()
        core.on_time(now)
        for notice in core.scheduler.notices():
            log.warning(notice.text, name=notice.name, kind=notice.kind)
        if now - self._kept_house > HOUSEKEEPING:
            self._kept_house = now
            self._start(self._keep_house())
        if changes := self._keeper.edges():
            self.store.write(changes)
        self._finish()

    def _set_wake(self, now: float) -> None:
        """An extra wake-up when a timer is due before the next tick."""
        times = [when for when in (self.core.next_time(), self.core.scheduler.next_wake()) if when is not None]
        when = min(times, default=float("inf"))
        if self._wake is not None:
            if self._wake_at <= when:
                return
            self._wake.cancel()
            self._wake = None
        if when - now < self.core.heartbeat / TICKS_PER_HEARTBEAT:
            self._wake_at = when
            self._wake = self._loop.call_later(max(0.001, when - now), self._on_wake)

    def _on_wake(self) -> None:
        self._wake = None
        self.core.on_time(self.now())
        self._finish()

    async def _keep_house(self) -> None:
        now = time.time()
        expired = await self.read(self.store.find_expired, now, self._retention)
        if expired:
            self.core.state.counters["tasks.purged"] += len(self.core.drop(expired))
            self._finish()
        await self.read(self.store.sweep_blobs, now - BLOB_AGE)
        self.store.write([pack_learned(self.core.scheduler)])
