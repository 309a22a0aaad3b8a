"""headway's trainer: hyper-parameter search and forecasts of many series, as tasks on the bus.

::

    study = await headway_trainer.search(bus, "package.module:objective", {"rate": {"low": 0.001, "high": 1, "log": True}})
    results = await headway_trainer.train(bus, {"path": "sales.csv", "group": ["sku"], "time": "date", "target": "y"})

docs/trainer.md has the rest. Everything is imported when it is first used: a runtime that runs trials pays for numpy only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway_trainer.document import AsyncResult
    from headway_trainer.errors import StudyCancelled, TrainerError
    from headway_trainer.jobs import cancel, commit_job_func, get_result_func, get_status, get_status_or_result, push
    from headway_trainer.models.base import Model
    from headway_trainer.models.files import load_model, save_model
    from headway_trainer.models.registry import model
    from headway_trainer.running.job import Job
    from headway_trainer.running.objectives import Command, Script
    from headway_trainer.running.searching import resume, search
    from headway_trainer.running.training import train
    from headway_trainer.series import read_series
    from headway_trainer.studies.study import Study

_HOME_OF = {
    "AsyncResult": "headway_trainer.document",
    **dict.fromkeys(
        ("cancel", "commit_job_func", "get_result_func", "get_status", "get_status_or_result", "push"),
        "headway_trainer.jobs",
    ),
    "Command": "headway_trainer.running.objectives",
    "Job": "headway_trainer.running.job",
    "Model": "headway_trainer.models.base",
    "load_model": "headway_trainer.models.files",
    "save_model": "headway_trainer.models.files",
    "Script": "headway_trainer.running.objectives",
    "Study": "headway_trainer.studies.study",
    "StudyCancelled": "headway_trainer.errors",
    "TrainerError": "headway_trainer.errors",
    "model": "headway_trainer.models.registry",
    "read_series": "headway_trainer.series",
    "resume": "headway_trainer.running.searching",
    "search": "headway_trainer.running.searching",
    "train": "headway_trainer.running.training",
}

__all__ = [
    "AsyncResult",
    "Command",
    "Job",
    "Model",
    "Script",
    "Study",
    "StudyCancelled",
    "TrainerError",
    "cancel",
    "commit_job_func",
    "get_result_func",
    "get_status",
    "get_status_or_result",
    "load_model",
    "model",
    "push",
    "read_series",
    "resume",
    "save_model",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'headway_trainer' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found
