"""Which runtimes may run a task at all, busy or not: what they serve, their labels, name, code by value, totals."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from headway_bus.records import Kind, Options, RuntimeInfo
from headway_controller.placement.resources import Need

Profile = tuple[object, ...]
"""All of a runtime that eligibility depends on, but its name: runtimes of one profile may run the same tasks."""


def profile_of(info: RuntimeInfo) -> Profile:
    return (
        tuple(sorted(info.serves)),
        tuple(sorted(info.labels.items())),
        info.by_value,
        info.slots,
        info.cpu,
        info.memory,
        len(info.gpus),
        tuple(sorted(info.custom.items())),
    )


def patterns_in(serves: Iterable[str]) -> set[str]:
    """Those entries of ``serves`` that look at the target: "call:module.*", "model:name"."""
    return {entry for entry in serves if ":" in entry}


def matching(patterns: Iterable[str], kind: str, target: str) -> frozenset[str]:
    """The patterns that a target of that kind fulfils."""
    prefix = kind + ":"
    return frozenset(
        entry for entry in patterns if entry.startswith(prefix) and fnmatchcase(target, entry[len(prefix) :])
    )


class Demand:
    """Where tasks may run: what is the same for all of them in one lane. Interned by ``key``."""

    __slots__ = ("by_value", "key", "kind", "labels", "leased_ahead", "matched", "need", "runtime")

    def __init__(self, options: Options, matched: frozenset[str], need: Need) -> None:
        self.kind = options.kind
        self.by_value = options.by_value
        self.labels = dict(options.requirements.labels)
        self.runtime = options.requirements.runtime
        self.leased_ahead = need.plain and is_leased_ahead(options)
        """It names an edge, which is to have it before the link breaks, and not when a slot is free. What needs more than slots
        is given only when that is free, and costs no decision before."""
        self.matched = matched
        self.need = need
        self.key = demand_key(options, matched, need)

    def refusals(self, info: RuntimeInfo) -> list[str]:
        """Why that runtime is no candidate, one text for each reason; empty: it is one."""
        found: list[str] = []
        if self.runtime and self.runtime != info.name:
            found.append(f"runtime = {self.runtime}")
        if not self._served(info):
            found.append(f"it does not serve {self.kind.value}s" + (" of that name" if info.serves else ""))
        if self.by_value and not info.by_value:
            found.append("it does not run code sent by value")
        found += [
            f"label {name} = {value} (it has {info.labels.get(name, 'none')})"
            for name, value in self.labels.items()
            if info.labels.get(name) != value
        ]
        return found + self.need.missing_from(info)

    def _served(self, info: RuntimeInfo) -> bool:
        if not info.serves:
            return self.kind is not Kind.MODEL
        return self.kind.value in info.serves or any(entry in self.matched for entry in info.serves)


def is_leased_ahead(options: Options) -> bool:
    """Whether a runtime that is an edge gets such a task though it has no free slot."""
    return options.offline > 0.0 and bool(options.requirements.runtime)


def demand_key(options: Options, matched: frozenset[str], need: Need) -> tuple[object, ...]:
    requirements = options.requirements
    labels = tuple(sorted(requirements.labels.items())) if requirements.labels else ()
    return (options.kind, options.by_value, labels, requirements.runtime, is_leased_ahead(options), matched, need.key)
