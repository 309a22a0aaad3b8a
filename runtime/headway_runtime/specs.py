"""What attempts with equal options share: found by the options' content, kept while in use. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headway_bus.records import Options
from headway_runtime.refusals import Refusals
from headway_runtime.state import Spec

MOST_SPECS = 4096
"""Specs remembered. A runtime sees a few dozen, unless every task has options of its own."""


class Specs:
    """Options to what is known of them; the one not asked for longest goes first."""

    def __init__(self, refusals: Refusals, gpus: Sequence[str] = ()) -> None:
        self._refusals = refusals
        self._gpus = gpus
        self._specs: dict[tuple[bytes, str], Spec] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._last_number = 0

    def of(self, options: Options, gpus: Sequence[int] = ()) -> Spec:
        """``gpus``: indices, in what the runtime offers, of those that the attempt may use."""
        devices = ",".join(self._gpus[index] for index in gpus if 0 <= index < len(self._gpus))
        key = (self._encode(options), devices)
        spec = self._specs.pop(key, None)
        if spec is None:
            self._last_number += 1
            spec = Spec(self._last_number, options, self._refusals.of(options), devices)
            if len(self._specs) >= MOST_SPECS:
                del self._specs[next(iter(self._specs))]
        self._specs[key] = spec  # at the end: the order of the dictionary is the order of use
        return spec
