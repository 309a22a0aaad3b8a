"""Strategies and predictors by name: those that are built in, and a user's own, found through entry points.

A package of the user's declares them as ``[project.entry-points."headway.strategies"]`` or ``"headway.predictors"``; each is
called without arguments and gives an object of the protocol (:class:`~headway_controller.placement.strategies.Placement`,
:class:`~headway_controller.estimates.predictor.Predictor`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from headway_controller.estimates import LearnedPredictor, LookupTablePredictor, Predictor, ServerTimeCostPredictor
from headway_controller.estimates.estimate import Estimate
from headway_controller.estimates.switch import DEFAULT as LEARNED
from headway_controller.placement import Scheduler
from headway_controller.placement.strategies import BUILT_IN

STRATEGIES = "headway.strategies"
PREDICTORS = "headway.predictors"
LOOKUP_TABLE, SERVER_TIME_COST = "lookup_table", "server_time_cost"
MAX_TABLE_BYTES = 256 * 1024 * 1024


class Behind:
    """The learned predictor, asked by another one that does not know an answer. It learns on its own, and only once."""

    def __init__(self, learned: LearnedPredictor) -> None:
        self._learned = learned

    def predict(self, target: str, meta: Mapping[str, Any], runtime: str) -> Estimate:
        return self._learned.predict(target, meta, runtime)

    def remaining(self, estimate: Estimate, age: float) -> Estimate:
        return self._learned.remaining(estimate, age)

    def observe(self, target: str, meta: Mapping[str, Any], runtime: str, seconds: float) -> None:
        """The learned predictor has been told already."""


def strategy_names() -> list[str]:
    """All that :func:`use_strategy` takes."""
    return sorted({*BUILT_IN, *_points(STRATEGIES)})


def predictor_names() -> list[str]:
    """All that :func:`use_predictor` takes."""
    return sorted({LEARNED, LOOKUP_TABLE, SERVER_TIME_COST, *_points(PREDICTORS)})


def use_strategy(scheduler: Scheduler, name: str) -> None:
    """From now on place by this strategy. Raises ValueError that says what was expected."""
    if name in BUILT_IN:
        scheduler.use_strategy(name)
        return
    point = _points(STRATEGIES).get(name)
    if point is None:
        raise ValueError(f"there is no strategy {name!r}; expected one of {', '.join(strategy_names())}")
    strategy = _made(point)
    if not callable(getattr(strategy, "choose", None)):
        raise ValueError(f"strategy {name!r} ({point.value}) has no method choose(task, candidates, now)")
    scheduler.use_strategy(name, strategy)


def use_predictor(scheduler: Scheduler, name: str, table: str = "") -> None:
    """From now on estimate by this predictor. ``table``: the file of the lookup table. Raises ValueError, as above."""
    behind = Behind(scheduler.predictor)
    predictor: Predictor
    if name in ("", LEARNED):
        scheduler.use_predictor(LEARNED)
        return
    if name == LOOKUP_TABLE:
        predictor = LookupTablePredictor(read_table(table), behind)
    elif name == SERVER_TIME_COST:
        predictor = ServerTimeCostPredictor(behind)
    else:
        point = _points(PREDICTORS).get(name)
        if point is None:
            raise ValueError(f"there is no predictor {name!r}; expected one of {', '.join(predictor_names())}")
        predictor = _made(point)
        lacking = [each for each in ("predict", "remaining", "observe") if not callable(getattr(predictor, each, None))]
        if lacking:
            raise ValueError(f"predictor {name!r} ({point.value}) has no method {', '.join(lacking)}")
    scheduler.use_predictor(name, predictor)


def read_table(path: str) -> list[Any]:
    """The records of a lookup table's file. Raises ValueError if it cannot be read or is none."""
    if not path:
        raise ValueError(
            "predictor 'lookup_table' needs a file: setting controller.lookup_table, or the argument table"
        )
    file = Path(path).expanduser()
    try:
        if file.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError(f"lookup table {file}: more than {MAX_TABLE_BYTES} bytes")
        records = json.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"lookup table {file}: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"lookup table {file}: not JSON: {error}") from None
    if not isinstance(records, list):
        raise ValueError(f"lookup table {file}: a list of records was expected, not {type(records).__name__}")
    return records


def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def _made(point: EntryPoint) -> Any:
    try:
        return point.load()()
    except Exception as error:  # a user's code; whatever it raises, the controller goes on with what it has
        raise ValueError(f"{point.name!r} ({point.value}) raised {type(error).__name__}: {error}") from error
