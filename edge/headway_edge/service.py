"""The edge agent's shell: the runtime's, with the spool before every door. The only file of the agent that awaits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import msgspec

from headway_bus import codec
from headway_bus.config import Edge
from headway_bus.endpoint import Frame
from headway_bus.errors import ProtocolError
from headway_bus.link import CONTROLLER, Received
from headway_bus.logs import get_logger
from headway_bus.messages import (
    BlobGet,
    BlobPut,
    Denied,
    Message,
    Packed,
    Register,
    Registered,
    Report,
    Undeliverable,
    Welcome,
)
from headway_bus.packing import METHOD, can_pack, pack, unpack
from headway_bus.records import Code
from headway_edge.bucket import Bucket
from headway_edge.core import FULL, EdgeCore
from headway_edge.counter import PLACE_VARIABLE, PLUGINS_VARIABLE
from headway_edge.delivery import LinkSettings
from headway_edge.lease import Heard, since_restart
from headway_edge.spool import Spool, SpoolError
from headway_runtime import effects as to_do
from headway_runtime.core import Core
from headway_runtime.files import WorkFolder
from headway_runtime.refusals import Refusals
from headway_runtime.service import RuntimeService, Setup
from headway_runtime.transfers import Transfers

HEARD = "heard"
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
TRANSFER_RETRY = 120.0
"""Seconds: a part may take as long as that on a slow link, and a cut is noticed without it."""

NAME_PATIENCE = 5.0
"""Heartbeats for which a name that is taken is asked for again."""

WORTH_PACKING = (Report, Register, BlobPut)

LAZY_SECONDS = 0.5
"""After which what need not be on disk at once is written all the same: that reports were confirmed."""

TIDY_SECONDS = 10.0
log = get_logger("headway.edge")


@dataclass(frozen=True)
class EdgeSetup(Setup):
    """Everything that an agent is told as it starts."""

    edge: Edge = field(default_factory=Edge)
    bus_heartbeat: float = 2.0
    """The bus's own; ``bus`` has the one that this agent wishes."""


class EdgeService(RuntimeService):
    """One edge agent. ``await run()`` inside a loop; ``leave()`` from a signal handler ends it in good order.

    Making it takes the spool's folder. Raises BusError if that is another's, or damaged.
    """

    setup: EdgeSetup
    core: EdgeCore

    def __init__(self, setup: EdgeSetup) -> None:
        super().__init__(setup)
        session = self._link.session
        session.wish = setup.edge.heartbeat
        # After a power cut the broker may take that long to notice that the connection of the earlier process is dead.
        session.name_patience = NAME_PATIENCE * max(setup.edge.heartbeat, setup.bus_heartbeat)
        self._next_tidy = 0.0
        self._next_try = 0.0
        self._next_lazy = 0.0
        self._environment[PLACE_VARIABLE] = str(self.files)
        self._environment[PLUGINS_VARIABLE] = ",".join(setup.edge.plugins)
        self._decoder = codec.for_runtime()
        self._packs = False
        """The controller has said that it can read what is packed."""

    @property
    def files(self) -> Path:
        return self.setup.work / "files"

    # -------------------------------------------------------------------------------------- life

    def _make_folder(self) -> WorkFolder:
        return WorkFolder(self.setup.work, keep=True)

    def _make_transfers(self) -> Transfers:
        return Transfers(
            self._folder,
            self._send,
            self._on_fetched,
            self._on_uploaded,
            self.setup.edge.part,
            TRANSFER_RETRY,
            self._in_thread,
            self._make_room,
        )

    def _make_core(self) -> Core:
        setup, edge = self.setup, self.setup.edge
        self._folder.open(self.instance)
        self.files.mkdir(mode=0o700, exist_ok=True)
        self._bucket = Bucket(edge.bandwidth, monotonic())
        self._spool = Spool(setup.work)
        try:
            self._spool.open(setup.info.name)
            core = EdgeCore(
                setup.info,
                self._spool.identity,
                Refusals(setup.info, frozenset(setup.models)),
                setup.bounds,
                self._spool,
                LinkSettings(edge.gather, edge.window, output_budget=edge.output_budget),
                self._bucket,
                time.time,
            )
            core.restore(monotonic())
        except msgspec.DecodeError as error:
            self._folder.close()
            raise self._spool.set_aside(f"a record in it cannot be read: {error}") from None
        except BaseException:
            self._spool.close()
            self._folder.close()
            raise
        core.presence.wishes = True
        core.presence.unpacks = can_pack() if edge.compress_above else []
        core.lease.since = since_restart(self._last_heard(), _here(), monotonic())
        self._folder.keep_only(core.kept_folders())
        if core.interrupted:
            log.warning(
                "attempts were broken off by the restart; the controller decides on them", count=core.interrupted
            )
        if core.attempts or core.reporter.entries:
            log.info("goes on after a restart", holds=len(core.attempts), undelivered=len(core.reporter.entries))
        return core

    def _open(self) -> None:
        """The folder was taken before the spool in it was read."""

    async def run(self) -> str:
        try:
            return await super().run()
        finally:
            self._spool.close()

    def _last_heard(self) -> Heard | None:
        noted = self._spool.noted(HEARD)
        return msgspec.msgpack.decode(noted, type=Heard) if noted else None

    # -------------------------------------------------------------------------------------- the link

    def on_up(self, welcome: Welcome) -> None:
        super().on_up(welcome)
        self._say_load()

    def _on_undeliverable(self, message: Undeliverable) -> None:
        super()._on_undeliverable(message)
        if message.kind in ("report", "packed"):
            # There was no controller, or it takes nothing at the moment: what is on its way may not have arrived.
            self.core.reporter.renew(monotonic() - self.setup.bus.heartbeat)

    def on_down(self, reason: str) -> None:
        self._packs = False
        super().on_down(reason)

    def on_messages(self, messages: list[Received]) -> None:
        for _, message, _ in messages:
            if isinstance(message, Registered):
                self.on_registered(message)
        super().on_messages([self._unpacked(each) if isinstance(each[1], Packed) else each for each in messages])

    def _unpacked(self, received: Received) -> Received:
        source, message, frames = received
        assert isinstance(message, Packed)
        try:
            return (source, *unpack(message, frames, self._decoder, self.setup.bus.max_message))
        except ProtocolError as error:
            self.on_undecodable(source, 0, str(error))
            return source, Denied(0, Code.MALFORMED, str(error)), []

    def on_registered(self, message: Registered) -> None:
        """The controller has said what it can read."""
        self._packs = bool(self.setup.edge.compress_above) and METHOD in message.unpacks and METHOD in can_pack()

    def _send(self, message: Message, frames: Sequence[Frame]) -> bool:
        if isinstance(message, BlobPut | BlobGet) and not (
            self.core.is_registered and self._may_transfer(message, frames)
        ):
            return False  # cut off, it takes nothing from the bandwidth that the reports will want
        if self._packs and isinstance(message, WORTH_PACKING):
            size = sum(map(len, frames)) + len(codec.encode(message))
            if size > self.setup.edge.compress_above:
                message, frames = pack(message, frames) or (message, frames)
        return self._link.send(CONTROLLER, message, frames)

    def _may_transfer(self, message: BlobPut | BlobGet, frames: Sequence[Frame]) -> bool:
        size = message.length if isinstance(message, BlobGet) else sum(map(len, frames))
        return self._bucket.take(size, monotonic())

    # -------------------------------------------------------------------------------------- the spool

    def _perform(self, effects: Iterable[to_do.Effect]) -> None:
        """What leads to nothing yet is written with what the flush, which follows at once, makes of it: one fsync for both."""
        effects = list(effects)
        if effects:
            self._carry_out(effects)
        self._request_flush()

    def _carry_out(self, effects: Iterable[to_do.Effect]) -> None:
        """Nothing leaves, and nothing starts, before what led to it is on disk."""
        effects = list(effects)
        if self._spool.is_urgent and not self._commit():
            effects = self.core.not_begun_after_all(effects, monotonic())
            effects += self.core.on_full(monotonic())
        super()._carry_out(effects)

    def _commit(self) -> bool:
        if self._spool.is_failing and monotonic() < self._next_try:
            return False
        was_failing = self._spool.is_failing
        try:
            self._spool.commit()
        except SpoolError as error:
            self._next_try = monotonic() + 1.0
            if not was_failing:
                log.error("the spool cannot be written; nothing new is begun until it can", reason=str(error))
            return False
        if was_failing:
            log.info("the spool takes writes again")
        if self.core.is_full:
            super()._carry_out(self.core.on_room(monotonic()))
        return True

    def _write_lazily(self) -> bool:
        """Write what nobody waits for. That may be the first to find the disk full, and the controller wants to know."""
        if self._commit():
            return True
        super()._carry_out(self.core.on_full(monotonic()))
        self._request_flush()
        return False

    def _tick(self) -> None:
        now = monotonic()
        if self._spool.is_failing and now >= self._next_try and self._commit():
            self._request_flush()
        if now >= self._next_lazy:
            self._next_lazy = now + LAZY_SECONDS
            self._write_lazily()
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY_SECONDS
            self._tidy(now)
        if self._bucket.rate and self.core.is_registered:
            self._transfers.go_on()
        super()._tick()

    def _tidy(self, now: float) -> None:
        since = self.core.lease.since
        if since is not None:
            here = _here()
            heard = Heard(here.boot, here.since_boot - (now - since), here.wall - (now - since))
            self._spool.note(HEARD, msgspec.msgpack.encode(heard))
        if self._write_lazily():
            self._spool.tidy()
        self._say_load()

    def _say_load(self) -> None:
        """What the controller shows of this agent."""
        reporter = self.core.reporter
        self.core.presence.load = {
            "spool_bytes": float(self._spool.size()),
            "undelivered": float(len(reporter.entries)),
            "held": float(len(self.core.attempts)),
            "records_dropped": float(reporter.dropped_total),
            FULL: float(self.core.is_full),
        }


def _here() -> Heard:
    """This machine's clocks now."""
    try:
        boot = BOOT_FILE.read_text().strip()
    except OSError:
        boot = ""
    return Heard(boot, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())
