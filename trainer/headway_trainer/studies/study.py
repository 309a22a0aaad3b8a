"""A study: which trials there are, what was found, and which one is next. It runs nothing itself.

A study is what it has been told, in order. Its log holds exactly that, so a study that is read again goes on as if
nothing had happened: trials that were asked and never told are asked first, with the same numbers and values.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.studies.engines import make_engine, seed_of
from headway_trainer.studies.log import StudyLog, read_log
from headway_trainer.studies.notation import parse_space
from headway_trainer.studies.space import Raw, Space, Values

FORMAT = 1
PENDING, DONE, FAILED, PRUNED = "pending", "done", "failed", "pruned"
STATUSES = (DONE, FAILED, PRUNED)
MODES = ("async", "batch")


@dataclass
class Trial:
    """One point and what came of it. ``result``: whatever else the teller wants kept, as plain data."""

    number: int
    values: Values
    raw: Raw
    status: str = PENDING
    loss: float | None = None
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)


class Study:
    """Ask for a trial, tell its loss, lower is better.

    ``mode="batch"`` suggests ``batch`` trials at a time from the results of all batches before, and from no other, so the
    trials are the same whatever the number and the order of those who run them. ``async`` uses every result at once.
    """

    def __init__(
        self,
        space: Any,
        *,
        engine: str = "hyperopt",
        trials: int = 100,
        seed: int = 0,
        series: str = "",
        mode: str = "async",
        batch: int = 8,
        path: Path | None = None,
    ) -> None:
        if trials < 1 or batch < 1 or seed < 0:
            raise TrainerError(f"study: trials {trials}, batch {batch}, seed {seed}; expected at least 1, 1 and 0")
        if mode not in MODES:
            raise UnknownName("study", "mode", mode, MODES)
        self.space: Space = parse_space(space)
        size = self.space.size
        self.limit = trials if size is None else min(trials, size)
        self.mode, self.batch, self.seed, self.series, self.engine = mode, batch, seed, series, engine
        self.trials: list[Trial] = []
        self._engine = make_engine(engine, self.space, trials)
        self._ready: deque[Trial] = deque()
        self._settings = {"engine": engine, "trials": trials, "seed": seed, "series": series, "mode": mode}
        self._log: StudyLog | None = None
        if path is not None:
            if path.exists() and path.stat().st_size:
                raise TrainerError(f"{path}: a study is there already; Study.load goes on with it")
            self._log = StudyLog(path)
            self._write(self._header())

    def ask(self) -> Trial | None:
        """The next trial; None if there is none now, because all are given out or a batch is not complete."""
        if not self._ready:
            self._suggest()
        return self._ready.popleft() if self._ready else None

    def tell(
        self,
        number: int,
        loss: float | None = None,
        *,
        status: str = "",
        reason: str = "",
        result: dict[str, Any] | None = None,
    ) -> None:
        """What came of a trial. Without a finite loss it has failed; a failed trial ends no search.

        A trial that was told before keeps what it has: a repeated message changes nothing. Raises TrainerError for a
        number that was never asked.
        """
        trial = self._trial(number)
        if trial.status != PENDING:
            return
        known = loss is not None and math.isfinite(loss)
        chosen = status or (DONE if known else FAILED)
        if chosen not in STATUSES or (chosen == DONE and not known):
            raise TrainerError(f"trial {number}: status {chosen!r} with loss {loss}; expected one of {STATUSES}")
        if not known and not reason and chosen == FAILED:
            reason = "it gave no loss" if loss is None else f"its loss is {loss}"
        record = {
            "tell": number,
            "status": chosen,
            "loss": float(loss) if known and loss is not None else None,
            "reason": reason,
            "result": result or {},
        }
        self._write(record)
        self._told(record)

    def lost(self, number: int) -> None:
        """The trial's runtime is gone: it is asked again, with the same number and values."""
        trial = self._trial(number)
        if trial.status == PENDING and trial not in self._ready:
            self._ready.appendleft(trial)

    @property
    def done(self) -> bool:
        """Whether every trial has been told."""
        return len(self.trials) >= self.limit and not self.pending

    @property
    def pending(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.status == PENDING]

    @property
    def best(self) -> Trial | None:
        """The least loss; of equal ones the first asked, whatever the order in which they were told."""
        known = [trial for trial in self.trials if trial.status == DONE and trial.loss is not None]
        return min(known, key=lambda trial: (trial.loss, trial.number), default=None)

    def state(self) -> list[dict[str, Any]]:
        """All of the study as plain data, in the form of its log; :meth:`load` takes it."""
        records = [self._header()]
        records += [{"ask": trial.number, "raw": trial.raw} for trial in self.trials]
        for trial in self.trials:
            if trial.status != PENDING:
                told = {"tell": trial.number, "status": trial.status, "loss": trial.loss}
                records.append({**told, "reason": trial.reason, "result": trial.result})
        return records

    @classmethod
    def load(cls, source: Path | str | Sequence[dict[str, Any]]) -> Self:
        """Go on with a study, from the path of its log (which is appended to) or from its :meth:`state`."""
        path = Path(source) if isinstance(source, (str, Path)) else None
        records = read_log(Path(source)) if isinstance(source, (str, Path)) else list(source)
        place = str(path or "state")
        if not records or records[0].get("study") != FORMAT:
            raise TrainerError(f"{place}: not a study of format {FORMAT}")
        settings = {key: value for key, value in records[0].items() if key != "study"}
        study = cls(**settings)
        for record in records[1:]:
            study._replay(record, place)
        study._ready.extend(study.pending)
        if path is not None:
            study._log = StudyLog(path)
        if study.mode == "batch" and len(study.trials) % study.batch:
            study._suggest()  # a batch that a kill cut short: completed now, before any of its results can be told
        return study

    def close(self) -> None:
        """Close the log. The study stays readable."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _header(self) -> dict[str, Any]:
        return {"study": FORMAT, "space": self.space.plain(), **self._settings, "batch": self.batch}

    def _write(self, record: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.append(record)

    def _trial(self, number: int) -> Trial:
        if not 0 <= number < len(self.trials):
            raise TrainerError(f"trial {number}: it was never asked; there are {len(self.trials)}")
        return self.trials[number]

    def _suggest(self) -> None:
        left = self.limit - len(self.trials)
        if self.mode == "batch":
            begun = len(self.trials) % self.batch
            if self.pending and not begun:
                return
            left = min(left, self.batch - begun)
        else:
            left = min(left, 1)
        for number in range(len(self.trials), len(self.trials) + left):
            raw = self._engine.suggest(number, seed_of(self.seed, self.series, number))
            self._write({"ask": number, "raw": raw})
            trial = Trial(number, self.space.values(raw), raw)
            self.trials.append(trial)
            self._ready.append(trial)

    def _told(self, record: dict[str, Any]) -> None:
        trial = self._trial(record["tell"])
        trial.status, trial.loss = record["status"], record["loss"]
        trial.reason, trial.result = record["reason"], record["result"]
        self._engine.tell(trial.number, trial.loss if trial.status != FAILED else None)

    def _replay(self, record: dict[str, Any], place: str) -> None:
        if "ask" in record and record["ask"] == len(self.trials):
            raw = dict(record["raw"])
            self._engine.restore(record["ask"], raw)
            self.trials.append(Trial(record["ask"], self.space.values(raw), raw))
        elif "tell" in record:
            self._told(record)
        else:
            raise TrainerError(f"{place}: {record} does not follow from what stands before it")
