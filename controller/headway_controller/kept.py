"""What a controller keeps in its store beside the tasks: what the estimates have learned, and which runtimes were here."""

from __future__ import annotations

from collections.abc import Sequence

import msgpack

from headway_bus.logs import get_logger
from headway_controller.core import Controller
from headway_controller.edges import EDGES_STATE, pack_edges
from headway_controller.estimates import LearnedPredictor
from headway_controller.placement import BATCH_INTERVAL, Scheduler, Turnarounds, Waits
from headway_controller.store import SaveState
from headway_controller.store.protocol import Store

LEARNED_STATE = "learned"
ROSTER_STATE = "runtimes"

log = get_logger("headway.controller")


def pack_learned(scheduler: Scheduler) -> SaveState:
    """What the next controller shall know of run times and waits."""
    learned = {
        "predictor": scheduler.predictor.to_state(),
        "waits": scheduler.waits.to_state(),
        "turnarounds": scheduler.turnarounds.to_state(),
    }
    return SaveState(LEARNED_STATE, msgpack.packb(learned))


def load_scheduler(store: Store, fifo_queues: Sequence[str], ahead: float = BATCH_INTERVAL) -> Scheduler:
    """A scheduler that knows what the earlier controller had learned."""
    saved = store.load_state(LEARNED_STATE)
    if saved:
        try:
            learned = msgpack.unpackb(saved, strict_map_key=False)
            scheduler = Scheduler(LearnedPredictor.from_state(learned["predictor"]), fifo_queues, ahead)
            turnarounds = Turnarounds.from_state(learned.get("turnarounds", {}))
            scheduler.take_up(Waits.from_state(learned["waits"]), turnarounds)
            return scheduler
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # Estimates are worth less than tasks: begin to learn anew rather than refuse to start.
            log.warning("what had been learned cannot be read; learning starts anew", reason=repr(error))
    return Scheduler(None, fifo_queues, ahead)


def pack_roster(runtimes: Sequence[str]) -> SaveState:
    """The names of runtimes that may hold attempts."""
    return SaveState(ROSTER_STATE, msgpack.packb(list(runtimes)))


class FleetKeeper:
    """Who is here, kept at once, for the next controller waits for them; what is known of each edge, when there is time."""

    def __init__(self, core: Controller) -> None:
        self._core = core
        self._roster = core.fleet.roster
        self._edges_changed = False

    def roster(self) -> list[SaveState]:
        """What is to be stored since somebody came or went."""
        if self._roster == self._core.fleet.roster:
            return []
        self._roster, self._edges_changed = self._core.fleet.roster, True
        return [pack_roster(self._core.fleet.present())]

    def edges(self) -> list[SaveState]:
        """What is to be stored of edges, all at once: a thousand may come back within a second."""
        if not self._edges_changed:
            return []
        self._edges_changed = False
        return [SaveState(EDGES_STATE, pack_edges(self._core.state, self._core.life.wall_offset))]


def load_roster(store: Store) -> list[str]:
    """The runtimes that an earlier controller had."""
    saved = store.load_state(ROSTER_STATE)
    return [str(name) for name in msgpack.unpackb(saved)] if saved else []
