"""What the trainer raises. All are :class:`headway_bus.errors.HeadwayError`, so a program and the command line catch one.

::

    HeadwayError
      ConfigError
        TrainerError        what a person asked for cannot be done; the text names the place and what was expected
          UnknownName       a model, metric, distribution, engine or parameter that does not exist
          SeriesRefused     one series cannot be trained; the others go on
      StudyBusy             another program runs the study
      StudyCancelled        somebody has cancelled the study; what was found is kept, and it can be gone on with
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from headway_bus.errors import ConfigError, HeadwayError


class TrainerError(ConfigError):
    """What was asked for cannot be done. Nothing has been sent to the bus."""


class UnknownName(TrainerError):
    """A name that is in no registry. The text lists those that are."""

    def __init__(self, place: str, kind: str, name: object, known: Iterable[str]) -> None:
        names = sorted(set(known))
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        super().__init__(f"{place}: unknown {kind} {name!r}{hint} Known: {', '.join(names)}")


class SeriesRefused(TrainerError):
    """One series cannot be used; ``status`` is the word that its row in the results carries."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class StudyBusy(HeadwayError):
    """Another program runs the study: two would ask everything twice."""


class StudyCancelled(HeadwayError):
    """The study was cancelled from elsewhere, by ``headway study cancel``."""
