"""Delivery against a model: whatever is cut, killed, repeated or lost, every end that was on disk arrives, once, in order."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "edge"))

from edge_world import MemoryLedger, delivery, end, line, task_id

from headway_bus.handover import Batch
from headway_bus.ids import AttemptKey, digest_of
from headway_edge.delivery import LinkSettings
from headway_edge.ledger import StoredAttempt
from headway_runtime.reports import Sent


class DeliveryMachine(RuleBasedStateMachine):
    """An agent with its spool, a link, and a controller that keeps a list of what it was told."""

    @initialize(window=st.integers(300, 5_000), budget=st.integers(200, 3_000), gather=st.sampled_from([0.0, 0.5]))
    def begin(self, window: int, budget: int, gather: float) -> None:
        self.link = LinkSettings(gather=gather, window=window, output_budget=budget, retry=30.0)
        self.ledger = MemoryLedger()
        self.now = 100.0
        self.next_task = 1
        self.sequence = 0
        self.held: list[AttemptKey] = []
        self.ended: list[AttemptKey] = []
        """In the order in which they ended; of those that a crash took back, none."""
        self.accepted: list[AttemptKey] = []
        self.view: set[AttemptKey] = set()
        """What the controller takes to be held."""
        self.on_the_way: list[Batch[Sent]] = []
        self.unsettled: list[int] = []
        self.is_up = False
        self._start()

    def _start(self) -> None:
        self.told = delivery(self.ledger, self.link)
        for stored in self.ledger.reports():
            self.told.restore(stored)
        self.held = [stored.key for stored in self.ledger.attempts()]
        for key in self.held:
            self.told.took(key)

    # ------------------------------------------------------------------------------------------ the agent

    @precondition(lambda self: self.is_up)
    @rule()
    def take_in(self) -> None:
        key = (task_id(self.next_task), 1)
        self.next_task += 1
        self.ledger.add_attempt(StoredAttempt(key, None, b""))  # type: ignore[arg-type]
        self.told.took(key)
        self.held.append(key)
        self.view.add(key)
        self.ledger.commit()

    @precondition(lambda self: self.held)
    @rule(size=st.integers(0, 900), which=st.integers(0, 5))
    def finish(self, size: int, which: int) -> None:
        key = self.held.pop(which % len(self.held))
        self.told.ended(end(int.from_bytes(key[0], "big")), bytes(size) if size else None, self.now)
        self.ended.append(key)

    @rule(length=st.integers(0, 400))
    def write_output(self, length: int) -> None:
        self.told.logs([line(999, self.sequence, "x" * length)])
        self.sequence += 1

    @rule(seconds=st.floats(0.0, 40.0))
    def wake_up(self, seconds: float) -> None:
        """What the agent does at every wake-up: write, commit, and only then send."""
        self.now += seconds
        if self.is_up:
            self.told.resend(self.now)
            sent = self.told.take(self.now)
        else:
            self.told.store(self.now)
            sent = []
        self.ledger.commit()
        self.on_the_way += sent

    @rule()
    def crash(self) -> None:
        self.on_the_way.clear()
        self.is_up = False
        self.ledger.crash()
        self._start()
        on_disk = {(record.task, record.attempt) for stored in self.ledger.reports() for record in stored.report.ended}
        known = on_disk | set(self.accepted)
        assert known <= set(self.ended)
        lost = [key for key in self.ended if key not in known]
        # The attempt is still there, and is lost or begun anew as its options say; here, it ends once more.
        assert set(lost) <= set(self.held), "an end was given up together with its attempt"
        self.ended = [key for key in self.ended if key in known]

    # ------------------------------------------------------------------------------------------ link and controller

    @precondition(lambda self: not self.is_up)
    @rule()
    def come_back(self) -> None:
        self.is_up = True
        self.view = set(self.held)
        # As the core does it: the register message names what is held and what has ended, then all is due again.
        announced = set(self.told.unsettled)
        self.told.resend(self.now, everything=True)
        self.ledger.commit()
        assert announced >= {key for key in self.ended if key not in self.accepted}

    @precondition(lambda self: self.is_up)
    @rule()
    def cut(self) -> None:
        self.is_up = False
        self.on_the_way.clear()

    @precondition(lambda self: self.on_the_way)
    @rule(count=st.integers(1, 3))
    def arrive(self, count: int) -> None:
        for batch in self.on_the_way[:count]:
            report = batch.content[0]
            for record in report.ended:
                key = (record.task, record.attempt)
                self.view.discard(key)
                if key not in self.accepted:  # fenced otherwise
                    self.accepted.append(key)
            self.unsettled.append(batch.number)
        del self.on_the_way[:count]

    @precondition(lambda self: self.unsettled)
    @rule(count=st.integers(1, 4))
    def settle(self, count: int) -> None:
        if self.is_up:
            self.told.settled(self.unsettled[:count])
        del self.unsettled[:count]

    # ------------------------------------------------------------------------------------------ what must hold

    @invariant()
    def every_end_is_somewhere(self) -> None:
        missing = {key for key in self.ended if key not in self.accepted}
        assert missing <= set(self.told.unsettled)

    @invariant()
    def ends_arrive_in_their_order(self) -> None:
        places = {key: place for place, key in enumerate(self.ended)}
        arrived = [places[key] for key in self.accepted if key in places]
        assert arrived == sorted(arrived)

    @invariant()
    def the_digest_is_that_of_what_the_controller_takes_to_be_held(self) -> None:
        if not self.is_up:
            return
        seen = set(self.view)
        for batch in self.on_the_way:  # a heartbeat behind them would arrive behind them
            seen -= {(record.task, record.attempt) for record in batch.content[0].ended}
        digest = 0
        for key in seen:
            digest ^= digest_of(*key)
        assert (self.told.held, self.told.digest) == (len(seen), digest)

    @invariant()
    def output_keeps_to_its_budget(self) -> None:
        on_disk = sum(entry.weight for entry in self.told.entries.values() if entry.logs and entry.sent is None)
        assert on_disk <= self.link.output_budget
        assert self.told.output_bytes == sum(entry.weight for entry in self.told.entries.values() if entry.logs)

    def teardown(self) -> None:
        """In the end everything arrives, and the spool is empty."""
        if not hasattr(self, "told"):
            return
        if not self.is_up:
            self.come_back()
        for _ in range(500):
            self.wake_up(60.0)
            if self.on_the_way:
                self.arrive(len(self.on_the_way))
            if self.unsettled:
                self.settle(len(self.unsettled))
            if self.told.is_empty:
                break
        assert self.told.is_empty and not self.ledger.now_reports
        assert set(self.accepted) == set(self.ended)


TestDeliveryMachine = DeliveryMachine.TestCase
TestDeliveryMachine.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
