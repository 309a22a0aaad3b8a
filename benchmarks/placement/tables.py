"""The figures as text: by set and delay, by kind of work, by policy, and the cost of a decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from benchmarks.placement.cost import Cost
from benchmarks.placement.scenarios import Outcome

REACH = {
    ("first", None): (1.10, 1.20),
    ("second", 0.0002): (0.95, 1.05),
    ("second", 0.005): (1.30, 1.55),
}
"""(mean, p99) ratios that the default policy shall not exceed, by set and delay; None: all delays together."""


def geometric(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def grouped(outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome), []).append(outcome)
    return groups


def ratios(outcomes: Sequence[Outcome]) -> str:
    """Mean and p99 against the ideal central queue, by policy, set and delay."""
    lines = ["| policy | set | delay | mean | p99 | reach | unstable | decision |", "|---|---|---|---|---|---|---|---|"]
    for policy, of_policy in grouped(outcomes, lambda outcome: outcome.policy).items():
        for group, of_group in grouped(of_policy, lambda outcome: outcome.scenario.group).items():
            by_delay = grouped(of_group, lambda outcome: f"{outcome.scenario.delay * 1e3:g} ms")
            parts: list[tuple[str, float | None, list[Outcome]]] = [
                (name, part[0].scenario.delay, part) for name, part in by_delay.items()
            ]
            parts.append(("all", None, of_group))
            lines += [_ratio_line(policy, group, name, delay, part) for name, delay, part in parts]
    return "\n".join(lines)


def _ratio_line(policy: str, group: str, name: str, delay: float | None, part: Sequence[Outcome]) -> str:
    stable = [outcome for outcome in part if outcome.stable]
    reach = REACH.get((group, delay))
    said = f"{reach[0]:.2f} / {reach[1]:.2f}" if reach else ""
    cost = sum(outcome.decision for outcome in part) / len(part) * 1e6
    mean, p99 = geometric(o.mean_ratio for o in stable), geometric(o.p99_ratio for o in stable)
    unstable = f"{len(part) - len(stable)} of {len(part)}"
    return f"| {policy} | {group} | {name} | {mean:.3f} | {p99:.3f} | {said} | {unstable} | {cost:.0f} µs |"


def waits(outcomes: Sequence[Outcome]) -> str:
    """How the waits that were foretold held, by kind of work: shares, seconds."""
    lines = [
        "| work | by p50 | by p90 | that had to wait: by p50 | by p90 | bias / mean wait |",
        "|---|---|---|---|---|---|",
    ]
    groups = grouped(outcomes, lambda outcome: outcome.scenario.work)
    for work, part in [*groups.items(), ("all", list(outcomes))]:
        count = len(part)
        cells = [
            f"{sum(getattr(o, name) for o in part) / count:.3f}"
            for name in ("covered50", "covered90", "waited50", "waited90")
        ]
        bias = sum(o.bias for o in part) / max(sum(o.mean_wait for o in part), 1e-9)
        lines.append(f"| {work} | {' | '.join(cells)} | {bias:+.3f} |")
    return "\n".join(lines)


def scenarios(outcomes: Sequence[Outcome]) -> str:
    lines = [
        "| policy | scenario | mean | p95 | p99 | mean ratio | p99 ratio | makespan | taken back |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        times = " | ".join(f"{value * 1e3:.2f} ms" for value in (o.mean, o.p95, o.p99))
        ratio = f"{o.mean_ratio:.3f} | {o.p99_ratio:.3f}" + ("" if o.stable else " (unstable)")
        lines.append(f"| {o.policy} | {o.scenario.name} | {times} | {ratio} | {o.makespan:.1f} s | {o.taken_back} |")
    return "\n".join(lines)


def costs(found: Sequence[Cost], singly: Sequence[tuple[int, float]]) -> str:
    lines = [
        "| runtimes | queued | run time | enqueue | whole life | tasks a report | memory a queued task |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.runtimes} | {c.queued:,} | {c.seconds * 1e3:g} ms | {c.enqueue:.3f} µs | {c.decide:.1f} µs "
        f"| {c.per_decision:.1f} | {c.bytes_per_task:.0f} B |"
        for c in found
    ]
    lines += ["", "| runtimes | each task alone, with a size of its own |", "|---|---|"]
    lines += [f"| {runtimes} | {cost:.0f} µs |" for runtimes, cost in singly]
    return "\n".join(lines)
