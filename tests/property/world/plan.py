"""What a seed decides: how large the world is, what work comes, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from headway_bus.ids import TaskId
from headway_bus.records import Kind, Options, Requirements, Retry
from headway_controller.placement.strategies import BUILT_IN

HANG_SECONDS = 1e9
TARGETS = {
    "work:short": 8,
    "work:long": 4,
    "work:flaky": 2,
    "work:crashy": 2,
    "work:leaky": 1,
    "work:hanging": 1,
    "work:large": 1,
}
"""What is run, and how often."""

FAULTS = {
    "kill broker": 4,
    "kill controller": 6,
    "kill runtime": 5,
    "kill client": 3,
    "kill hub and runtimes": 1,
    "suspend broker": 2,
    "suspend controller": 3,
    "suspend runtime": 3,
    "suspend client": 2,
    "cut connection": 6,
    "partition": 4,
    "slow network": 3,
    "disk stalls": 3,
    "disk full": 3,
    "clock jumps": 2,
    "child dies": 4,
    "nursery dies": 2,
    "runtime leaves": 2,
    "drain runtime": 2,
}


STRATEGIES = sorted(BUILT_IN)


@dataclass(frozen=True)
class Behaviour:
    """What one execution does: "success", "error", "crash", or success with processes left behind ("leftover")."""

    how: str
    seconds: float
    is_stubborn: bool
    """TERM does not end it."""
    is_large: bool


@dataclass
class Plan:
    """The measures of one world."""

    seed: int
    seconds: float = 0.0
    """During which work comes and things go wrong."""

    embedded: bool = False
    durability: str = "normal"
    slots: list[float] = field(default_factory=list)
    clients: int = 1
    tasks: int = 0
    latency: float = 0.001
    commit_seconds: float = 0.005
    high_water: int = 1_000_000
    max_tasks: int = 1_000_000
    faults: list[tuple[float, str]] = field(default_factory=list)
    edges: int = 0
    speculation: float = 0.0
    """The share of slots that second copies may take."""
    switches: list[tuple[float, str]] = field(default_factory=list)
    """When an operator has tasks placed by another strategy."""

    @classmethod
    def of(cls, seed: int, faults: Sequence[str] = (), edges: int = 0) -> Plan:
        """The plan of a seed; with ``faults`` many of these, and no others."""
        random = Random(seed)
        plan = cls(seed)
        plan.seconds = random.choice([4.0, 10.0, 20.0, 35.0])
        plan.embedded = random.random() < 0.35
        plan.durability = random.choices(["normal", "full", "memory"], [14, 3, 3])[0]
        plan.slots = [random.choice([1.0, 1.0, 2.0, 3.0]) for _ in range(random.randint(1, 3))]
        plan.clients = random.randint(1, 3)
        plan.tasks = random.choice([3, 8, 15, 30])
        plan.latency = random.choice([0.0003, 0.002, 0.02])
        plan.commit_seconds = random.choice([0.001, 0.01, 0.1])
        if "full queues" in faults or random.random() < 0.15:
            plan.high_water = random.randint(2, 8)
        if random.random() < 0.05:
            plan.max_tasks = random.randint(3, 10)
        count = random.choice([0, 1, 2, 3, 5, 8, 12])
        kinds = list(FAULTS)
        # A few kinds at a time: rare ones meet each other more often so.
        chosen = random.sample(kinds, random.randint(2, 8))
        weights = [FAULTS[kind] for kind in chosen]
        if faults:
            plan.durability, count = "normal", 12
            chosen = [kind for kind in faults if kind in FAULTS]
            weights = [FAULTS[kind] for kind in chosen]
        times = sorted(random.uniform(0.0, plan.seconds) for _ in range(count))
        plan.faults = [(when, random.choices(chosen, weights)[0]) for when in times]
        if edges:
            plan.edges, plan.slots = edges, plan.slots[: random.randint(1, 2)]
            cuts = [(random.uniform(0.0, plan.seconds), "cut edge") for _ in range(random.randint(1, 6))]
            plan.faults = sorted(plan.faults + cuts)
        plan._plan_placement(Random(f"placement of {seed}"))
        return plan

    def _plan_placement(self, random: Random) -> None:
        """By lots of its own, so that the rest of a seed's world stays what it was."""
        self.speculation = random.choice([0.0, 0.05, 0.5, 1.0])
        count = random.choice([0, 0, 1, 3, 6])
        times = sorted(random.uniform(0.0, self.seconds) for _ in range(count))
        self.switches = [(when, random.choice(STRATEGIES)) for when in times]

    def options(self, random: Random, earlier: list[TaskId]) -> Options:
        """The options of tasks to come."""
        weights = {**TARGETS, "work:long": 40} if self.speculation == 1.0 else TARGETS
        target = random.choices(list(weights), list(weights.values()))[0]
        is_hanging = target == "work:hanging"
        after = random.sample(earlier, min(len(earlier), random.randint(1, 3))) if random.random() < 0.2 else []
        return Options(
            Kind.COMMAND if random.random() < 0.2 else Kind.CALL,
            target,
            job="nightly" if random.random() < 0.3 else "",
            priority=random.choice([0, 0, 0, 1, -1]),
            requirements=Requirements(slots=random.choice([1.0, 1.0, 0.5, max(self.slots)])),
            retry=Retry(
                max_attempts=random.choice([1, 1, 2, 4]),
                max_losses=random.choice([3, 3, 0, 1, 10]),
                backoff=random.choice([0.0, 0.1, 1.0]),
            ),
            after=after,
            after_count=random.choice(["all", "any"]),
            after_end=random.choice(["success", "always"]),
            delay=random.uniform(0.1, 4.0) if random.random() < 0.1 else 0.0,
            timeout_start=random.uniform(0.5, 8.0) if random.random() < 0.1 else 0.0,
            timeout_run=random.uniform(0.2, 3.0) if is_hanging or random.random() < 0.1 else 0.0,
            idempotent=target == "work:long" and (random.random() < 0.3 or self.speculation >= 0.5),
            grace=random.choice([0.1, 1.0]),
            offline=random.choice([0.0, 0.0, 5.0, 60.0]) if self.edges else 0.0,
            resumable=bool(self.edges) and random.random() < 0.3,
        )

    def behave(self, options: Options, random: Random) -> Behaviour:
        """What an execution of these options does."""
        target = options.target
        seconds = random.uniform(0.0005, 0.03)
        if target == "work:long":
            seconds = random.uniform(0.3, 7.0)
        elif target == "work:hanging":
            seconds = HANG_SECONDS if random.random() < 0.7 else 0.2
        how = "success"
        bad = {"work:flaky": ("error", 0.5), "work:crashy": ("crash", 0.5), "work:leaky": ("leftover", 0.5)}
        if target in bad and random.random() < bad[target][1]:
            how = bad[target][0]
        if how == "leftover" and options.kind is Kind.COMMAND:
            how = "success"  # of a command the whole tree is awaited anyway
        return Behaviour(how, seconds, random.random() < 0.2, target == "work:large")
