"""How far a runtime that was told to leave has come. Pure."""

from __future__ import annotations


class Departure:
    """:param drain_seconds: for running attempts to end by themselves.
    :param settle_seconds: for the controller to confirm the last reports.
    """

    def __init__(self, drain_seconds: float, settle_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._settle_seconds = settle_seconds
        self._since: float | None = None
        self._settle_by: float | None = None
        self._stopped_rest = False
        self._has_gone = False

    @property
    def has_begun(self) -> bool:
        return self._since is not None

    def begin(self, now: float) -> None:
        self._since = now

    def is_patience_over(self, now: float) -> bool:
        """Whether what still runs must be stopped now. True once."""
        if self._since is None or self._stopped_rest or now - self._since < self._drain_seconds:
            return False
        self._stopped_rest = True
        return True

    def reason_to_go(self, is_all_settled: bool, unsettled: int, now: float) -> str:
        """Nothing runs any more: why to go now; empty: not yet, or it was said before."""
        if self._settle_by is None:
            self._settle_by = now + self._settle_seconds
        if self._has_gone or not (is_all_settled or now >= self._settle_by):
            return ""
        self._has_gone = True
        return f"{unsettled} ends were not confirmed in time" if unsettled else "drained"
