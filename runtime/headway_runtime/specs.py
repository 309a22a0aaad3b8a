"""What attempts with equal options share: found by the options' content, kept while in use. Pure."""

from __future__ import annotations

import msgspec

from headway_bus.records import Options
from headway_runtime.refusals import Refusals
from headway_runtime.state import Spec

MOST_SPECS = 4096
"""Specs remembered. A runtime sees a few dozen, unless every task has options of its own."""


class Specs:
    """Options to what is known of them; the one not asked for longest goes first."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._specs: dict[bytes, Spec] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._last_number = 0

    def of(self, options: Options) -> Spec:
        key = self._encode(options)
        spec = self._specs.pop(key, None)
        if spec is None:
            self._last_number += 1
            spec = Spec(self._last_number, options, self._refusals.of(options))
            if len(self._specs) >= MOST_SPECS:
                del self._specs[next(iter(self._specs))]
        self._specs[key] = spec  # at the end: the order of the dictionary is the order of use
        return spec
