"""hyperopt's tree of Parzen estimators, by ask and tell.

``fmin`` is not used: it sleeps a second between looks at asynchronous trials, does not bound how many are in flight, and
returns indexes where values are expected. Its parts are sound: a ``Domain`` of the space, ``Trials`` of plain documents,
and ``tpe.suggest``. Pending trials stand in the documents without a loss, which counts as infinitely bad: suggestions
keep away from what is being tried already.
"""

from __future__ import annotations

import math
from typing import Any

from headway_trainer.errors import TrainerError
from headway_trainer.studies.space import HALF, Choice, Dimension, Fixed, Normal, Range, Raw, Space, inner_path

try:
    from hyperopt import hp, tpe
    from hyperopt.base import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Domain, Trials
except ModuleNotFoundError as missing:
    raise TrainerError(f"engine hyperopt needs {missing.name}: pip install 'headway[trainer]'") from None


class TpeEngine:
    """The engine ``hyperopt``."""

    def __init__(self, space: Space) -> None:
        self._domain = Domain(_no_objective, _expression(space, ""))
        self._trials = Trials()
        self._documents: dict[int, dict[str, Any]] = {}

    def suggest(self, number: int, seed: int) -> Raw:
        [document] = tpe.suggest([number], self._domain, self._trials, seed, verbose=False)
        self._insert(number, document)
        # Indexes stay ints, so that a restored study gives hyperopt the same numbers in the same types.
        return {label: values[0].item() for label, values in document["misc"]["vals"].items() if len(values)}

    def restore(self, number: int, raw: Raw) -> None:
        values = {label: [raw[label]] if label in raw else [] for label in self._domain.params}
        misc = {
            "tid": number,
            "cmd": self._domain.cmd,
            "workdir": self._domain.workdir,
            "idxs": {label: [number] if found else [] for label, found in values.items()},
            "vals": values,
        }
        [document] = self._trials.new_trial_docs([number], [None], [self._domain.new_result()], [misc])
        self._insert(number, document)

    def tell(self, number: int, loss: float | None) -> None:
        document = self._documents[number]
        document["state"] = JOB_STATE_DONE
        document["result"] = {"status": STATUS_FAIL} if loss is None else {"status": STATUS_OK, "loss": loss}

    def _insert(self, number: int, document: dict[str, Any]) -> None:
        self._trials.insert_trial_doc(document)
        self._trials.refresh()
        # insert_trial_doc may keep a copy; the one that suggest reads must be the one that tell writes.
        self._documents[number] = self._trials.trials[-1]


def _no_objective(_point: Any) -> float:
    raise TrainerError("the engine only suggests; trials are run on the bus")


def _expression(space: Space, path: str) -> dict[str, Any]:
    return {
        name: _label(dimension, path + name)
        for name, dimension in space.dimensions.items()
        if not isinstance(dimension, Fixed)
    }


def _label(dimension: Dimension, label: str) -> Any:
    if isinstance(dimension, Choice):
        spaces = [option.space for option in dimension.options]
        inner = [_expression(one, inner_path(label, at)) if one else at for at, one in enumerate(spaces)]
        return hp.choice(label, inner)
    if isinstance(dimension, Normal):
        return hp.normal(label, dimension.mean, dimension.deviation)
    if isinstance(dimension, Range):
        return _range(dimension, label)
    raise TrainerError(f"{label}: a fixed value is not searched")


def _range(dimension: Range, label: str) -> Any:
    low, high = dimension.low, dimension.high
    if dimension.step is not None:
        return hp.randint(label, dimension.count)
    if dimension.whole:
        # hp.uniformint halves the chance of both ends, because it rounds what it draws between them.
        low, high = low - HALF, high + HALF
        if dimension.log:
            return hp.qloguniform(label, math.log(low), math.log(high), 1)
        return hp.quniform(label, low, high, 1)
    return hp.loguniform(label, math.log(low), math.log(high)) if dimension.log else hp.uniform(label, low, high)
