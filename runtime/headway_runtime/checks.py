"""What must always hold of the core's books. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from headway_bus.ids import AttemptKey, digest_of
from headway_runtime.pool import Pool
from headway_runtime.reports import Reporter
from headway_runtime.state import Attempt, Phase

ROUNDING = 1e-6
_PLACES = {
    Phase.FETCHING: (False, False, False),
    Phase.READY: (False, True, False),
    Phase.SHELVED: (False, False, False),
    Phase.FED: (True, False, False),
    Phase.RUNNING: (False, False, True),
}
"""Where an attempt of a phase is: in a child, in the ready queue, among the commands that run."""


def validate(
    attempts: Mapping[AttemptKey, Attempt], running: Mapping[AttemptKey, Attempt], pool: Pool, reporter: Reporter
) -> None:
    """Raise AssertionError with what contradicts what."""
    occupied = sum(child.slots for child in pool.busy)
    occupied += sum(each.spec.options.requirements.slots for each in running.values())
    assert abs(pool.slots - occupied - pool.free) < ROUNDING, f"{occupied} occupied, {pool.free} free of {pool.slots}"
    assert pool.free > -ROUNDING, f"{-pool.free} slots too many are occupied"
    in_children = [key for child in pool.children.values() for key in child.queue]
    ready = [each.key for each in pool.ready if each.phase is Phase.READY]
    assert len(set(in_children)) == len(in_children), "an attempt is in two children"
    assert len(set(ready)) == len(ready), "an attempt is ready twice"
    for child in pool.busy:
        needs = {each.spec.options.requirements.slots for each in child.queue.values()}
        assert needs <= {child.slots}, f"a child occupies {child.slots} slots and holds attempts that need {needs}"
    fed, waiting = set(in_children), set(ready)
    assert fed | waiting | running.keys() <= attempts.keys(), "an attempt that is over is still somewhere"
    for key, attempt in attempts.items():
        places = (key in fed, key in waiting, key in running)
        if attempt.outcome is None:
            assert places == _PLACES[attempt.phase], f"{attempt} is in {places}"
        assert not reporter.is_unsettled(key), f"{attempt} is held and ended"
    _validate_digest(attempts, reporter)


def _validate_digest(attempts: Mapping[AttemptKey, Attempt], reporter: Reporter) -> None:
    digest = 0
    keys = [*attempts, *reporter.unreported]
    for key in keys:
        digest ^= digest_of(*key)
    assert reporter.held == len(keys), f"{reporter.held} counted as held, {len(keys)} are"
    assert reporter.digest == digest, "the digest is not that of what is held"
