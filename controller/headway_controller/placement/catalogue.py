"""From options to what placement knows of such tasks, made once and found again by identity or by content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headway_bus.records import Options, RuntimeInfo
from headway_controller.estimates.meta import EMPTY, Cleaned, clean
from headway_controller.placement.eligibility import Demand, demand_key, matching, patterns_in
from headway_controller.placement.resources import Need, need_key
from headway_controller.placement.work import Work

if TYPE_CHECKING:
    from headway_controller.placement.work import Expected

MAX_REMEMBERED = 20_000
"""Options, kinds of work and targets kept at hand; beyond, they are made anew. What is queued or booked keeps its own."""


class Catalogue:
    """``prepare(target, meta, cleaned meta)`` makes the prediction of a kind of work."""

    def __init__(
        self, prepare: Callable[[str, Mapping[str, Any], Cleaned], Expected], fifo_queues: Iterable[str]
    ) -> None:
        self._prepare = prepare
        self.fifo_queues = frozenset(fifo_queues)
        self.all_fifo = False
        self._patterns: frozenset[str] = frozenset()
        self._matches: dict[tuple[str, str], frozenset[str]] = {}
        self._by_options: dict[int, tuple[Options, Work]] = {}
        self._works: dict[tuple[object, ...], Work] = {}
        self._needs: dict[tuple[object, ...], Need] = {}
        self._demands: dict[tuple[object, ...], Demand] = {}

    def work_of(self, options: Options) -> Work:
        found = self._by_options.get(id(options))
        if found is not None and found[0] is options:
            return found[1]
        work = self._find(options)
        if len(self._by_options) >= MAX_REMEMBERED:
            self._by_options.clear()
        self._by_options[id(options)] = (options, work)
        return work

    def _find(self, options: Options) -> Work:
        demand = self.demand_of(options)
        target = target_of(options)
        cleaned = clean(options.meta) if options.meta else EMPTY
        key = (demand, options.namespace, options.queue, options.priority, target, cleaned.words, cleaned.numbers)
        work = self._works.get(key)
        if work is None:
            if len(self._works) >= MAX_REMEMBERED:
                self._works.clear()
            prediction = self._prepare(target, options.meta, cleaned)
            line = options.queue if options.queue in self.fifo_queues else "" if self.all_fifo else None
            work = self._works[key] = Work(
                options, demand, target, prediction, line, None if cleaned.numbers else (target, cleaned.words)
            )
        return work

    def demand_of(self, options: Options) -> Demand:
        requirements = options.requirements
        matched = self._matched(options.kind.value, options.target)
        key = need_key(requirements)
        need = self._needs.get(key)
        if need is None:
            need = self._needs[key] = Need(requirements)
        full = demand_key(options, matched, need)
        demand = self._demands.get(full)
        if demand is None:
            demand = self._demands[full] = Demand(options, matched, need)
        return demand

    def works_of(self, target: str) -> list[Work]:
        """The kinds of work met of a target, with or without its kind before it."""
        return [work for work in self._works.values() if target in (work.target, work.target.partition(":")[2])]

    def _matched(self, kind: str, target: str) -> frozenset[str]:
        if not self._patterns:
            return self._patterns
        found = self._matches.get((kind, target))
        if found is None:
            if len(self._matches) >= MAX_REMEMBERED:
                self._matches.clear()
            found = self._matches[kind, target] = matching(self._patterns, kind, target)
        return found

    def learn_patterns(self, info: RuntimeInfo) -> bool:
        """Whether the runtime serves by a pattern never met before: waiting tasks may then belong elsewhere."""
        new = patterns_in(info.serves) - self._patterns
        if new:
            self._patterns |= new
            self.forget()
        return bool(new)

    def forget(self) -> None:
        """Make everything anew when it is asked for: patterns or the predictor have changed."""
        self._matches.clear()
        self._by_options.clear()
        self._works.clear()


def target_of(options: Options) -> str:
    """What run times are learned under."""
    return f"{options.kind.value}:{options.target}"
