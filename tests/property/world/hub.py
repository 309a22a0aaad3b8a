"""Broker and controller around their real cores: apart, each with its socket, or both in one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgpack

from headway_broker.core import Broker, Deliver
from headway_bus.codec import encode
from headway_bus.link import BROKER, Received
from headway_bus.messages import Heartbeat, Message, Register, Rejected, Submit, Welcome
from headway_bus.records import ENDS, Status
from headway_controller.core import Controller
from headway_controller.effects import Effect, Note, ReadOutcomes, Send, Write
from headway_controller.placement import Scheduler
from headway_controller.placement.strategies import DEFAULT
from headway_controller.service import QUIET
from headway_controller.store.protocol import Receipt, SaveState
from headway_controller.usage import Quotas
from headway_controller.views import outcome_of_stored

from .disk import SimulatedStore
from .network import Connection, Frames
from .timeline import Process
from .wire import DECODERS, Wire

if TYPE_CHECKING:
    from headway_bus.ids import TaskId

    from .world import World

LOCAL_ROUTE = b"\xff"
TICKS_PER_HEARTBEAT = 8


class BrokerPart:
    """A broker: what :mod:`headway_broker.service` is to a ROUTER socket."""

    core: Broker

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.local: LocalWire | None = None
        self.connections: dict[bytes, Connection] = {}
        self.refused = 0
        self._clock_offset = 0.0
        self._ticked = 0.0
        process.parts.append(self)

    def now(self) -> float:
        return self.world.timeline.now + self._clock_offset

    def start(self) -> None:
        self._clock_offset = self.world.random.uniform(10.0, 1e6)
        self.connections = {}
        self.local = None
        self.core = Broker(self.world.token(), self.now())
        self.world.refine(self.core)
        self.refused = 0
        self._ticked = self.now()
        self._tick()

    def stop(self) -> None:
        for connection in list(self.connections.values()):
            connection.close_by_broker()
        self.connections.clear()

    def validate(self) -> None:
        self.core.state.validate()

    def attach(self, connection: Connection) -> None:
        self.connections[connection.route] = connection

    def detach(self, connection: Connection) -> None:
        self.connections.pop(connection.route, None)

    def deliver(self, connection: Connection, messages: list[Frames]) -> None:
        for frames in messages:
            self.perform(self.core.on_message([connection.route, *frames], self.now()))

    def attach_local(self, local: LocalWire) -> None:
        self.local = local
        route = LOCAL_ROUTE + local.name.encode()
        self.perform(self.core.on_local_peer(local.name.encode(), "controller", route, local.instance, self.now()))

    def forward_local(self, frames: list[bytes]) -> None:
        assert self.local is not None
        self.perform(self.core.on_message([LOCAL_ROUTE + self.local.name.encode(), *frames], self.now()))

    def perform(self, deliveries: Iterable[Deliver]) -> None:
        for delivery in deliveries:
            route, source, header, frames = delivery
            if route[:1] == LOCAL_ROUTE:
                assert self.local is not None
                self.local.take(source, header, list(frames))
                continue
            connection = self.connections.get(route)
            if connection is None:
                self.perform(self.core.on_unreachable(route, self.now()))
            elif len(connection.down) >= self.world.network.high_water:
                self.refused += 1
                self.world.network.count("deliveries refused")
                self.perform(self.core.on_full(delivery, self.now()))
            else:
                data = header if isinstance(header, bytes) else encode(header)
                connection.down.put([source, data, *map(bytes, frames)])

    def _tick(self) -> None:
        now = self.now()
        if now - self._ticked > self.core.heartbeat:
            self.core.on_stood_still(now)
        self._ticked = now
        self.perform(self.core.on_tick(now))
        self.world.timeline.after(self.core.heartbeat / 2, self._tick, self.process, True)


class LocalWire:
    """The controller's link to a broker in its own process: messages of peers as bytes, the broker's own as they are."""

    def __init__(self, broker: BrokerPart, listener: ControllerPart, instance: bytes) -> None:
        self.name = "controller"
        self.instance = instance
        self._broker = broker
        self._listener = listener
        self._is_up = False
        self._arrived: list[Received] = []

    @property
    def is_up(self) -> bool:
        return self._is_up

    @property
    def silence(self) -> float:
        return 0.0

    def start(self) -> None:
        self._broker.attach_local(self)

    def send(self, target: bytes, message: Message, frames: Sequence[Any] = ()) -> bool:
        if not self._is_up:
            return False
        self._broker.forward_local([target, encode(message), *map(bytes, frames)])
        return True

    def take(self, source: bytes, header: bytes | Message, frames: list[Any]) -> None:
        soon = self._broker.world.timeline.after
        if source == BROKER and isinstance(header, Welcome):
            soon(0.0, lambda: self._up(header), self._broker.process)
            return
        message = DECODERS["controller"].decode(header) if isinstance(header, bytes) else header
        if not self._arrived:
            soon(0.0, self._hand_over, self._broker.process)
        self._arrived.append((source, message, frames))

    def _up(self, welcome: Welcome) -> None:
        self._is_up = True
        self._listener.on_up(welcome)

    def _hand_over(self) -> None:
        messages, self._arrived = self._arrived, []
        self._listener.on_messages(messages)

    def die(self, says_so: bool = True) -> None: ...

    def cut(self) -> None: ...


class ControllerPart:
    """A controller: what :mod:`headway_controller.service` is to its core. ``broker``: the one in the same process."""

    core: Controller
    store: SimulatedStore
    wire: Wire | LocalWire

    def __init__(self, world: World, process: Process, broker: BrokerPart, *, embedded: bool) -> None:
        self.world = world
        self.process = process
        self.broker = broker
        self.embedded = embedded
        self.strategy = DEFAULT
        """By its settings, as the operator left them."""
        self._clock_offset = 0.0
        self._ticked = 0.0
        self._wake_at = 0.0
        self._roster = 0
        process.parts.append(self)

    def now(self) -> float:
        return self.world.timeline.now + self._clock_offset

    def _wall_offset(self) -> float:
        return self.world.wall() - self.now()

    # -------------------------------------------------------------------------------------- life

    def start(self) -> None:
        world, process = self.world, self.process
        self._clock_offset = world.random.uniform(10.0, 1e6)
        self._wake_at = 0.0
        self._roster = 0
        instance = world.token()
        commit = world.plan.commit_seconds
        self.store = SimulatedStore(world.disk, world.timeline, process, world.random, commit, self._on_stored)
        self.core = Controller(
            instance,
            Scheduler(),
            wall_offset=self._wall_offset(),
            quotas=Quotas(max_tasks=world.plan.max_tasks),
            seed=world.random.getrandbits(32),
        )
        if instance[0] & 1:  # in every other life whatever is known to end may be waited for
            self.core.patience.short, self.core.patience.longest = 60.0, 2.0
        self.core.copies.share = world.plan.speculation
        self.core.scheduler.use_strategy(self.strategy)
        world.refine(self.core)
        self._open()
        if self.embedded:
            self.wire = LocalWire(self.broker, self, instance)
        else:
            self.wire = Wire(
                world.network, process, self.broker, self, "controller", "controller", instance, self.now, world.random
            )
        self._ticked = self.now()
        self._tick()
        self.wire.start()

    def _open(self) -> None:
        now, core = self.now(), self.core
        found = self.store.load_unfinished()
        statuses = self._find_statuses({parent: None for task in found for parent in task.options.after})
        core.life.remember({task: status for task, status in statuses.items() if status in ENDS})
        patience = core.heartbeat * (core.fleet.missed + 0.5)
        core.restore(found, statuses, now, now + patience, self.world.disk.roster)
        core.on_cut()
        self.world.ledger.controller_started(self.world.timeline.now, self.world.disk.roster)
        self._finish()

    def stop(self) -> None:
        self.world.ledger.counters.update(self.copies())
        self.wire.die(self.world.dies_loudly())
        if self.world.plan.durability == "memory":
            self.world.disk.wipe()
            self.world.ledger.memory_lost = True

    def validate(self) -> None:
        self.core.validate()

    def copies(self) -> dict[str, int]:
        """How many second copies this controller has seen."""
        if not hasattr(self, "core"):  # a world that broke before it was there
            return {}
        return {name: self.core.state.counters[name] for name in ("copies.started", "copies.won")}

    def use_strategy(self, name: str) -> None:
        """The operator's verb, which the service does; here without the message."""
        self.strategy = name
        if self.process.alive and not self.process.suspended:
            self.core.scheduler.use_strategy(name)
            self._finish()

    # -------------------------------------------------------------------------------------- the link's calls

    def on_up(self, welcome: Welcome) -> None:
        self.core.on_back(self.now())
        self._finish()

    def on_down(self, reason: str) -> None:
        self.core.on_cut()

    def on_controller(self, controller: bytes) -> None: ...

    def on_over(self, rejected: Rejected) -> None:
        self.world.start_again(self.process, rejected.code)

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        raise AssertionError(f"{source!r} sent what cannot be read: {text}")

    def on_messages(self, messages: list[Received]) -> None:
        now, core = self.now(), self.core
        for source, message, frames in messages:
            name = source.decode()
            if self.world.tracing:
                self.world.trace(self.process.name, f"hears from {name or 'broker'}: {message}")
            if isinstance(message, Submit) and (unknown := core.audience.unknown_ids(message)):
                ends = {task: status for task, status in self._find_statuses(unknown).items() if status in ENDS}
                core.life.remember(ends)
            self.world.ledger.heard(name, message)
            if core.on_message(name, message, frames, now):
                if isinstance(message, Register):
                    self.world.ledger.registered(name, self.world.timeline.now)
            else:
                raise AssertionError(f"nobody in this world asks {message}")
        self._finish(all(isinstance(message, Heartbeat) for _, message, _ in messages))

    # -------------------------------------------------------------------------------------- effects

    def _finish(self, is_quiet: bool = False) -> None:
        now = self.now()
        if is_quiet and (effects := self.core.finish_quietly(now)) is not None:
            for effect in effects:
                self._perform(effect)
            return
        if self._roster != self.core.fleet.roster:
            self._roster = self.core.fleet.roster
            self.store.write([SaveState("roster", msgpack.packb(self.core.fleet.present()))])
        for effect in self.core.finish(now):
            self._perform(effect)
        self._set_wake(now)

    def _perform(self, effect: Effect) -> None:
        if self.world.tracing:
            self.world.trace(self.process.name, str(effect))
        match effect:
            case Send(target, message, frames):
                self.world.ledger.said(target, message, self.world.timeline.now)
                self.wire.send(target.encode(), message, frames)
            case Write(ticket, operations):
                self.store.write(operations, ticket)
            case ReadOutcomes(client, tasks):
                self._later(lambda: self._read_outcomes(client, tasks))
            case Note(_, event, fields):
                self.world.ledger.noted(event, fields, self.world.timeline.now)

    def _later(self, read: Any) -> None:
        """A look into the store, in a thread: it sees what is committed when it gets there."""
        self.world.timeline.after(self.world.random.expovariate(200.0), read, self.process)

    def _read_outcomes(self, client: str, tasks: list[TaskId]) -> None:
        outcomes = [outcome for each in self.store.find(tasks) if (outcome := outcome_of_stored(each)) is not None]
        found = {outcome.task for outcome in outcomes}
        missing = [task for task in tasks if task not in found]
        self._later(lambda: self._on_outcomes(client, outcomes, missing))

    def _on_outcomes(self, client: str, outcomes: list[Any], missing: list[TaskId]) -> None:
        self.core.on_outcomes(client, outcomes, missing, self.now())
        self._finish()

    def _find_statuses(self, tasks: Iterable[TaskId]) -> dict[TaskId, Status]:
        found = self.store.find(list(tasks))
        return {each.task: each.end.status if each.end is not None else Status.QUEUED for each in found}

    def _on_stored(self, receipts: list[Receipt]) -> None:
        for receipt in receipts:
            if isinstance(receipt.token, int):
                self.core.on_stored(receipt.token, receipt.error, receipt.known, self.now())
        self._finish()

    # -------------------------------------------------------------------------------------- time

    def _tick(self) -> None:
        now, core = self.now(), self.core
        if now - self._ticked > core.heartbeat or self.wire.silence > core.heartbeat * QUIET:
            core.on_stood_still(now)
        self._ticked = now
        core.life.wall_offset = self._wall_offset()
        core.on_time(now)
        core.scheduler.notices()
        self._finish()
        self.world.timeline.after(core.heartbeat / TICKS_PER_HEARTBEAT, self._tick, self.process, True)

    def _set_wake(self, now: float) -> None:
        core = self.core
        wakes = (core.next_time(), core.scheduler.next_wake(), core.patience.until)
        times = [when for when in wakes if when is not None]
        when = min(times, default=float("inf"))
        if self._wake_at > now and self._wake_at <= when:
            return
        if when - now < self.core.heartbeat / TICKS_PER_HEARTBEAT:
            self._wake_at = max(when, now + 0.001)
            self.world.timeline.after(self._wake_at - now, self._on_wake, self.process, True)

    def _on_wake(self) -> None:
        self.core.on_time(self.now())
        self._finish()
