"""The core under any order of events: every attempt ends exactly once, slots are never exceeded, the digests agree."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from runtime_world import NO_ARGUMENTS, World, options

from headway_bus import messages as m
from headway_bus.records import AttemptEnd, Blob, Kind

KINDS = [
    options(),
    options(target="a:long", timeout_run=1.0),
    options(slots=0.5),
    options(slots=2.0),
    options(Kind.COMMAND, "true"),
    options(Kind.COMMAND, "sleep 1", slots=1.5, timeout_run=0.5),
    options(slots=4.0),
]
SHORT = KINDS[0]
LARGE = Blob(b"h" * 32, 100)
SECONDS = [1e-6, 1e-4, 0.01, 2.0]


class CoreMachine(RuleBasedStateMachine):
    @initialize(slots=st.sampled_from([0.5, 1.0, 2.0, 3.0]))
    def begin(self, slots: float) -> None:
        self.world = World(slots)
        self.keys: list[tuple[m.TaskId, int]] = []
        self.world.connect()
        if slots >= 1:  # one target is known to be short from the start, so that its attempts lie in company
            self.keys += self.world.assign(SHORT, [0])
            self.world.finish(1)

    def child(self, number: int) -> int | None:
        busy = [child for child, queue in self.world.children.items() if queue]
        return busy[number % len(busy)] if busy else None

    @precondition(lambda self: self.world.core.is_registered)
    @rule(chosen=st.sampled_from(KINDS), count=st.integers(1, 40))
    def assign(self, chosen: m.Options, count: int) -> None:
        first = len(self.keys)
        self.keys += self.world.assign(chosen, range(first, first + count))

    @rule(number=st.integers(0, 9), count=st.integers(1, 50), seconds=st.sampled_from(SECONDS), fails=st.booleans())
    def finish(self, number: int, count: int, seconds: float, fails: bool) -> None:
        child = self.child(number)
        if child is not None:
            attempt = self.world.core.attempts[self.world.children[child][0]]
            seconds = 1e-5 if attempt.spec.options.target == "a:f" else seconds
            self.world.finish(child, count, seconds, AttemptEnd.FAILED if fails else AttemptEnd.SUCCEEDED)

    @rule(number=st.integers(0, 9), was_running=st.booleans())
    def crash(self, number: int, was_running: bool) -> None:
        child = self.child(number)
        if child is not None:
            self.world.crash(child, was_running)

    @rule(number=st.integers(0, 10_000), count=st.integers(1, 10), stops=st.booleans())
    def mean_what_lies_in_children(self, number: int, count: int, stops: bool) -> None:
        """Stop or take back what was fed to children and may have begun or not."""
        fed = [key for queue in self.world.children.values() for key in queue]
        if fed:
            chosen = [fed[(number + at) % len(fed)] for at in range(count)]
            self.world.say(m.Stop(chosen) if stops else m.TakeBack(chosen))
            self.answer_recalls()

    @rule()
    def answer_recalls(self) -> None:
        for child in sorted(self.world.recalled & self.world.children.keys()):
            self.world.answer_recall(child)

    @rule(number=st.integers(0, 9), code=st.integers(0, 1))
    def end_command(self, number: int, code: int) -> None:
        commands = list(self.world.commands)
        if commands:
            self.world.end_command(commands[number % len(commands)], code)

    @rule(number=st.integers(0, 10_000), count=st.integers(1, 10), grace=st.sampled_from([-1.0, 0.0, 1.0]))
    def stop(self, number: int, count: int, grace: float) -> None:
        self.world.say(m.Stop(self.some(number, count), grace, "no longer wanted"))

    @rule(number=st.integers(0, 10_000), count=st.integers(1, 50))
    def take_back(self, number: int, count: int) -> None:
        self.world.say(m.TakeBack(self.some(number, count)))

    def some(self, number: int, count: int) -> list[tuple[m.TaskId, int]]:
        at = number % (len(self.keys) + 1)
        return self.keys[at : at + count]

    @rule(seconds=st.sampled_from([0.001, 0.006, 0.1, 2.5, 6.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        for child in [child for child in self.world.killed if child in self.world.children]:
            self.world.crash(child)
        self.world.killed.clear()

    @precondition(lambda self: self.world.core.is_registered)
    @rule(count=st.integers(2, 60))
    def assign_short(self, count: int) -> None:
        self.assign(SHORT, count)

    @precondition(lambda self: self.world.core.is_registered and self.keys)
    @rule(number=st.integers(0, 10_000), count=st.integers(1, 10))
    def assign_again(self, number: int, count: int) -> None:
        """The controller repeats what it has not seen the end of, under a number of its own."""
        again = [key for key in self.some(number, count) if key in self.world.view or key not in self.world.ends]
        self.world.batch += 1
        group = m.AssignGroup(SHORT, [(task, attempt, NO_ARGUMENTS) for task, attempt in again])
        self.world.say(m.Assign(self.world.batch, [group]))

    @precondition(lambda self: self.world.core.is_registered)
    @rule(count=st.integers(1, 3))
    def assign_large(self, count: int) -> None:
        first = len(self.keys)
        self.keys += self.world.assign(options(target="a:large"), range(first, first + count), LARGE)

    @rule(fails=st.booleans())
    def fetched(self, fails: bool) -> None:
        while self.world.fetching:
            self.world.fetched(self.world.fetching.pop(), fails)

    @rule(number=st.integers(0, 9), size=st.sampled_from([0, 10_000]))
    def finish_with_large_result(self, number: int, size: int) -> None:
        child = self.child(number)
        if child is not None:
            self.world.finish_with(child, b"x" * size if size else LARGE)

    @rule(fails=st.booleans())
    def uploaded(self, fails: bool) -> None:
        while self.world.uploading:
            self.world.uploaded(self.world.uploading.pop(), fails)

    @rule(number=st.integers(0, 9))
    def leave_processes_behind(self, number: int) -> None:
        child = self.child(number)
        if child is not None:
            self.world.leave_processes(child)

    @rule(number=st.integers(0, 9))
    def lose_all_processes(self, number: int) -> None:
        if number == 0:
            self.world.lose_all_processes()

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule()
    def cut(self) -> None:
        self.world.cut()

    @rule(controller=st.sampled_from([b"controller", b"another"]))
    def connect(self, controller: bytes) -> None:
        self.world.connect(controller)

    @rule(drain=st.booleans())
    def drain(self, drain: bool) -> None:
        self.world.say(m.SetDrain(drain))

    @rule()
    def ask_for_inventory(self) -> None:
        self.world.say(m.SendInventory())

    @invariant()
    def holds(self) -> None:
        self.world.core.validate()
        held, ended = self.world.core.attempts.keys(), self.world.ends.keys()
        unreported = set(self.world.core.reporter.unreported)
        assert not held & ended
        assert len(held) + len(ended) + len(unreported) == len(self.keys), "an attempt is nowhere, or twice"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.connect()
        world.say(m.SetDrain(False))
        for _ in range(10_000):
            if not world.core.attempts:
                break
            self.answer_recalls()
            self.fetched(False)
            self.uploaded(False)
            for child in [child for child in world.killed if child in world.children]:
                world.crash(child, was_running=False)
            world.killed.clear()
            for child in [child for child, queue in world.children.items() if queue]:
                world.finish(child, 1000)
            for key in list(world.commands):
                world.end_command(key)
        assert world.ends.keys() == set(self.keys), "not every attempt has ended"
        world.settle()
        world.pass_time(3.0)
        assert world.core.reporter.is_empty
        assert world.core.pool.free == world.slots
        assert (world.core.reporter.held, world.core.reporter.digest) == (0, 0)


CoreMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestCore = CoreMachine.TestCase
