"""The runtimes: their books, the pools of those that are alike, and who of them has room for what."""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from headway_controller.placement.book import Book, Recalls
from headway_controller.placement.credit import LEASED_AHEAD, opens_in, patience, room
from headway_controller.placement.eligibility import profile_of
from headway_controller.placement.pools import Pool, PoolKey, pool_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headway_bus.records import RuntimeInfo
    from headway_controller.placement.eligibility import Demand
    from headway_controller.placement.resources import Need
    from headway_controller.placement.work import Work

MAX_WATCHED = 64
"""Needs for which every pool keeps account of who has room."""

SPEED_GRADE, DELAY_GRADE = 0.03, 0.1
"""Relative changes up to which a runtime stays in its pool without a look: an estimate of its speed is never at rest."""
SOONEST = 0.001
"""Seconds after which a runtime that has no credit is looked at again, at the soonest."""


class Choice(NamedTuple):
    """The runtime that was chosen, with the runner-up of another kind; ``end``: expected seconds until the result."""

    book: Book
    end: float
    second: Book | None
    second_end: float


class Fleet:
    """``speed_of``: what the predictor knows of a runtime's speed; ``tried_again`` is told of ends of set-asides."""

    def __init__(
        self, speed_of: Callable[[Book], float], tried_again: Callable[[str], None], batch_interval: float
    ) -> None:
        self.batch_interval = batch_interval
        self.books: dict[str, Book] = {}
        self.layout = 0
        """Changes when pools come or go."""
        self.dirty: dict[Book, None] = {}
        """Runtimes to which something happened since the last look."""
        self.holders: dict[Book, None] = {}
        """Runtimes without a free slot that hold committed work."""
        self.recalls = Recalls()
        self.closed: dict[Book, None] = {}
        """Runtimes that were closed to new work, and may hold some that has not started."""
        self._speed_of = speed_of
        self._tried_again = tried_again
        self._pools: dict[PoolKey, Pool] = {}
        self._candidates: dict[Demand, tuple[int, list[Pool]]] = {}
        self._watched: dict[Need, None] = {}
        self._wake: list[tuple[float, int, Book]] = []
        self._serial = 0

    # ------------------------------------------------------------------------------------------ coming and going

    def add(self, info: RuntimeInfo, now: float, round_trip: float) -> Book:
        book = self.books.get(info.name)
        if book is None:
            self._serial += 1
            book = self.books[info.name] = Book(info, now, round_trip, self.batch_interval, self._serial, self.recalls)
        elif info != book.info:
            self._leave_pool(book)
            book.offer(info)
        self.assign_pool(book)
        self.dirty[book] = None
        return book

    def remove(self, name: str) -> Book | None:
        book = self.books.pop(name, None)
        if book is not None:
            self._leave_pool(book)
            self.dirty.pop(book, None)
            book.forget_recalls()
            for table in (self.holders, self.closed):
                table.pop(book, None)
        return book

    def assign_pool(self, book: Book) -> None:
        """Put it where its profile, speed and delay belong."""
        book.speed = self._speed_of(book)
        if book.pool is not None:
            speed, delay = book.graded
            if abs(book.speed - speed) <= SPEED_GRADE * speed and abs(book.delay - delay) <= DELAY_GRADE * delay:
                return
        book.graded = (book.speed, book.delay)
        profile = book.pool.key[0] if book.pool is not None else profile_of(book.info)
        key = pool_key(profile, book)
        if book.pool is not None and book.pool.key == key:
            return
        self._leave_pool(book)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(key)
            for need in self._watched:
                pool.watch(need)
            self.layout += 1
        pool.books[book.name] = book
        book.pool = pool
        self.dirty[book] = None

    def _leave_pool(self, book: Book) -> None:
        pool = book.pool
        if pool is None:
            return
        pool.drop(book)
        pool.books.pop(book.name, None)
        book.pool = None
        if not pool.books:
            del self._pools[pool.key]
            self.layout += 1

    def set_aside(self, book: Book, why: str, until: float) -> None:
        book.set_aside_until, book.set_aside_why = until, why
        heappush(self._wake, (until, book.serial, book))
        self.dirty[book] = None

    # ------------------------------------------------------------------------------------------ who has room

    def examine(self, now: float) -> list[Book]:
        """See who has room, of those to which something happened or whose time has come; they are returned."""
        wake = self._wake
        while wake and wake[0][0] <= now:
            when, _, book = heappop(wake)
            if book.set_aside_until == when and self.books.get(book.name) is book:
                book.set_aside_until = -math.inf
                self._tried_again(book.name)
                self.dirty[book] = None
            elif book.wake_at == when:
                book.wake_at = math.inf
                self.dirty[book] = None
        if not self.dirty:
            return []
        looked_at = [book for book in self.dirty if self.books.get(book.name) is book]
        for book in looked_at:
            self.assign_pool(book)
            self.classify(book, now)
        self.dirty.clear()
        return looked_at

    def offers(self, book: Book, need: Need) -> bool:
        """Whether the runtime stands among those with room."""
        pool = book.pool
        return pool is not None and (book in pool.free.get(need, ()) or book in pool.near.get(need, ()))

    def next_wake(self) -> float:
        """When a runtime is expected to have credit again, or a set-aside ends."""
        return self._wake[0][0] if self._wake else math.inf

    def classify(self, book: Book, now: float, *, filling: bool = False) -> None:
        """Put the runtime where it belongs in its pool: free, near, or neither. ``filling``: see ``opens_in``."""
        pool = book.pool
        if pool is None:
            return
        if book.committed and book.stock.slots < 1e-9:
            self.holders[book] = None
        else:
            self.holders.pop(book, None)
        if not book.open(now):
            pool.drop(book)
            return
        wait = drain = -1.0
        for need, free in pool.free.items():
            near = pool.near[need]
            free.pop(book, None)
            if book.stock.fits(need):
                near.pop(book, None)
                free[book] = None  # at the end: equals take turns
                continue
            if not need.plain:
                continue
            if wait < 0.0:
                wait, drain = opens_in(book, now, filling=filling)
            if wait <= 0.0:
                near[book] = now + drain
            else:
                near.pop(book, None)
        if 0.0 < wait < math.inf and now + wait < book.wake_at:
            # A remainder that stays as long as it was would else be looked at ever more often.
            book.wake_at = now + max(wait, SOONEST)
            heappush(self._wake, (book.wake_at, book.serial, book))

    def watch(self, need: Need, used: Callable[[], set[Need]]) -> None:
        """Keep account of who has room for such attempts. ``used``: the needs of tasks that wait."""
        if need in self._watched:
            return
        if len(self._watched) >= MAX_WATCHED:
            kept = used()
            for idle in [each for each in self._watched if each not in kept]:
                del self._watched[idle]
                for pool in self._pools.values():
                    pool.unwatch(idle)
        self._watched[need] = None
        for pool in self._pools.values():
            pool.watch(need)
        self.dirty.update(dict.fromkeys(self.books.values()))

    def has_room(self, demand: Demand, now: float) -> bool:
        """Whether a runtime would take such a task now, as far as a glance tells."""
        if demand.runtime:
            book = self.books.get(demand.runtime)
            if book is None or not book.open(now):
                return False
            leases = demand.leased_ahead and book.info.edge and len(book.committed) < LEASED_AHEAD
            return leases or self.offers(book, demand.need)
        need = demand.need
        for pool in self.pools_of(demand):  # noqa: SIM110  # asked for every decision: a generator costs twice as much
            if pool.free.get(need) or pool.near.get(need):
                return True
        return False

    def has_free(self, demand: Demand) -> bool:
        """Whether a runtime could start such an attempt at once."""
        need = demand.need
        return any(pool.free.get(need) for pool in self.pools_of(demand))

    def count_open(self, demand: Demand) -> int:
        """How many runtimes have room for such attempts."""
        need, count = demand.need, 0
        for pool in self.pools_of(demand):
            if need in pool.free:
                count += len(pool.free[need]) + len(pool.near[need])
        return count

    # ------------------------------------------------------------------------------------------ candidates

    def pools_of(self, demand: Demand) -> list[Pool]:
        """The pools whose runtimes may run such tasks, busy or not; none for tasks that name their runtime."""
        found = self._candidates.get(demand)
        if found is not None and found[0] == self.layout:
            return found[1]
        if len(self._candidates) > 4096:
            self._candidates.clear()
        pools = [
            pool
            for pool in self._pools.values()
            if not demand.runtime and not demand.refusals(next(iter(pool.books.values())).info)
        ]
        self._candidates[demand] = (self.layout, pools)
        return pools

    def candidates(self, demand: Demand) -> Iterator[Book]:
        """The runtimes that may run such tasks, busy or not, but not draining or set aside."""
        if demand.runtime:
            book = self.books.get(demand.runtime)
            if book is not None and not demand.refusals(book.info):
                yield book
            return
        for pool in self.pools_of(demand):
            yield from pool.books.values()

    def choose(self, work: Work, now: float, later: float = 0.0) -> Choice | None:
        """Of those that have room now, the runtime with the least expected completion, if it is sent ``later``."""
        demand = work.demand
        if demand.runtime:
            named = self.books.get(demand.runtime)
            if named is None or not named.open(now) or demand.refusals(named.info) or not room(named, work, now):
                return None
            return Choice(named, 0.0, None, math.inf)
        mean, known, need = work.prediction.mean, work.prediction.known, demand.need
        best: Book | None = None
        second: Book | None = None
        least = next_least = math.inf
        for pool in self.pools_of(demand):
            found = pool.best(need, now, known)
            if found is None:
                continue
            book, wait = found
            if wait > 0.0 and wait > patience(book, mean) and not later:
                continue
            way = later + book.delay
            end = (wait if wait > way else way) + mean / book.speed + book.delay
            if end < least:
                second, next_least = best, least
                best, least = book, end
            elif end < next_least:
                second, next_least = book, end
        return Choice(best, least, second, next_least) if best is not None else None
