"""What a trial runs: a function that runtimes import, a command, or a script of the user's own.

A process has no value to return. It says its loss with ``headway.metric("loss", …)``, of which the last counts, or
prints it: its last line is a number, or JSON with ``loss``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway_bus.records import LogRecord
from headway_trainer.errors import TrainerError
from headway_trainer.studies.study import Trial

if TYPE_CHECKING:
    from headway import Bus, Task

LOSS = "loss"


@dataclass(frozen=True)
class Command:
    """A line for the shell. ``{rate}`` in it becomes the trial's rate, quoted; the program may also ask ``headway.params()``.

    ``env`` is added to its environment; ``cwd``: the folder on the runtime in which it runs.
    """

    line: str
    env: Mapping[str, str] | None = None
    cwd: str | None = None

    is_process = True

    async def submit(self, bus: Bus, trial: Trial) -> Task:
        return await bus.command(self.line, params=trial.values, env=self.env, cwd=self.cwd)

    def plain(self) -> dict[str, Any]:
        return {"command": self.line, "env": dict(self.env or {}), "cwd": self.cwd}


@dataclass(frozen=True)
class Script:
    """A Python script of this machine, uploaded with its files. It gets the values as ``--name value``, after ``args``.

    ``files``: paths that lie beside it in its folder on the runtime.
    """

    path: str | Path
    args: Sequence[str] = ()
    files: Sequence[str | Path] = ()
    env: Mapping[str, str] | None = None

    is_process = True

    async def submit(self, bus: Bus, trial: Trial) -> Task:
        args = [*self.args, *(word for name, value in trial.values.items() for word in (f"--{name}", _word(value)))]
        return await bus.script(self.path, args, files=list(self.files), params=trial.values, env=self.env)

    def plain(self) -> dict[str, Any]:
        files = [str(Path(one).resolve()) for one in self.files]
        env = dict(self.env or {})
        return {"script": str(Path(self.path).resolve()), "args": list(self.args), "files": files, "env": env}


@dataclass(frozen=True)
class Call:
    """A function, or the path of one, that takes the values as keywords and returns a loss or a dict with ``loss``."""

    target: str | Callable[..., Any]

    is_process = False

    async def submit(self, bus: Bus, trial: Trial) -> Task:
        return await bus.submit(self.target, **trial.values)

    def plain(self) -> dict[str, Any]:
        from headway.targets import name_of

        return {"call": name_of(self.target)}


Objective = Call | Command | Script


def objective_of(given: Any) -> Objective:
    """What a user gave as an objective. Raises TrainerError for what is none, before any task is sent."""
    if isinstance(given, (Call, Command, Script)):
        found: Objective = given
    elif isinstance(given, str) or callable(given):
        found = Call(given)
    else:
        raise TrainerError(f"objective: {given!r}; expected 'package.module:function', a function, Command or Script")
    if isinstance(found, Script) and not Path(found.path).is_file():
        raise TrainerError(f"objective: there is no script {found.path}")
    if isinstance(found, Call):
        from headway.targets import target_of

        if isinstance(found.target, str):
            try:
                target_of(found.target)
            except ValueError as error:
                raise TrainerError(f"objective: {error}. A line for the shell is headway_trainer.Command(…)") from None
    return found


def objective_from(plain: Mapping[str, Any], place: str) -> Objective:
    """The objective that a study's log names."""
    given = dict(plain)
    if "call" in given:
        return objective_of(given["call"])
    if "command" in given:
        return Command(given["command"], given.get("env") or None, given.get("cwd"))
    if "script" in given:
        return objective_of(
            Script(given["script"], tuple(given.get("args", ())), tuple(given.get("files", ())), given.get("env"))
        )
    raise TrainerError(f"{place}: it does not say what its trials run; go on with it from the program that began it")


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass
class Said:
    """What a trial's task has said so far, of its present attempt."""

    metrics: dict[str, float] = field(default_factory=dict)
    line: str = ""

    def hear(self, record: LogRecord) -> None:
        if record.stream == "metric":
            value = record.fields.get("value")
            if isinstance(value, (int, float)):
                self.metrics[record.text] = float(value)
        elif record.stream == "stdout" and record.text.strip():
            self.line = record.text.strip()

    def value(self, metric: str) -> Any:
        """As a function would have returned it; see :func:`headway_trainer.running.searching.told`."""
        kept = {name: one for name, one in self.metrics.items() if math.isfinite(one)}
        if metric in self.metrics:
            return {"metrics": kept, LOSS: self.metrics[metric]}
        try:
            printed = json.loads(self.line)
        except ValueError:
            printed = None
        if isinstance(printed, Mapping) and LOSS in printed:
            return {"metrics": kept, **printed}
        if isinstance(printed, (int, float)) and not isinstance(printed, bool):
            return {"metrics": kept, LOSS: float(printed)}
        last = f"its last line is {self.line[:200]!r}" if self.line else "it printed nothing"
        wanted = f"expected headway.metric({metric!r}, …), or a number or JSON with 'loss' as its last line"
        return {LOSS: None, "reason": f"the program gave no loss: {last}; {wanted}"}
