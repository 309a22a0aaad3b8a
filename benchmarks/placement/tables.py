"""The figures as text: by set and delay, by kind of work, by policy, on real processes, and the cost of a decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from benchmarks.placement.cost import Cost
from benchmarks.placement.real import SLOWER, Real
from benchmarks.placement.scenarios import Outcome

REACH = {
    ("first", None): (1.10, 1.20),
    ("second", 0.0002): (0.95, 1.05),
    ("second", 0.005): (1.30, 1.55),
}
"""(mean, p99) ratios that the default policy shall not exceed, by set and delay; None: all delays together."""
COVERED_IN_EACH = (0.85, 0.95)
COVERED_OVERALL = (0.88, 0.92)
"""Shares of starts by p90."""
MOST_MICROSECONDS = 10.0
"""Of placement, for a task, with 64 runtimes."""


def geometric(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def grouped(outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome), []).append(outcome)
    return groups


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def head(*names: str) -> list[str]:
    return [row(*names), "|" + "---|" * len(names)]


def verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def ratios(outcomes: Sequence[Outcome]) -> str:
    """Mean and p99 against the ideal central queue, by policy, set and delay."""
    lines = head("policy", "set", "delay", "mean", "p99", "unstable", "decision", "reach", "")
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
    cost = sum(outcome.decision for outcome in part) / len(part) * 1e6
    mean, p99 = geometric(o.mean_ratio for o in stable), geometric(o.p99_ratio for o in stable)
    reach = REACH.get((group, delay)) if policy == "headway_completion" else None
    said = judged = ""
    if reach is not None:
        said = f"≤ {reach[0]:.2f} / {reach[1]:.2f}, none unstable"
        judged = verdict(round(mean, 2) <= reach[0] and round(p99, 2) <= reach[1] and len(stable) == len(part))
    unstable = f"{len(part) - len(stable)} of {len(part)}"
    return row(policy, group, name, f"{mean:.3f}", f"{p99:.3f}", unstable, f"{cost:.0f} µs", said, judged)


def waits(outcomes: Sequence[Outcome]) -> str:
    """How the waits that were foretold held, by kind of work: shares, seconds.

    Judged by those that had to wait: where there is room, a start is no prediction.
    """
    lines = head(
        "work", "all: by p50", "by p90", "had to wait: by p50", "by p90", "bias / mean wait", "reach of p90", ""
    )
    groups = grouped(outcomes, lambda outcome: outcome.scenario.work)
    for work, part in [*groups.items(), ("all", list(outcomes))]:
        count = len(part)
        shares = [
            sum(getattr(o, name) for o in part) / count for name in ("covered50", "covered90", "waited50", "waited90")
        ]
        bias = sum(o.bias for o in part) / max(sum(o.mean_wait for o in part), 1e-9)
        low, high = COVERED_OVERALL if work == "all" else COVERED_IN_EACH
        judged = verdict(low <= round(shares[3], 2) <= high)
        lines.append(row(work, *(f"{each:.3f}" for each in shares), f"{bias:+.3f}", f"{low} – {high}", judged))
    return "\n".join(lines)


def real_runs(found: Sequence[Real]) -> str:
    """What came of the same on processes."""
    lines = head("scenario", "mean", "p99", "mean ratio", "p99 ratio", "scored", "by p50", "by p90")
    for each in found:
        s = each.scenario
        times = (f"{each.mean * 1e3:.0f} ms", f"{each.p99 * 1e3:.0f} ms")
        shares = (f"{each.covered50:.2f}", f"{each.covered90:.2f}")
        name = f"{s.work}, load {s.load:g}, links of {s.delay * 1e3 * SLOWER:g} ms"
        lines.append(row(name, *times, f"{each.mean_ratio:.2f}", f"{each.p99_ratio:.2f}", each.scored, *shares))
    scored = max(sum(each.scored for each in found), 1)
    shares = tuple(
        f"{sum(share * each.scored for each in found if each.scored for share in (getattr(each, name),)) / scored:.2f}"
        for name in ("covered50", "covered90")
    )
    mean, p99 = geometric(each.mean_ratio for each in found), geometric(each.p99_ratio for each in found)
    lines.append(row("**all**", "", "", f"{mean:.2f}", f"{p99:.2f}", scored, *shares))
    return "\n".join(lines)


def scenarios(outcomes: Sequence[Outcome]) -> str:
    lines = head("policy", "scenario", "mean", "p95", "p99", "mean ratio", "p99 ratio", "makespan", "taken back")
    for o in outcomes:
        times = [f"{value * 1e3:.2f} ms" for value in (o.mean, o.p95, o.p99)]
        ratio = f"{o.p99_ratio:.3f}" + ("" if o.stable else " (unstable)")
        name = o.scenario.name
        lines.append(row(o.policy, name, *times, f"{o.mean_ratio:.3f}", ratio, f"{o.makespan:.1f} s", o.taken_back))
    return "\n".join(lines)


def costs(found: Sequence[Cost], singly: Sequence[tuple[int, float]]) -> str:
    lines = head(
        "runtimes", "queued", "run time", "enqueue", "whole life", "tasks a report", "memory a task", "reach", ""
    )
    for c in found:
        said = judged = ""
        if c.runtimes == 64:
            said, judged = f"≤ {MOST_MICROSECONDS:g} µs", verdict(round(c.decide) <= MOST_MICROSECONDS)
        times = (f"{c.seconds * 1e3:g} ms", f"{c.enqueue:.3f} µs", f"{c.decide:.1f} µs", f"{c.per_decision:.1f}")
        lines.append(row(c.runtimes, f"{c.queued:,}", *times, f"{c.bytes_per_task:.0f} B", said, judged))
    lines += ["", *head("runtimes", "each task alone, with a size of its own")]
    lines += [row(runtimes, f"{cost:.0f} µs") for runtimes, cost in singly]
    return "\n".join(lines)
