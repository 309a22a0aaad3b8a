"""One world: made from a seed, run through its faults, brought to rest, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

from headway import core as client_core
from headway_bus import handover
from headway_bus.ids import TaskId
from headway_bus.records import Code
from headway_controller.state import Ended

from . import promises
from .application import ClientPart
from .disk import Disk
from .faults import Faults
from .hub import BrokerPart, ControllerPart
from .ledger import Ledger
from .machine import RuntimePart
from .network import Network
from .plan import Plan
from .timeline import Process, Timeline

EPOCH = 1.7e9
REST_SECONDS = 240.0
"""Simulated seconds after the last fault within which the world must have come to rest."""

QUIET_SECONDS = 6.0
"""Simulated seconds that it must then stay so: three heartbeats of everybody."""

MOST_STEPS = 300_000
RESTART_SECONDS = 1.0

Refinement = Callable[[Any], None]


class BrokenPromise(AssertionError):
    """A world in which something is not as it was promised. The text says what, and how to see it again."""


class World:
    """All parts of one world."""

    def __init__(
        self,
        seed: int,
        *,
        tracing: bool = False,
        refine: Refinement | None = None,
        faults: Sequence[str] = (),
        edges: int = 0,
    ) -> None:
        self.plan = plan = Plan.of(seed, faults, edges)
        self.tracing = tracing
        self.random = Random(seed * 2 + 1)
        self.timeline = Timeline()
        self.network = Network(self.timeline, self.random, plan.latency, plan.high_water)
        self.disk = Disk()
        self.ledger = Ledger(self.disk, plan.durability, self._is_present)
        self.refused: dict[TaskId, str] = {}
        """Tasks that the bus refused, and that nobody handed in again."""
        self.wall_shift = 0.0
        self.calm = False
        """Faults have ended."""
        self._refine = refine
        # The hand-overs begin to count anywhere; here the seed decides where, or no world could be seen again.
        seeded = SimpleNamespace(randbits=self.random.getrandbits)
        handover.secrets = client_core.secrets = seeded  # type: ignore[attr-defined]
        self.processes: list[Process] = []
        hub = self._process("broker")
        self.broker = BrokerPart(self, hub)
        owner = hub if plan.embedded else self._process("controller")
        self.controller = ControllerPart(self, owner, self.broker, embedded=plan.embedded)
        self.runtimes = [
            RuntimePart(self, self._process(f"runtime-{number}"), slots) for number, slots in enumerate(plan.slots, 1)
        ]
        for number in range(1, edges + 1):
            from .edge import EdgePart  # needs the agent, which most worlds have not

            self.runtimes.append(EdgePart(self, self._process(f"edge-{number}"), 1.0))
        self.programs = [ClientPart(self, self._process(f"client-{number}")) for number in range(1, plan.clients + 1)]
        self.operator = ClientPart(self, self._process("operator"))
        self.clients = [*self.programs, self.operator]
        self.faults = Faults(self)

    # -------------------------------------------------------------------------------------- what parts ask for

    def _process(self, name: str) -> Process:
        process = Process(name, self.timeline)
        self.processes.append(process)
        return process

    def _is_present(self, task: TaskId, attempt: int, runtime: str) -> bool:
        known = self.controller.core.state.tasks.get(task)
        if known is None or (known.attempt, known.runtime) != (attempt, runtime):
            return False
        return isinstance(known.state, Ended) or known.over < attempt

    def wall(self) -> float:
        """Unix time, as the machines believe it."""
        return EPOCH + self.timeline.now + self.wall_shift

    def token(self) -> bytes:
        return self.random.randbytes(8)

    def refine(self, core: Any) -> None:
        """Every new core passes here: a mutation run puts a defect in."""
        if self._refine is not None:
            self._refine(core)

    def dies_loudly(self) -> bool:
        """Whether the operating system closes a dead process's connections, or the machine went with it."""
        return self.random.random() < 0.8

    def start_again(self, process: Process, code: Code) -> None:
        """The broker would not have it, it ended, and its supervisor starts it again."""
        assert code is Code.NAME_TAKEN, f"{process.name} was refused: {code}"
        self.ledger.counters["ended because the name was taken"] += 1
        self.has_left(process)

    def has_left(self, process: Process) -> None:
        process.kill()
        self.timeline.after(RESTART_SECONDS, process.start)

    def trace(self, who: str, what: str) -> None:
        if self.tracing:
            print(f"{self.timeline.now:9.4f} {who:>11}  {what}")

    # -------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """From the first start to rest. Raises BrokenPromise."""
        try:
            self._run()
        except Exception as error:
            if isinstance(error, BrokenPromise):
                raise
            where = f"at {self.timeline.now:.3f} s of seed {self.plan.seed}"
            raise BrokenPromise(f"{type(error).__name__} {where}: {error}") from error

    def _run(self) -> None:
        for process in self.random.sample(self.processes, len(self.processes)):
            self.timeline.after(self.random.uniform(0.0, 0.5), process.start)
        self.faults.schedule()
        self._go_on(lambda: self.calm)
        deadline = self.timeline.now + REST_SECONDS
        while True:
            self._go_until_rest(deadline)
            since = self.timeline.now
            self._go_on(lambda: self.timeline.now >= since + QUIET_SECONDS)  # noqa: B023
            if not promises.unrest(self):
                break
        self._judge(promises.broken(self))

    def _go_until_rest(self, deadline: float) -> None:
        while found := promises.unrest(self):
            if self.timeline.now > deadline:
                self._judge([f"no rest {REST_SECONDS:.0f} s after the last fault", *found, *self.ledger.broken])
            until = self.timeline.now + 0.5
            self._go_on(lambda: self.timeline.now >= until)  # noqa: B023

    def _go_on(self, until: Callable[[], bool]) -> None:
        timeline = self.timeline
        while not until():
            process = timeline.step()
            if process is not None and process.alive:
                for part in process.parts:
                    part.validate()
            if timeline.steps > MOST_STEPS:
                self._judge([f"{MOST_STEPS} events and no end: something goes in circles", *promises.unrest(self)])
            if self.ledger.broken:
                self._judge(self.ledger.broken)

    def _judge(self, found: list[str]) -> None:
        if found:
            text = "\n  ".join(found[:20])
            raise BrokenPromise(f"seed {self.plan.seed}, at {self.timeline.now:.3f} s:\n  {text}")

    def totals(self) -> Counter[str]:
        """What this world has seen."""
        totals: Counter[str] = Counter(events=self.timeline.steps, worlds=1)
        totals["tasks accepted"] = len(self.ledger.accepted)
        totals["executions"] = self.ledger.counters["executions"]
        totals["executions beyond the first of a task"] = sum(
            len(each) - 1 for each in self.ledger.executions.values() if each
        )
        totals["ends told"] = self.ledger.counters["ends told"]
        totals["messages lost"] = self.network.counters["messages lost"]
        totals["deliveries refused"] = self.network.counters["deliveries refused"]
        totals["commits refused"] = self.disk.counters["commits refused"]
        totals["simulated seconds"] = int(self.timeline.now)
        for kind, count in self.faults.counters.items():
            totals[f"fault: {kind}"] = count
        for name, count in self.controller.copies().items():
            totals[name.replace(".", " ")] = self.ledger.counters[name] + count
        totals["faults"] = sum(self.faults.counters.values())
        return totals
