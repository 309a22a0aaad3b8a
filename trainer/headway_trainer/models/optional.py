"""Libraries that only some models need: looked for when a job is checked, imported when a model is fitted."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from headway_trainer.errors import SeriesRefused, TrainerError
from headway_trainer.models.base import Model


class Borrowed(Model):
    """A model whose method is a library's. ``needs``: the package; ``extra``: what to install for it; ``home``: the module."""

    needs: ClassVar[str]
    extra: ClassVar[str]
    home: ClassVar[str]

    @classmethod
    def check(cls, place: str) -> None:
        """Raise TrainerError, with what to install, if the library is not there."""
        if importlib.util.find_spec(cls.needs) is None:
            raise TrainerError(f"{place}: {cls.name} needs {cls.needs}: pip install 'headway[{cls.extra}]'")

    @property
    def library(self) -> Any:
        """The module that has the method."""
        self.check("model")
        return importlib.import_module(self.home)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Within it a library's complaint about the numbers is the refusal of one series, and its warnings are quiet.

        The library is imported before, as statsmodels sets filters of its own then. Most warnings are of a slow convergence
        at points that a search tries; what counts is how they validate.
        """
        assert self.library
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield
        except (ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
            raise SeriesRefused("not-fitted", f"{self.name} cannot be fitted: {error}") from None
