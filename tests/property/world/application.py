"""A client around its real core, and the program that uses it: submits, waits, cancels, dies, and asks again later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headway import core as cores
from headway.core import Core
from headway.parcels import Unit, make_unit
from headway_bus.ids import TaskId, named_task_id, short_text
from headway_bus.link import Received
from headway_bus.messages import Cancel, DrainRuntime, Message, Rejected, Welcome
from headway_bus.records import Code, Options, Outcome

from .timeline import Process
from .wire import Wire

if TYPE_CHECKING:
    from .world import World

TICK = 0.5
INLINE = 64
AGAIN_SECONDS = 1.0
"""Before the program hands in again what the bus could not take."""


@dataclass(eq=False)
class Wait:
    """Somebody waits for the end of a task."""

    client: str
    task: TaskId
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass(eq=False)
class Entry:
    """What the program has written down of a task: it outlives the process."""

    options: Options
    payload: bytes
    admitted: bool = False
    over: bool = False
    given_up: bool = False
    """Refused, or of a process that died before it knew the task accepted: nobody asks for it."""


class ClientPart:
    """One program with its connection; started again after a crash, it asks for what it had submitted."""

    core: Core
    wire: Wire

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.entries: dict[TaskId, Entry] = {}
        self.waits: list[Wait] = []
        self.asked = 0
        self.answered = 0
        self._clock_offset = 0.0
        process.parts.append(self)

    def now(self) -> float:
        return self.world.timeline.now + self._clock_offset

    def start(self) -> None:
        world = self.world
        self._clock_offset = world.random.uniform(10.0, 1e6)
        self.waits = []
        self.asked = self.answered = 0
        self.core = Core(INLINE)
        world.refine(self.core)
        name = self.process.name if world.random.random() < 0.5 else ""
        self.wire = Wire(
            world.network, self.process, world.broker, self, "client", name, world.token(), self.now, world.random
        )
        self.wire.start()
        self._tick()
        for task, entry in self.entries.items():
            if entry.over or entry.given_up:
                continue
            if entry.admitted:
                self.watch(task)
            elif entry.options.key:
                self._hand_in(entry.options, {task: entry.payload})
            else:
                entry.given_up = True

    def stop(self) -> None:
        self.wire.die(self.world.dies_loudly())

    def validate(self) -> None: ...

    # -------------------------------------------------------------------------------------- what the program does

    def submit(self, options: Options, count: int, key: str = "") -> None:
        """New tasks, or with a key the same one again."""
        random = self.world.random
        ids = [named_task_id(key)] if key else [TaskId(random.randbytes(16)) for _ in range(count)]
        tasks = {task: random.randbytes(random.choice([3, 10, 200])) for task in ids}
        for task, payload in tasks.items():
            self.entries.setdefault(task, Entry(options, payload))
        self._hand_in(options, tasks)

    def _hand_in(self, options: Options, tasks: dict[TaskId, bytes]) -> None:
        waits = [self._wait(task) for task in tasks]
        self.core.submit(make_unit(options, list(tasks.items()), waits, INLINE))
        self.world.timeline.after(0.0, self._flush, self.process)

    def watch(self, task: TaskId) -> None:
        """Wait for a task of whoever it is."""
        self._perform(self.core.watch(task, self._wait(task), self.now()))

    def cancel(self, tasks: list[TaskId]) -> None:
        self.world.ledger.cancelled.update(tasks)
        self._ask(lambda request: Cancel(request, tasks))

    def drain(self, runtime: str, resume: bool) -> None:
        self._ask(lambda request: DrainRuntime(request, runtime, resume))

    def _ask(self, make: Any) -> None:
        self.asked += 1
        _, effects = self.core.ask(make, self.asked, self.now())
        self._perform(effects)

    def _wait(self, task: TaskId) -> Wait:
        wait = Wait(self.process.name, task)
        self.waits.append(wait)
        return wait

    # -------------------------------------------------------------------------------------- the link's calls

    def on_up(self, welcome: Welcome) -> None:
        self._perform(self.core.on_up(welcome.controller, self.now()))

    def on_down(self, reason: str) -> None:
        self._perform(self.core.on_down())

    def on_controller(self, controller: bytes) -> None:
        self._perform(self.core.on_controller(controller, self.now()))

    def on_messages(self, messages: list[Received]) -> None:
        if self.world.tracing:
            for source, message, _ in messages:
                self.world.trace(self.process.name, f"hears from {source.decode() or 'broker'}: {message}")
        self._perform(self.core.on_messages(messages, self.now()))

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        raise AssertionError(f"{source!r} sent what cannot be read: {text}")

    def on_over(self, rejected: Rejected) -> None:
        self.world.start_again(self.process, rejected.code)

    # -------------------------------------------------------------------------------------- effects

    def _flush(self) -> None:
        self._perform(self.core.flush(self.now()))

    def _tick(self) -> None:
        self._perform(self.core.on_tick(self.now()))
        self.world.timeline.after(TICK, self._tick, self.process, True)

    def _perform(self, effects: list[cores.Effect]) -> None:
        for effect in effects:
            match effect:
                case cores.Send(target, message, frames):
                    if self.world.tracing:
                        self.world.trace(self.process.name, f"says {message}")
                    self._send(target, message, frames)
                case cores.Admitted(units, _):
                    for unit in units:
                        self._on_admitted(unit)
                case cores.NotAdmitted(unit, error):
                    self._on_refused(unit, getattr(error, "code", ""))
                case cores.Ended(ends):
                    for wait, outcome, data in ends:
                        self._on_ended(wait, outcome, bytes(data))
                case cores.Answered() | cores.Failed():
                    self.answered += 1

    def _send(self, target: bytes, message: Message, frames: Any) -> None:
        self.wire.send(target, message, frames)

    def _on_admitted(self, unit: Unit) -> None:
        for task, _ in unit.tasks:
            self.world.ledger.admitted(task)
            entry = self.entries[task]
            entry.admitted, entry.given_up = True, False

    def _on_refused(self, unit: Unit, code: str) -> None:
        """The bus has not taken it. What has a name is handed in again, as a person would; the rest is given up."""
        self.world.ledger.counters[f"refused: {code}"] += 1
        tasks = {task: bytes(data) for task, data in unit.tasks}  # type: ignore[arg-type]
        self.waits = [each for each in self.waits if not any(each is handle for handle in unit.handles)]
        passing = code in (Code.STORE, Code.LIMIT)
        if unit.options.key and passing:
            again = lambda: self._hand_in(unit.options, tasks)  # noqa: E731
            self.world.timeline.after(AGAIN_SECONDS, again, self.process)
            return
        for task in tasks:
            self.entries[task].given_up = not self.entries[task].admitted
            if not unit.options.key:
                self.world.refused[task] = str(code)

    def _on_ended(self, wait: Wait, outcome: Outcome, data: bytes) -> None:
        wait.outcomes.append(outcome)
        assert wait.task == outcome.task
        if len(wait.outcomes) > 1:
            self.world.ledger.broken.append(f"{wait.client} was told twice of {short_text(wait.task)}")
        self.world.ledger.ended(wait.task, outcome, data)
        entry = self.entries.get(wait.task)
        if entry is not None:
            entry.over = True
