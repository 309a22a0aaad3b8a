"""A runtime around its real core: what :mod:`headway_runtime.service` is to sockets, pipes and processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headway_bus.ids import AttemptKey, TaskId
from headway_bus.link import CONTROLLER, Received
from headway_bus.messages import BlobHave, BlobPart, Denied, Rejected, Undeliverable, Welcome
from headway_bus.records import Ended, ErrorInfo, LogRecord, Reason, RuntimeInfo
from headway_runtime import effects as to_do
from headway_runtime.core import Core
from headway_runtime.refusals import Refusals
from headway_runtime.state import Bounds

from .children import Child, Command
from .timeline import Process
from .wire import Wire

if TYPE_CHECKING:
    from .world import World

LEAST_TICK = 0.02
"""The core would like to look at new children every 5 ms; here that would be most of all events."""


class RuntimePart:
    """One runtime, again and again under the same name."""

    core: Core
    wire: Wire

    def __init__(self, world: World, process: Process, slots: float) -> None:
        self.world = world
        self.process = process
        self.name = process.name
        self.slots = slots
        self.children: dict[int, Child] = {}
        self.commands: dict[AttemptKey, Command] = {}
        self._clock_offset = 0.0
        self._timer_at = 0.0
        process.parts.append(self)

    def now(self) -> float:
        return self.world.timeline.now + self._clock_offset

    # -------------------------------------------------------------------------------------- life

    def start(self) -> None:
        world = self.world
        self._clock_offset = world.random.uniform(10.0, 1e6)
        self._timer_at = 0.0
        info = RuntimeInfo(self.name, self.slots)
        instance = world.token()
        self.children, self.commands = {}, {}
        bounds = Bounds(drain_seconds=3.0, settle_seconds=3.0, ready_children=1)
        self.core = Core(info, instance, Refusals(info), bounds)
        world.refine(self.core)
        self.wire = Wire(
            world.network, self.process, world.broker, self, "runtime", self.name, instance, self.now, world.random
        )
        self._perform(self.core.on_start())
        self.wire.start()

    def stop(self) -> None:
        self.wire.die(self.world.dies_loudly())
        for holder in [*self.children.values(), *self.commands.values()]:
            holder.kill_with_runtime()

    def leave(self) -> None:
        """SIGTERM."""
        if not self.core.is_leaving:
            self._perform(self.core.on_leave(self.now()))

    def validate(self) -> None:
        self.core.validate()

    def occupied(self) -> float:
        """Slots of what runs, down to the last process that was left behind."""
        holders = [*self.children.values(), *self.commands.values()]
        return sum(each.slots for each in holders if each.running is not None)

    # -------------------------------------------------------------------------------------- the link's calls

    def on_up(self, welcome: Welcome) -> None:
        self._perform(self.core.on_up(welcome, self.now()))

    def on_down(self, reason: str) -> None:
        self._perform(self.core.on_down(self.now()))

    def on_controller(self, controller: bytes) -> None:
        self._perform(self.core.on_controller(controller, self.now()))

    def on_messages(self, messages: list[Received]) -> None:
        now = self.now()
        for source, message, frames in messages:
            if self.world.tracing:
                self.world.trace(self.name, f"hears from {source.decode() or 'broker'}: {message}")
            if not isinstance(message, BlobHave | BlobPart | Denied | Undeliverable):
                self._carry_out(self.core.on_message(message, frames, now))
        self._flush()

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        raise AssertionError(f"{source!r} sent what cannot be read: {text}")

    def on_over(self, rejected: Rejected) -> None:
        self.world.start_again(self.process, rejected.code)

    # -------------------------------------------------------------------------------------- children and commands

    def on_child_ended(self, number: int, record: Ended, frames: list[bytes]) -> None:
        self._log(record)
        self._perform(self.core.on_child_ended(number, [record], frames, self.now()))

    def on_child_left(self, number: int, record: Ended, frames: list[bytes]) -> None:
        frame = frames[0] if frames else None
        self._perform(self.core.on_child_left(number, record, frame, self.now()))

    def on_child_answered(self, number: int, given: list[AttemptKey], current: AttemptKey | None) -> None:
        self._perform(self.core.on_child_answered(number, given, current, self.now()))

    def on_child_gone(self, number: int, cause: ErrorInfo, was_running: bool) -> None:
        self.children.pop(number, None)
        self._perform(self.core.on_child_gone(number, cause, was_running, self.now()))

    def on_command_gone(self, key: AttemptKey, record: Ended) -> None:
        self.commands.pop(key, None)
        self._perform(self.core.on_command_gone(key, record, self.now()))

    def crash_child(self) -> bool:
        """A child, or a command, dies by the hand of somebody else."""
        holders = [each for each in [*self.children.values(), *self.commands.values()] if each.alive]
        if holders:
            holder = self.world.random.choice(holders)
            holder.die(ErrorInfo(Reason.SIGNAL, "killed by signal 9 (SIGKILL)", signal=9))
        return bool(holders)

    def crash_nursery(self) -> None:
        """The process that keeps all others dies, and they with it."""
        numbers = list(self.children)
        for holder in [*self.children.values(), *self.commands.values()]:
            holder.alive = False
            holder.discarded = True
            holder.over()
        self.children.clear()
        self.commands.clear()
        self._perform(self.core.on_processes_lost(numbers, self.now()))

    def _log(self, record: Ended) -> None:
        if self.world.random.random() < 0.2:
            self.core.on_logs([LogRecord(TaskId(record.task), record.attempt, 0, "stdout", 0.0, "done")])

    # -------------------------------------------------------------------------------------- effects

    def _perform(self, effects: Iterable[to_do.Effect]) -> None:
        self._carry_out(effects)
        self._flush()

    def _flush(self) -> None:
        now = self.now()
        self._carry_out(self.core.flush(now))
        if self.process.alive:
            self._arm(now)

    def _carry_out(self, effects: Iterable[to_do.Effect]) -> None:
        for effect in effects:
            match effect:
                case to_do.Tell(message, frames):
                    if self.world.tracing:
                        self.world.trace(self.name, f"tells {message}")
                    self.wire.send(CONTROLLER, message, frames)
                case to_do.StartChild(number):
                    self.children[number] = Child(self, number)
                case to_do.StartCommand(attempt):
                    self.commands[attempt.key] = Command(self, attempt)
                case to_do.EndCommand(key, number):
                    if (command := self.commands.get(key)) is not None:
                        command.end(number)
                case to_do.Leave():
                    self.wire.leave()
                    self.world.has_left(self.process)
                case to_do.Throttle() | to_do.FlushChild():
                    pass
                case to_do.Fetch() | to_do.Upload():
                    raise AssertionError("large values do not occur in this world")
                case _:
                    self._tell_child(effect)

    def _tell_child(self, effect: to_do.Effect) -> None:
        assert isinstance(effect, to_do.Feed | to_do.Recall | to_do.Interrupt | to_do.EndChild | to_do.RetireChild)
        child = self.children.get(effect.child)
        if child is None:
            assert not isinstance(effect, to_do.Feed), f"child {effect.child} is fed and does not exist"
            return
        match effect:
            case to_do.Feed(_, attempts):
                child.feed(attempts)
            case to_do.Recall():
                child.recall()
            case to_do.Interrupt(_, key):
                child.interrupt(key)
            case to_do.EndChild(_, number):
                child.end(number)
            case to_do.RetireChild():
                child.retire()
                del self.children[effect.child]

    # -------------------------------------------------------------------------------------- time

    def _arm(self, now: float) -> None:
        at = now + max(LEAST_TICK, self.core.next_tick(now))
        if now < self._timer_at <= at:
            return
        self._timer_at = at
        self.world.timeline.after(at - now, lambda: self._tick(at), self.process, True)

    def _tick(self, at: float) -> None:
        if at != self._timer_at:
            return
        self._timer_at = 0.0
        self.core.presence.round_trip = self.wire.session.round_trip
        self._carry_out(self.core.on_tick(self.now()))
        self._flush()
