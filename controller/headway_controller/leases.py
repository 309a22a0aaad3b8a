"""What becomes of an edge's attempts while it cannot be heard. Pure.

Any runtime that is silent for too long is lost, with all that it holds. An edge that is silent is *away*: attempts of tasks
without an offline allowance are lost as everywhere, and those with one stay leased to it until their allowance, counted from
its last word, is used up. docs/edge.md has the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_controller.copies import is_copy
from headway_controller.state import AWAY, Assignment, ControllerState, Runtime, is_leasable, is_present
from headway_controller.turn import Turn

if TYPE_CHECKING:
    from headway_controller.fleet import Fleet


class Leases:
    """The attempts of edges that are away."""

    def __init__(self, state: ControllerState, turn: Turn, fleet: Fleet) -> None:
        self._state = state
        self._turn = turn
        self._fleet = fleet

    def until(self, runtime: Runtime, key: AttemptKey) -> float:
        """Until when the runtime, which is silent, keeps this attempt."""
        task = self._state.tasks.get(key[0])
        if task is None or not is_leasable(task, runtime):
            return 0.0
        if not (is_present(task, runtime.info.name, key[1]) or is_copy(task, runtime.info.name, key[1])):
            return 0.0
        return runtime.seen + task.options.offline

    def on_silent(self, runtime: Runtime, why: str, now: float) -> bool:
        """The runtime was silent for too long. False: nothing that it has is leased for longer."""
        kept = {key for key in (*runtime.held, *runtime.ending) if self.until(runtime, key) > now}
        if not kept:
            return False
        self._turn.note("warning", "edge away", runtime=runtime.info.name, reason=why, leased=len(kept))
        self._fleet.roster += 1
        runtime.state, runtime.since, runtime.why, runtime.running = AWAY, now, why, 0
        self._fleet.tell_runtime(runtime, "offline", now)
        self._fleet.scheduler.drain(runtime.info.name, True)
        self._drop_all_but(runtime, kept, why, now)
        return True

    def on_time(self, runtime: Runtime, now: float) -> bool:
        """Time has passed for one that is away. False: no lease of it is left."""
        kept = {key for key in (*runtime.held, *runtime.ending) if self.until(runtime, key) > now}
        if len(kept) < len(runtime.held) + len(runtime.ending):
            self._drop_all_but(runtime, kept, "its offline allowance is used up", now)
        return bool(kept)

    def _drop_all_but(self, runtime: Runtime, kept: set[AttemptKey], why: str, now: float) -> None:
        lost = [key for key in (*runtime.held, *runtime.ending) if key not in kept]
        for batch in runtime.outbox.contents:
            _keep_only(batch, kept)
        for key in lost:
            if runtime.held.pop(key, True) is None:
                runtime.digest ^= digest_of(*key)
            runtime.ending.pop(key, None)
            self._fleet.lose_attempt(runtime.info.name, *key, f"{runtime.info.name}: {why}", now)


def _keep_only(batch: Assignment, kept: set[AttemptKey]) -> None:
    """Of an assignment that may not have arrived: what is lost must not be begun when it arrives after all."""
    if kept.issuperset(batch.attempts):
        return
    batch.attempts = [key for key in batch.attempts if key in kept]
    batch.digest = 0
    for key in batch.attempts:
        batch.digest ^= digest_of(*key)
    for group in batch.groups:
        gpus = group.gpus
        places = [place for place, (task, number, _) in enumerate(group.attempts) if (TaskId(task), number) in kept]
        attempts = [group.attempts[place] for place in places]
        group.attempts[:] = attempts
        gpus[:] = [gpus[place] for place in places if place < len(gpus)]
