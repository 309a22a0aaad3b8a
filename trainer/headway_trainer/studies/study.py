"""A study: which trials there are, what was found, and which one is next. It runs nothing itself.

A study is what it has been told, in order. Its log holds exactly that, so a study that is read again goes on as if
nothing had happened: trials that were asked and never told are asked first, with the same numbers and values.

Its records: the settings; ``ask`` a number with its raw point; ``report`` a value that a trial has while it runs; ``again``:
what the trial has reported is void, it runs once more; ``lost``: so is its task; ``tell`` what came of it.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.studies.engines import make_engine, seed_of
from headway_trainer.studies.log import StudyLog, read_log
from headway_trainer.studies.notation import parse_space
from headway_trainer.studies.pruning import Rival, parse_pruning
from headway_trainer.studies.space import Raw, Space, Values

FORMAT = 1
PENDING, DONE, FAILED, PRUNED = "pending", "done", "failed", "pruned"
MODES = ("async", "batch")


@dataclass
class Trial:
    """One point and what came of it. ``result``: whatever else the teller wants kept, as plain data.

    ``reports``: values by step, of its present run. ``run``: how often it was lost. ``stopped_at``: the step at which it
    turned out to be a loser. ``means``: of the reports up to a step, as far as they were asked for since the trial ended.
    """

    number: int
    values: Values
    raw: Raw
    status: str = PENDING
    loss: float | None = None
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)
    run: int = 0
    stopped_at: int | None = None
    means: dict[int, float | None] = field(default_factory=dict, repr=False, compare=False)

    def start_again(self) -> None:
        self.reports.clear()
        self.means.clear()
        self.stopped_at = None


class Study:
    """Ask for a trial, tell its loss, lower is better.

    ``mode="batch"`` suggests ``batch`` trials at a time from the results of all batches before, and from no other, so the
    trials are the same whatever the number and the order of those who run them. ``async`` uses every result at once.

    ``pruning``: "median", "asha", or a dict with ``rule`` and its settings: which trials :meth:`report` finds to be losers.
    ``about``: plain data that is kept with the study for whoever runs it. ``id`` tells it from every other study.
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
        pruning: Any = None,
        about: dict[str, Any] | None = None,
        id: str = "",
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
        self.pruning = parse_pruning(pruning)
        self.about = about or {}
        self.id = id or uuid.uuid4().hex[:16]
        self.trials: list[Trial] = []
        self._engine = make_engine(engine, self.space, trials)
        self._ready: deque[Trial] = deque()
        self._settings = {"engine": engine, "trials": trials, "seed": seed, "series": series, "mode": mode}
        self._log: StudyLog | None = None
        if path is not None:
            self._log = StudyLog(path)  # first: only who has the lock knows what the file holds
            if path.stat().st_size:
                self.close()
                raise TrainerError(f"{path}: a study is there already; Study.load goes on with it")
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
        if trial.stopped_at is not None:
            loss, reason = trial.reports[trial.stopped_at], f"stopped at step {trial.stopped_at}"
        known = loss is not None and math.isfinite(loss)
        status = PRUNED if trial.stopped_at is not None else DONE if known else FAILED
        if not known and not reason:
            reason = "it gave no loss" if loss is None else f"its loss is {loss}"
        record = {
            "tell": number,
            "status": status,
            "loss": float(loss) if known and loss is not None else None,
            "reason": reason,
            "result": result or {},
        }
        self._write(record)
        self._told(record)

    def report(self, number: int, value: float, step: int | None = None) -> bool:
        """A value that the trial has while it runs; lower is better. Returns whether the trial is to be stopped.

        ``step`` counts what was done for it, such as epochs; None: how many values the trial has reported before. Once a
        trial is to be stopped it stays so, whatever it reports later, and even if it ends meanwhile.
        """
        trial = self._trial(number)
        if trial.status != PENDING or trial.stopped_at is not None:
            return trial.stopped_at is not None
        at = len(trial.reports) if step is None else step
        known = value if math.isfinite(value) else None
        self._write({"report": number, "step": at, "value": known})
        self._reported(trial, at, known)
        if self.pruning is not None and self.pruning.is_loser(trial.reports, at, self._rivals(trial)):
            trial.stopped_at = at
        return trial.stopped_at is not None

    def again(self, number: int) -> None:
        """The trial begins anew by itself, as when its task has another attempt: what it has reported is void."""
        trial = self._trial(number)
        if trial.status == PENDING and trial.reports:
            self._write({"again": number})
            trial.start_again()

    def lost(self, number: int) -> None:
        """The trial's task is gone: it is asked again, with the same number and values."""
        trial = self._trial(number)
        if trial.status == PENDING and trial not in self._ready:
            self._write({"lost": number})
            trial.start_again()
            trial.run += 1
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
            records += [{"lost": trial.number}] * trial.run
            records += [
                {"report": trial.number, "step": at, "value": value if math.isfinite(value) else None}
                for at, value in trial.reports.items()
            ]
            if trial.status != PENDING:
                told = {"tell": trial.number, "status": trial.status, "loss": trial.loss}
                records.append({**told, "reason": trial.reason, "result": trial.result})
        return records

    @classmethod
    def load(cls, source: Path | str | Sequence[dict[str, Any]]) -> Self:
        """Go on with a study, from the path of its log (which is appended to) or from its :meth:`state`."""
        if not isinstance(source, (str, Path)):
            return cls._from_records(source, "state", None)
        log = StudyLog(Path(source), new=False)
        try:
            return cls._from_records(read_log(log.path), str(log.path), log)
        except BaseException:
            log.close()
            raise

    @classmethod
    def _from_records(cls, records: Sequence[dict[str, Any]], place: str, log: StudyLog | None) -> Self:
        if not records or records[0].get("study") != FORMAT:
            raise TrainerError(f"{place}: not a study of format {FORMAT}")
        settings = {key: value for key, value in records[0].items() if key != "study"}
        study = cls(**settings)
        for record in records[1:]:
            study._replay(record, place)
        for trial in study.pending:  # its task goes on, or runs again: either way all its reports come once more
            trial.start_again()
        study._ready.extend(study.pending)
        study._log = log
        if study.mode == "batch" and len(study.trials) % study.batch:
            study._suggest()  # a batch that a kill cut short: completed now, before any of its results can be told
        return study

    def absorb(self, state: Sequence[dict[str, Any]]) -> None:
        """What this study has become elsewhere, as its :meth:`state` there: what is new of it is written to the log.

        Raises TrainerError for the state of another study.
        """
        place = f"study {self.id}, what came back"
        if not state or state[0].get("id") != self.id:
            raise TrainerError(f"{place}: it is another study's")
        known = Counter(map(_text, self.state()))
        for record in state[1:]:
            text = _text(record)
            if known[text]:
                known[text] -= 1
            elif "tell" not in record or self._trial(record["tell"]).status == PENDING:
                self._write(record)
                self._replay(record, place)
        self._ready = deque(self.pending)

    @property
    def path(self) -> Path | None:
        """The log's, while it is open."""
        return self._log.path if self._log is not None else None

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
        pruning = {"pruning": self.pruning.plain()} if self.pruning else {}
        about = {"about": self.about} if self.about else {}
        settings = {**self._settings, "batch": self.batch, **pruning, **about, "id": self.id}
        return {"study": FORMAT, "space": self.space.plain(), **settings}

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

    def _reported(self, trial: Trial, step: int, value: float | None) -> None:
        trial.reports[step] = math.inf if value is None else value

    def _rivals(self, trial: Trial) -> Iterator[Rival]:
        """Whom a trial is compared with: in batches only those of earlier ones, whose values do not depend on order."""
        batch = trial.number // self.batch
        for other in self.trials:
            if other is not trial and (self.mode != "batch" or other.number // self.batch < batch):
                yield Rival(other.reports, other.status == DONE, other.means)

    def _replay(self, record: dict[str, Any], place: str) -> None:
        if "ask" in record and record["ask"] == len(self.trials):
            raw = dict(record["raw"])
            self._engine.restore(record["ask"], raw)
            self.trials.append(Trial(record["ask"], self.space.values(raw), raw))
        elif "tell" in record:
            self._told(record)
        elif "report" in record:
            self._reported(self._trial(record["report"]), record["step"], record["value"])
        elif "again" in record or "lost" in record:
            trial = self._trial(record["lost" if "lost" in record else "again"])
            trial.start_again()
            trial.run += "lost" in record
        else:
            raise TrainerError(f"{place}: {record} does not follow from what stands before it")


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)
