"""Work that comes, things that go wrong, and the end of both."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from headway_bus.records import Kind, Options

from .timeline import Process

if TYPE_CHECKING:
    from .application import ClientPart
    from .world import World

NAMES = ("report", "invoice", "backup")
"""Tasks that more than one program submits by the same name."""

OPERATOR_SECONDS = 2.0


class Faults:
    """Carries out the plan, by what is there when the time has come."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counters: Counter[str] = Counter()

    def schedule(self) -> None:
        world, plan = self.world, self.world.plan
        left = plan.tasks
        while left > 0:
            count = min(left, world.random.choice([1, 1, 2, 5]))
            left -= count
            world.timeline.at(world.random.uniform(0.0, plan.seconds), lambda count=count: self._submit(count))  # type: ignore[misc]
        for _ in range(world.random.randint(0, plan.tasks // 3)):
            action = world.random.choice([self._cancel, self._watch])
            world.timeline.at(world.random.uniform(0.0, plan.seconds), action)
        for when, kind in plan.faults:
            world.timeline.at(when, lambda kind=kind: self._fault(kind))  # type: ignore[misc]
        for when, name in plan.switches:
            world.timeline.at(when, lambda name=name: self._switch(name))  # type: ignore[misc]
        world.timeline.at(plan.seconds, self._calm)

    # -------------------------------------------------------------------------------------- work

    def _program(self) -> ClientPart | None:
        awake = [each for each in self.world.programs if each.process.alive and not each.process.suspended]
        return self.world.random.choice(awake) if awake else None

    def _submit(self, count: int) -> None:
        program, random = self._program(), self.world.random
        if program is None:
            return
        earlier = [task for task in program.entries if random.random() < 0.5]
        options = self.world.plan.options(random, earlier)
        if random.random() < 0.15:
            key = random.choice(NAMES)
            program.submit(self._named(key), 1, key)
        else:
            program.submit(options, count)

    @staticmethod
    def _named(key: str) -> Options:
        return Options(Kind.CALL, "work:short", key=key)

    def _switch(self, name: str) -> None:
        self.counters["strategy switched"] += 1
        self.world.controller.use_strategy(name)

    def _cancel(self) -> None:
        program = self._program()
        if program is not None and program.entries:
            program.cancel(self.world.random.sample(list(program.entries), 1))

    def _watch(self) -> None:
        program = self._program()
        accepted = sorted(self.world.ledger.accepted)
        if program is not None and accepted:
            program.watch(self.world.random.choice(accepted))

    # -------------------------------------------------------------------------------------- faults

    def _fault(self, kind: str) -> None:
        random = self.world.random
        verb, _, noun = kind.partition(" ")
        happened = True
        if kind == "kill hub and runtimes":
            for process in self.world.processes:
                if process.name != "operator" and not process.name.startswith("client"):
                    self._kill(process)
        elif verb in ("kill", "suspend"):
            process = self._process_of(noun)
            happened = process.alive and not process.suspended
            (self._kill if verb == "kill" else self._suspend)(process)
        elif kind == "cut edge":
            name = f"edge-{random.randint(1, self.world.plan.edges)}"
            self.world.network.partition(name, random.choice([2.0, 10.0, 30.0, 90.0]))
        elif kind in ("partition", "slow network", "cut connection"):
            self._network_fault(kind)
        elif kind == "disk stalls":
            self.world.disk.stalled_until = self.world.timeline.now + random.uniform(0.5, 8.0)
        elif kind == "disk full":
            self.world.disk.full = True
            self.world.timeline.after(random.uniform(0.5, 10.0), self._disk_empty)
        elif kind == "clock jumps":
            self.world.wall_shift += random.choice([-86_400.0, -30.0, 30.0, 86_400.0])
        else:
            happened = self._runtime_fault(kind)
        if happened:
            self.world.trace("FAULT", kind)
            self.counters[kind] += 1

    def _process_of(self, noun: str) -> Process:
        world = self.world
        if noun == "broker":
            return world.broker.process
        if noun == "controller":
            return world.controller.process
        return world.random.choice(world.runtimes if noun == "runtime" else world.programs).process

    def _kill(self, process: Process) -> None:
        if process.alive:
            self.world.trace("FAULT", f"kill {process.name}")
            process.kill()
            self.world.timeline.after(self.world.random.choice([0.1, 1.0, 6.0, 15.0]), process.start)

    def _suspend(self, process: Process) -> None:
        if process.alive and not process.suspended:
            self.world.trace("FAULT", f"suspend {process.name}")
            process.suspend()
            random = self.world.random
            seconds = random.choice([0.5, 3.0, 8.0, 30.0])
            self.world.timeline.after(seconds, lambda: process.resume(random.random() < 0.5))

    def _network_fault(self, kind: str) -> None:
        world, random = self.world, self.world.random
        wires = [part for part in [world.controller, *world.runtimes, *world.programs] if part.process.alive]
        if not wires:
            return
        part = random.choice(wires)
        machine = part.process.name
        self.world.trace("FAULT", f"{kind} of {machine}")
        if kind == "partition":
            world.network.partition(machine, random.choice([1.0, 5.5, 12.0, 20.0]))
        elif kind == "slow network":
            world.network.slow_down(machine, random.uniform(1.0, 10.0), random.choice([20.0, 300.0]))
        else:
            part.wire.cut()

    def _disk_empty(self) -> None:
        self.world.disk.full = False

    def _runtime_fault(self, kind: str) -> bool:
        runtime = self.world.random.choice(self.world.runtimes)
        process = runtime.process
        if kind == "drain runtime":
            self.world.operator.drain(runtime.name, False) if self.world.operator.process.alive else None
            return True
        if not process.alive or process.suspended:
            return False
        if kind == "child dies":
            return runtime.crash_child()
        if kind == "nursery dies":
            runtime.crash_nursery()
        elif kind == "runtime leaves":
            runtime.leave()
        return True

    # -------------------------------------------------------------------------------------- the end

    def _calm(self) -> None:
        """No fault from here on; what is dead is started, and what an operator undoes, an operator undoes."""
        world = self.world
        world.calm = True
        world.network.heal()
        world.disk.full = False
        world.disk.stalled_until = 0.0
        for process in world.processes:
            process.resume(False)
            process.start()
        self._operate()

    def _operate(self) -> None:
        """The operator looks for what only a person ends: drained runtimes."""
        world = self.world
        for runtime in world.runtimes:
            if runtime.process.alive and runtime.core.draining and not runtime.core.is_leaving:
                world.operator.drain(runtime.name, True)
        for name, each in world.controller.core.state.runtimes.items():
            if each.state == "draining":
                world.operator.drain(name, True)
        world.timeline.after(OPERATOR_SECONDS, self._operate)
