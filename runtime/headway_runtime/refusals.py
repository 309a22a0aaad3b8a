"""What this runtime does not run, whoever assigned it. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from headway_bus.records import ErrorInfo, Kind, Options, Reason, RuntimeInfo
from headway_runtime.state import SLOT_ROUNDING


class Refusals:
    """:param models: names of the models that are served here."""

    def __init__(self, info: RuntimeInfo, models: frozenset[str] = frozenset()) -> None:
        self._info = info
        self._models = models

    def of(self, options: Options) -> ErrorInfo | None:
        """Why attempts with these options are refused; None: they are not."""
        needed, info = options.requirements.slots, self._info
        if needed > info.slots + SLOT_ROUNDING:
            return _refused(f"it needs {needed:g} slots; {info.name} has {info.slots:g}")
        if options.by_value and not info.by_value:
            return _refused(
                f"its code travels by value, and {info.name} does not run such code; start the runtime with --by-value "
                "if every client may run code on it, or submit the function by its import path"
            )
        if not self._serves(options):
            return _refused(f"{info.name} runs only: {', '.join(info.serves)}")
        if options.kind is Kind.MODEL and options.target not in self._models:
            served = ", ".join(sorted(self._models)) or "none"
            return _refused(f"{info.name} serves no model {options.target!r}; it serves: {served}")
        return None

    def _serves(self, options: Options) -> bool:
        """Whether what the runtime offers to run covers this. Models are looked up by name, whatever is offered."""
        offers = self._info.serves
        if not offers or options.kind is Kind.MODEL or options.kind in offers:
            return True
        what = f"{options.kind}:{options.target}"
        return any(fnmatchcase(what, offer) for offer in offers)


def _refused(text: str) -> ErrorInfo:
    return ErrorInfo(Reason.REFUSED, text)
