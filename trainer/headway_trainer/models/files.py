"""A fitted model in a folder: ``model.json`` with its name and parameters, ``state.npz`` with its arrays.

Never pickle: who opens a model of somebody else must not run what that person wrote.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headway_trainer.errors import TrainerError
from headway_trainer.models.base import Model
from headway_trainer.models.registry import make_model

FORMAT = 1
SETTINGS, STATE = "model.json", "state.npz"


def save_model(model: Model, folder: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a fitted model. A model of a user's own is named by its import path, so that it is found again.

    ``about``: plain data that is kept beside it, such as the series that it was fitted to.
    """
    if model.state is None:
        raise TrainerError(f"{model.name}: it has not been fitted, so there is nothing to save")
    kind = type(model)
    own = not kind.__module__.startswith("headway_trainer.")
    name = f"{kind.__module__}:{kind.__qualname__}" if own else kind.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / STATE).open("wb") as stream:
        arrays: dict[str, Any] = dict(model.state)
        np.savez(stream, **arrays)
    settings = {"format": FORMAT, "model": name, "params": model.params, **({"about": dict(about)} if about else {})}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_model(folder: Path) -> Model:
    """Read what :func:`save_model` wrote; it forecasts the same. Raises TrainerError for anything else."""
    settings = _settings(folder / SETTINGS)
    model = make_model(settings.get("model"), settings.get("params"), place=str(folder / SETTINGS))
    try:
        with np.load(folder / STATE, allow_pickle=False) as arrays:
            model.state = {name: np.asarray(arrays[name], dtype=np.float64) for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TrainerError(f"{folder / STATE}: not a model's arrays: {error}") from None
    return model


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainerError(f"{path}: {error}") from None
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise TrainerError(f"{path}: not a model of format {FORMAT}")
    return settings
