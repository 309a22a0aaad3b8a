"""What a runtime has, what attempts occupy of it, and whether one more fits.

Accounting never exceeds what is there. Slots may be overdrawn by committed attempts that wait on the runtime (see
``credit``); nothing else may: an attempt that needs cores, memory, a GPU or a counter is committed only when all of it
is free.
"""

from __future__ import annotations

from headway_bus.records import Requirements, RuntimeInfo

TOLERANCE = 1e-9
"""Ten tenths of a slot are one slot."""


class Need:
    """What one attempt occupies; interned, so that equal needs are the same object."""

    __slots__ = ("cpu", "custom", "gpu", "key", "memory", "plain", "slots")

    def __init__(self, requirements: Requirements) -> None:
        self.slots = positive(requirements.slots)
        self.cpu = positive(requirements.cpu)
        self.memory = max(int(requirements.memory), 0)
        self.gpu = positive(requirements.gpu)
        self.custom = {name: positive(amount) for name, amount in requirements.custom.items() if amount > 0}
        self.key = need_key(requirements)
        self.plain = not (self.cpu or self.memory or self.gpu or self.custom) and self.slots > 0.0
        """Slots only: such attempts may be committed ahead of a free slot."""

    def missing_from(self, info: RuntimeInfo) -> list[str]:
        """What a runtime could never give, busy or not: one text for each."""
        lacks = [
            (self.slots, info.slots, "slots"),
            (self.cpu, info.cpu, "cpu"),
            (self.memory, info.memory, "memory"),
            (self.gpu, len(info.gpus), "gpu"),
        ]
        lacks += [(amount, info.custom.get(name, 0.0), name) for name, amount in self.custom.items()]
        return [f"{what} >= {need:g} (it has {has:g})" for need, has, what in lacks if need > has + TOLERANCE]

    def __repr__(self) -> str:
        parts = [f"slots={self.slots:g}"]
        parts += [f"{name}={getattr(self, name):g}" for name in ("cpu", "memory", "gpu") if getattr(self, name)]
        return " ".join(parts + [f"{name}={amount:g}" for name, amount in self.custom.items()])


def need_key(requirements: Requirements) -> tuple[object, ...]:
    custom = tuple(sorted(requirements.custom.items())) if requirements.custom else ()
    return (requirements.slots, requirements.cpu, requirements.memory, requirements.gpu, custom)


def positive(amount: float) -> float:
    """The amount, or 0 where it is negative or not a number."""
    return amount if amount > 0.0 else 0.0


class Stock:
    """One runtime's resources: totals, and what is taken. GPUs are counted one by one, in shares."""

    __slots__ = ("cpu", "custom", "gpus", "memory", "slots", "total_custom", "total_slots")

    def __init__(self, info: RuntimeInfo) -> None:
        self.total_slots = positive(info.slots)
        self.slots = self.total_slots
        """Free slots; below 0 by what is committed ahead."""
        self.cpu = positive(info.cpu)
        self.memory = max(info.memory, 0)
        self.gpus = [1.0] * len(info.gpus)
        """The free share of each GPU."""
        self.total_custom = {name: positive(amount) for name, amount in info.custom.items()}
        self.custom = dict(self.total_custom)

    def fits(self, need: Need) -> bool:
        """Whether everything is free now, slots included."""
        return need.slots <= self.slots + TOLERANCE and (need.plain or self.fits_beside_slots(need))

    def fits_beside_slots(self, need: Need) -> bool:
        if need.cpu > self.cpu + TOLERANCE or need.memory > self.memory:
            return False
        if need.gpu and self.pick_gpus(need.gpu) is None:
            return False
        return all(amount <= self.custom.get(name, 0.0) + TOLERANCE for name, amount in need.custom.items())

    def pick_gpus(self, amount: float) -> tuple[tuple[int, float], ...] | None:
        """(index, share) of the GPUs an attempt would get: whole ones for its whole part, the fullest for the rest."""
        whole, share = int(amount + TOLERANCE), amount - int(amount + TOLERANCE)
        idle = [index for index, free in enumerate(self.gpus) if free >= 1.0 - TOLERANCE]
        if len(idle) < whole:
            return None
        picked = [(index, 1.0) for index in idle[:whole]]
        if share > TOLERANCE:
            taken = {index for index, _ in picked}
            fitting = [(f, i) for i, f in enumerate(self.gpus) if i not in taken and f >= share - TOLERANCE]
            if not fitting:
                return None
            picked.append((min(fitting)[1], share))
        return tuple(picked)

    def claim(self, need: Need, count: int = 1) -> tuple[tuple[int, float], ...]:
        """Take it. Returns the GPUs; only a need of slots alone may have a count above 1."""
        self.slots -= need.slots * count
        if need.plain:
            return ()
        self.cpu -= need.cpu
        self.memory -= need.memory
        for name, amount in need.custom.items():
            self.custom[name] = self.custom.get(name, 0.0) - amount
        # An adopted attempt runs whether or not the books have room for it; it then holds no index.
        picked = self.pick_gpus(need.gpu) or () if need.gpu else ()
        for index, share in picked:
            self.gpus[index] -= share
        return picked

    def release(self, need: Need, gpus: tuple[tuple[int, float], ...] = ()) -> None:
        self.slots += need.slots
        if need.plain:
            return
        self.cpu += need.cpu
        self.memory += need.memory
        for name, amount in need.custom.items():
            self.custom[name] = self.custom.get(name, 0.0) + amount
        for index, share in gpus:
            self.gpus[index] = min(self.gpus[index] + share, 1.0)
