"""The runtime's shell: the connection, the timer, the child processes. The only file that awaits."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

from headway_bus import codec, config, loops
from headway_bus.config import Bus
from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.keys import Prepare
from headway_bus.link import CONTROLLER, Link, Received
from headway_bus.logs import get_logger
from headway_bus.messages import BlobHave, BlobPart, Denied, Message, Rejected, Undeliverable, Welcome
from headway_bus.records import Ended, ErrorInfo, LogRecord, RuntimeInfo
from headway_runtime import effects as to_do
from headway_runtime import processes
from headway_runtime.children import ChildProcess
from headway_runtime.commands import Command
from headway_runtime.core import BUSY_TICK, Core
from headway_runtime.files import MARK, WorkFolder
from headway_runtime.keeper import Keeper
from headway_runtime.orders import Answer, ChildSettings
from headway_runtime.refusals import Refusals
from headway_runtime.state import Attempt, Bounds
from headway_runtime.transfers import Transfers

MOST_INLINE = 32 * 1024
"""Results within a record, whatever the settings say: the journal of a child must hold several."""

WATCH_SECONDS = 0.25
"""Between looks at the memory of attempts that have a limit."""

CHILD_BYTES = 64 * 1024 * 1024
"""What a child occupies by itself, with modules that earlier attempts have imported: not the attempt's fault."""

TRANSFERRING = frozenset({"blob_put", "blob_get", "packed"})
"""Messages by which large values travel, or may."""

UNTOLD_SECONDS = 60.0
"""For which a large value is kept that nothing refers to: the child that has written it is about to say so."""

TRIM_SECONDS = 60.0
MOST_DESCRIPTORS = 65_536

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""What children find unless the runtime was started with a number of its own: with as many slots as cores, numerical
libraries that start a thread for each core in every child would spend the machine on switching between them."""

log = get_logger("headway.runtime")


@dataclass(frozen=True)
class Setup:
    """Everything that a runtime is told as it starts. ``work``: its own folder."""

    url: str
    info: RuntimeInfo
    work: Path
    bus: Bus = field(default_factory=Bus)
    models: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    bounds: Bounds = field(default_factory=Bounds)
    slow: float = 1.0
    software: str = ""
    keep_work: bool = False
    """Leave the folder behind, with the large values in it, as a runtime that will be started again does."""

    prepare: Prepare | None = None
    """Gives the socket the runtime's key; None: a bus without keys."""

    role: str = "runtime"
    """What it says that it is: "runtime" or "edge"."""


class RuntimeService:
    """One runtime. ``await run()`` inside a loop; ``leave()`` from a signal handler ends it in good order."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.instance = os.urandom(8)
        self.refused: Rejected | None = None
        self._loop = asyncio.get_running_loop()
        self._folder = self._make_folder()
        self.core = self._make_core()
        self._link = Link(
            setup.url,
            setup.role,
            codec.for_runtime(),
            self,
            name=setup.info.name,
            instance=self.instance,
            heartbeat=setup.bus.heartbeat,
            software=setup.software,
            prepare=setup.prepare,
        )
        self._children: dict[int, ChildProcess] = {}
        self._commands: dict[AttemptKey, Command] = {}
        self._transfers = self._make_transfers()
        self._keeper: Keeper | None = None
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._flush_is_due = False
        self._is_throttled = False
        self._next_watch = 0.0
        self._next_trim = 0.0
        # A task that connects finds the bus that it came from.
        self._environment = {**config.environment_of_tasks(os.environ), config.BUS_VARIABLE: setup.url}
        self._environment.pop(MARK, None)
        # The runtime's key is not its tasks': a task that connects brings one of its own.
        for variable in (config.KEY_VARIABLE, "HEADWAY_BUS_KEY_FILE"):
            self._environment.pop(variable, None)
        self._loop.set_exception_handler(_on_defect)

    # What an edge agent makes in its own way.

    def _make_folder(self) -> WorkFolder:
        return WorkFolder(self.setup.work)

    def _make_transfers(self) -> Transfers:
        part = self.setup.bus.blob_part
        return Transfers(
            self._folder,
            self._send,
            self._on_fetched,
            self._on_uploaded,
            part,
            in_thread=self._in_thread,
            make_room=self._make_room,
        )

    def _in_thread(self, work: Callable[[], Any], then: Callable[[BaseException | None], None]) -> None:
        """Do what takes seconds beside the loop, then tell."""

        def on_done(done: asyncio.Future[Any]) -> None:
            if not done.cancelled():
                then(done.exception())

        self._loop.run_in_executor(None, work).add_done_callback(on_done)

    def _open(self) -> None:
        self._folder.open(self.instance)

    def _make_core(self) -> Core:
        setup = self.setup
        return Core(setup.info, self.instance, Refusals(setup.info, frozenset(setup.models)), setup.bounds)

    # -------------------------------------------------------------------------------------- life

    async def run(self) -> str:
        """Serve until told to leave; returns why it ended. Raises BusError if the folder is another's."""
        self._open()
        try:
            processes.adopt_orphans()
            self._keeper = self._start_keeper()
            processes.allow_descriptors(MOST_DESCRIPTORS)  # after the nursery: what runs below it keeps the usual limit
            self._perform(self.core.on_start())
            self._link.start()
            self._arm(0.0)
            return await self._over
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await self._link.close()
            if self._keeper is not None:
                await self._keeper.close()
            self._discard_processes(resumes=True)
            self._folder.close(remove=not self.setup.keep_work)

    def leave(self) -> None:
        """Drain, report, say goodbye. The second time: at once."""
        if self.core.is_leaving:
            self._end("told twice to leave")
        else:
            log.info("draining", held=len(self.core.attempts))
            self._perform(self.core.on_leave(monotonic()))

    def _end(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _start_keeper(self) -> Keeper:
        setup = self.setup
        settings = ChildSettings(
            setup.paths,
            setup.models,
            str(self._folder.blobs),
            setup.bus.payload_limit,
            min(setup.bus.inline, MOST_INLINE),
            setup.bus.frame,
            setup.slow,
            setup.info.name,
            self._folder.keep,
            setup.bus.file_limit,
        )
        environment = {**ONE_THREAD, **self._environment, MARK: self.instance.hex()}
        return Keeper(settings, environment, self._on_keeper_lost)

    def _on_keeper_lost(self) -> None:
        """The nursery died, and what it kept with it or by our hand: all of that work is to run again elsewhere."""
        log.error("the process that keeps all others has ended; its work is given back")
        for pid in processes.descendants_of(os.getpid()):
            processes.send_signal(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        numbers = list(self._children)
        self._discard_processes()
        self._keeper = self._start_keeper()
        self._perform(self.core.on_processes_lost(numbers, monotonic()))

    def _discard_processes(self, *, resumes: bool = False) -> None:
        for child in self._children.values():
            child.discard()
        for command in self._commands.values():
            command.discard(resumes=resumes)
        self._children.clear()
        self._commands.clear()

    # -------------------------------------------------------------------------------------- the link's listener

    def on_up(self, welcome: Welcome) -> None:
        log.info("connected", name=welcome.name, url=self.setup.url)
        self._perform(self.core.on_up(welcome, monotonic()))
        if welcome.controller:
            self._transfers.on_controller()

    def on_down(self, reason: str) -> None:
        log.warning("cut off; work goes on", reason=reason)
        self._transfers.on_cut()
        self._perform(self.core.on_down(monotonic()))

    def on_controller(self, controller: bytes) -> None:
        if not controller:
            self._transfers.on_cut()
        self._perform(self.core.on_controller(controller, monotonic()))
        if controller:
            self._transfers.on_controller()

    def on_messages(self, messages: list[Received]) -> None:
        now = monotonic()
        for _, message, frames in messages:
            if isinstance(message, BlobHave | BlobPart | Denied):
                self._transfers.on_message(message, frames)
            elif isinstance(message, Undeliverable):
                self._on_undeliverable(message)
            else:
                self._perform(self.core.on_message(message, frames, now))

    def _on_undeliverable(self, message: Undeliverable) -> None:
        log.debug("not delivered", kind=message.kind, code=message.code)
        if message.kind in TRANSFERRING:
            self._transfers.on_undeliverable()

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        log.warning("message refused", source=source.decode("utf-8", "replace"), reason=text)

    def on_over(self, rejected: Rejected) -> None:
        self.refused = rejected
        self._end(f"the bus refused this runtime: {rejected.text}")

    # -------------------------------------------------------------------------------------- children and commands

    def on_child_said(
        self, number: int, ended: list[Ended], frames: Sequence[Frame], logs: list[LogRecord], answer: Answer | None
    ) -> None:
        now = monotonic()
        core = self.core
        if logs:
            core.on_logs(logs)
        if answer is not None and answer.dropped:
            core.on_dropped(answer.dropped)
        if answer is not None and answer.left:
            last = ended.pop()
            self._perform(core.on_child_ended(number, ended, frames, now))
            frame = frames[last.result] if isinstance(last.result, int) else None
            self._perform(core.on_child_left(number, last, frame, now))
            return
        if ended:
            self._perform(core.on_child_ended(number, ended, frames, now))
        if answer is not None and answer.given is not None:
            self._perform(core.on_child_answered(number, answer.given, answer.current, now))
        self._request_flush()

    def on_child_gone(self, number: int, cause: ErrorInfo, was_running: bool) -> None:
        self._children.pop(number, None)
        self._perform(self.core.on_child_gone(number, cause, was_running, monotonic()))

    def on_command_said(self, records: list[LogRecord]) -> None:
        self.core.on_logs(records)
        self._request_flush()

    def on_command_gone(self, key: AttemptKey, ended: Ended, dropped: int) -> None:
        self._commands.pop(key, None)
        if dropped:
            self.core.on_dropped({key[0]: dropped})
        self._perform(self.core.on_command_gone(key, ended, monotonic()))

    def _on_fetched(self, key: AttemptKey, error: ErrorInfo | None) -> None:
        self._perform(self.core.on_fetched(key, error, monotonic()))

    def _on_uploaded(self, key: AttemptKey, error: ErrorInfo | None) -> None:
        self._perform(self.core.on_uploaded(key, error, monotonic()))

    # -------------------------------------------------------------------------------------- effects

    def _send(self, message: Message, frames: Sequence[Frame]) -> bool:
        return self._link.send(CONTROLLER, message, frames)

    def _request_flush(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        now = monotonic()
        self._carry_out(self.core.flush(now))
        self._arm(now)

    def _perform(self, effects: Iterable[to_do.Effect]) -> None:
        self._carry_out(effects)
        self._request_flush()

    def _carry_out(self, effects: Iterable[to_do.Effect]) -> None:
        for effect in effects:
            match effect:
                case to_do.Feed(number, attempts):
                    self._children[number].feed(attempts)
                case to_do.Tell(message, frames):
                    self._send(message, frames)
                case to_do.StartCommand(attempt):
                    self._start_command(attempt)
                case to_do.StartChild(number):
                    self._start_child(number)
                case to_do.Fetch(key, blobs):
                    self._transfers.fetch(key, blobs)
                case to_do.Upload(key, values, files):
                    self._transfers.upload(key, values, files)
                case to_do.EndCommand(key, number):
                    if (command := self._commands.get(key)) is not None:
                        command.send_signal(number)
                case to_do.Throttle(stop):
                    self._throttle(stop)
                case to_do.Leave(why):
                    self._end(why)
                case _:
                    self._tell_child(effect)

    def _tell_child(self, effect: to_do.Effect) -> None:
        assert isinstance(
            effect, to_do.Recall | to_do.FlushChild | to_do.Interrupt | to_do.EndChild | to_do.RetireChild
        )
        child = self._children.get(effect.child)
        if child is None:
            return
        match effect:
            case to_do.Recall():
                child.order("recall")
            case to_do.FlushChild():
                child.flush()
            case to_do.Interrupt(_, key):
                child.order("stop", key)
                child.send_signal(signal.SIGTERM)
            case to_do.EndChild(_, number):
                child.send_signal(number)
            case to_do.RetireChild():
                child.retire()

    def _start_child(self, number: int) -> None:
        assert self._keeper is not None
        child = ChildProcess(number, self._keeper, self, self.setup.bounds.output_bytes, self.setup.models)
        self._children[number] = child
        if self._is_throttled:
            child.pause(True)

    def _start_command(self, attempt: Attempt) -> None:
        assert self._keeper is not None
        mark = f"{self.instance.hex()}-{attempt.key[0].hex()}-{attempt.key[1]}"
        command = Command(
            attempt, self._keeper, self._folder, self, self.setup.bounds.output_bytes, mark, self.setup.bus.file_limit
        )
        self._commands[attempt.key] = command
        command.start(self._environment)

    def _throttle(self, stop: bool) -> None:
        log.warning("ends wait for the controller; children are not read" if stop else "children are read again")
        self._is_throttled = stop
        for child in self._children.values():
            child.pause(stop)
        for command in self._commands.values():
            command.pause(stop)

    # -------------------------------------------------------------------------------------- time

    def _arm(self, now: float) -> None:
        """Look again when the core wants it; a timer that is early enough stays."""
        if self._timer is not None and self._timer_at <= self._loop.time() + BUSY_TICK:
            return  # as early as the core ever wants it for something new
        at = now + self.core.next_tick(now) if now else self._loop.time()
        loop_at = self._loop.time() + max(0.0, at - now) if now else at
        if self._timer is not None and self._timer_at <= loop_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = loop_at
        self._timer = self._loop.call_at(loop_at, self._tick)

    def _watch_memory(self, now: float) -> None:
        for attempt in self.core.with_memory_limit():
            child = attempt.child
            holder = self._commands.get(attempt.key) if child is None else self._children.get(child.number)
            if holder is None or not holder.pid:
                continue
            used = processes.resident_bytes([holder.pid, *processes.descendants_of(holder.pid)])
            allowed = attempt.spec.options.requirements.memory + (0 if child is None else CHILD_BYTES)
            if used > allowed:
                self._perform(self.core.on_over_memory(attempt.key, used, now))

    def _look_around(self, now: float) -> None:
        """What needs to be looked at from time to time only."""
        if now >= self._next_watch:
            self._next_watch = now + WATCH_SECONDS
            self._watch_memory(now)
        if now >= self._next_trim:
            self._next_trim = now + TRIM_SECONDS
            self._folder.trim(self.setup.bounds.blob_bytes, self.core.blobs_in_use(), self._untold_since())

    def _untold_since(self) -> float:
        """Unix time from which on large values may have been left by attempts whose end is not known yet."""
        return min([time(), *(each.collecting_since for each in self._commands.values())]) - UNTOLD_SECONDS

    def _make_room(self, size: int) -> None:
        self._folder.free_up(size, self.core.blobs_in_use(), self._untold_since())

    def _tick(self) -> None:
        self._timer = None
        now = monotonic()
        self._look_around(now)
        self.core.presence.round_trip = self._link.round_trip
        self._transfers.forget(self.core.attempts.__contains__)
        self._transfers.on_tick(now)
        self._carry_out(self.core.on_tick(now))
        self._flush()


async def serve(make: Callable[[], RuntimeService]) -> str:
    """Make a runtime and run it until TERM or INT, the second of which does not wait.

    Returns what went wrong; empty: it left in good order. Raises BusError if its folder is another's.
    """
    service = make()
    loops.on_stop(service.leave)
    why = await service.run()
    get_logger(f"headway.{service.setup.role}").info("ended", reason=why)
    return why if service.refused is not None else ""


def _on_defect(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody expected. One message or child is the poorer; the others go on."""
    error = context.get("exception")
    log.error("defect", what=context.get("message"), exc_info=error)
