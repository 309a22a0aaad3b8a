"""What a model says of its parameters, and the check of values that somebody gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headway_trainer.errors import TrainerError, UnknownName

Kind = Literal["int", "float", "choice"]


@dataclass(frozen=True)
class Parameter:
    """One parameter. ``low`` and ``high`` bound values of people; ``search`` is the range when none is given."""

    name: str
    kind: Kind
    default: Any
    intro: str
    low: float = -math.inf
    high: float = math.inf
    search: tuple[float, float] | None = None
    choices: tuple[Any, ...] = ()
    aliases: tuple[str, ...] = ()

    def checked(self, value: Any, place: str) -> Any:
        """``value`` in the parameter's type: 4.0 for an int is 4. Raises TrainerError naming ``place``."""
        if self.kind == "choice":
            if value not in self.choices:
                raise TrainerError(f"{place}: {value!r} is none of {', '.join(map(repr, self.choices))}")
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TrainerError(f"{place}: {value!r} is not a number; expected {self._expected()}")
        if self.kind == "int" and value != int(value):
            raise TrainerError(f"{place}: {value!r} is not whole; expected {self._expected()}")
        if not self.low <= value <= self.high:
            raise TrainerError(f"{place}: {value!r} is out of range; expected {self._expected()}")
        return int(value) if self.kind == "int" else float(value)

    def _expected(self) -> str:
        what = "a whole number" if self.kind == "int" else "a number"
        bounds = [f"at least {self.low:g}"] if self.low > -math.inf else []
        bounds += [f"at most {self.high:g}"] if self.high < math.inf else []
        return " ".join([what, " and ".join(bounds)]).strip()

    def described(self) -> dict[str, Any]:
        """Plain data for catalogues: label, intro, type, default value, and what is allowed."""
        bounds = {key: value for key, value in (("low", self.low), ("high", self.high)) if math.isfinite(value)}
        choice = {"choice": list(self.choices)} if self.choices else {}
        kind = "list" if self.kind == "choice" else self.kind
        return {"label": self.name, "intro": self.intro, "type": kind, "val": self.default, **bounds, **choice}


def find_parameter(parameters: Sequence[Parameter], name: str, place: str) -> Parameter:
    """The parameter of that name or alias. Raises UnknownName."""
    for parameter in parameters:
        if name == parameter.name or name in parameter.aliases:
            return parameter
    raise UnknownName(place, "parameter", name, [parameter.name for parameter in parameters])


def complete(parameters: Sequence[Parameter], given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """All parameters: those given, checked, and the defaults of the others."""
    values = {parameter.name: parameter.default for parameter in parameters}
    seen: set[str] = set()
    for name, value in given.items():
        parameter = find_parameter(parameters, name, place)
        if parameter.name in seen:
            raise TrainerError(f"{place}: {parameter.name} is given twice, once as {name!r}")
        seen.add(parameter.name)
        values[parameter.name] = parameter.checked(value, f"{place}.{name}")
    return values
