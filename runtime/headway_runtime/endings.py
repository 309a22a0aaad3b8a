"""How attempts end before they would by themselves: orders, patience, KILL; and the one way out for all of them. Pure."""

from __future__ import annotations

import heapq
import signal
from itertools import count

from msgspec.structs import replace

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.records import AttemptEnd, Ended, ErrorInfo, Reason
from headway_runtime.effects import Effect, EndChild, EndCommand
from headway_runtime.pool import recall
from headway_runtime.reports import Reporter
from headway_runtime.state import LEFTOVER_GRACE, NOT_BEGUN, Attempt, Order, Phase

Alarm = tuple[float, int, str, AttemptKey]
"""When, a tie-breaker, "run" (its time is up) or "kill" (patience is up), which attempt."""


class Endings:
    """Works on the core's own table of attempts, and takes from it what is over."""

    def __init__(self, attempts: dict[AttemptKey, Attempt], reporter: Reporter) -> None:
        self._attempts = attempts
        self._reporter = reporter
        self._alarms: list[Alarm] = []
        self._ties = count()

    @property
    def next_alarm(self) -> float | None:
        return self._alarms[0][0] if self._alarms else None

    def order(
        self, attempt: Attempt, end: AttemptEnd, error: ErrorInfo | None, grace: float, now: float
    ) -> list[Effect]:
        """Let the attempt end like this: at once if it has not begun, otherwise by TERM, patience, KILL.

        ``grace``: seconds of patience; below 0: as its options say.
        """
        if attempt.phase in NOT_BEGUN:
            self.finish(attempt, ended(attempt, end, error), None, now)
            return []
        if attempt.order is not None or attempt.outcome is not None:
            return []  # it is being ended already
        patience = grace if grace >= 0 else attempt.spec.options.grace
        attempt.order = Order(end, error, now + patience)
        self.set_alarm(attempt.order.kill_at, "kill", attempt)
        if attempt.phase is Phase.RUNNING:
            return [EndCommand(attempt.key, signal.SIGTERM)]
        # It may have begun or not, and only the child knows: its answer says which.
        return [recall(attempt.child, now)] if attempt.child is not None else []

    def finish(self, attempt: Attempt, record: Ended, frame: Frame | None, now: float) -> None:
        """The attempt is over, and nothing of it runs any more."""
        order = attempt.order
        if order is not None and record.end is not AttemptEnd.SUCCEEDED:
            record = replace(record, end=order.end, error=order.error, result=b"", files=[])
            frame = None
        attempt.phase = Phase.OVER
        del self._attempts[attempt.key]
        self._reporter.ended(record, frame, now)

    def set_alarm(self, at: float, kind: str, attempt: Attempt) -> None:
        """Look at the attempt again at that time: "run", whether it still runs; "kill", whether it is still there."""
        heapq.heappush(self._alarms, (at, next(self._ties), kind, attempt.key))

    def ring(self, now: float) -> list[Effect]:
        """What the alarms that are due ask for."""
        effects: list[Effect] = []
        while self._alarms and self._alarms[0][0] <= now:
            _, _, kind, key = heapq.heappop(self._alarms)
            attempt = self._attempts.get(key)
            if attempt is None:
                continue
            if kind == "kill":
                effects += self._kill(attempt, now)
            elif attempt.phase is Phase.RUNNING or (attempt.child is not None and attempt.child.head() is attempt):
                limit = attempt.spec.options.timeout_run
                error = ErrorInfo(Reason.TIMEOUT_RUN, f"it ran for longer than its limit of {limit:g} s")
                effects += self.order(attempt, AttemptEnd.FAILED, error, -1.0, now)
        return effects

    def _kill(self, attempt: Attempt, now: float) -> list[Effect]:
        if attempt.phase is Phase.RUNNING:
            return [EndCommand(attempt.key, signal.SIGKILL)]
        child = attempt.child
        if child is None:
            return []
        if child.head() is attempt:
            child.ending = True
            return [EndChild(child.number, signal.SIGKILL)]
        # Behind one that keeps the whole child busy, which is not to blame for this: it waits for the child's answer.
        self.set_alarm(now + LEFTOVER_GRACE, "kill", attempt)
        return [recall(child, now)]


def ended(attempt: Attempt, end: AttemptEnd, error: ErrorInfo | None = None, seconds: float = 0.0) -> Ended:
    """The record of an end that only the runtime knows of."""
    return Ended(attempt.key[0], attempt.key[1], end, seconds, b"", error)
