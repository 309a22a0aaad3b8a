"""The search for parameters: spaces, engines, and the study that asks and is told.

::

    space      the normal form of a space
    notation   every way in which people write one, into the normal form
    engines    random, grid
    tpe        hyperopt's tree of Parzen estimators by ask and tell
    optuna_engine  optuna's, the same way
    pruning    which trials are stopped early
    log        the append-only file of a study
    study      ask, tell, report, state, load
"""

from __future__ import annotations

from headway_trainer.studies.notation import parse_space
from headway_trainer.studies.space import Space
from headway_trainer.studies.study import Study, Trial

__all__ = ["Space", "Study", "Trial", "parse_space"]
