"""An edge agent around its real core: a runtime whose spool outlives it, and whose clock is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "edge"))  # the spool in memory is that of the unit tests

from edge_world import MemoryLedger

from headway_bus.records import RuntimeInfo
from headway_edge.bucket import Bucket
from headway_edge.core import EdgeCore
from headway_edge.delivery import LinkSettings
from headway_edge.lease import Heard, since_restart
from headway_runtime import effects as to_do
from headway_runtime.refusals import Refusals
from headway_runtime.state import Bounds

from .machine import RuntimePart
from .wire import Wire

if TYPE_CHECKING:
    from .timeline import Process
    from .world import World

HOUR = 3_600.0
LINK = LinkSettings(gather=0.05, window=2_000, retry=20.0)


class EdgePart(RuntimePart):
    """One agent, again and again with the same spool."""

    core: EdgeCore

    def __init__(self, world: World, process: Process, slots: float) -> None:
        super().__init__(world, process, slots)
        self.ledger = MemoryLedger()
        self.identity = world.token()
        self._skew = 0.0
        self._boot = 0
        self._heard: Heard | None = None

    def wall(self) -> float:
        """Its own clock: an hour ahead, an hour behind, or right; another at every start."""
        return self.world.wall() + self._skew

    def start(self) -> None:
        world = self.world
        self._clock_offset = world.random.uniform(10.0, 1e6)
        self._skew = world.random.choice([-HOUR, 0.0, HOUR])
        self._timer_at = 0.0
        info = RuntimeInfo(self.name, self.slots, edge=True)
        self.children, self.commands = {}, {}
        bounds = Bounds(drain_seconds=3.0, settle_seconds=3.0, ready_children=1)
        bucket = Bucket(0.0)
        self.core = EdgeCore(info, self.identity, Refusals(info), bounds, self.ledger, LINK, bucket, self.wall)
        self.core.restore(self.now())
        self.core.presence.wishes = True
        self.core.lease.since = since_restart(self._heard, self._here(), self.now())
        # After a power cut it goes by a clock that may have been set; then it cannot know.
        world.ledger.edges[self.name] = self._heard is None or self._heard.boot == self._here().boot
        world.refine(self.core)
        self.wire = Wire(
            world.network, self.process, world.broker, self, "edge", self.name, world.token(), self.now, world.random
        )
        self._perform(self.core.on_start())
        self.wire.start()

    def stop(self) -> None:
        super().stop()
        self.ledger.crash()
        if self.world.random.random() < 0.5:
            self._boot += 1  # the power was cut, and not only the process killed

    def _here(self) -> Heard:
        return Heard(str(self._boot), self.world.timeline.now, self.wall())

    def _carry_out(self, effects: Iterable[to_do.Effect]) -> None:
        effects = list(effects)
        self.ledger.commit()  # nothing leaves, and nothing starts, before what led to it is on disk
        if self.core.lease.since is not None:
            ago = self.now() - self.core.lease.since
            here = self._here()
            self._heard = Heard(here.boot, here.since_boot - ago, here.wall - ago)
        super()._carry_out(effects)
