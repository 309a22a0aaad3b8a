"""A task's story: the steps that its other fields do not tell, and their bytes as the store keeps them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headway_bus.records import AttemptEnd, Status, Transition
from headway_controller.store.protocol import StoredEnd

BEGUN = "running"
OVER = frozenset({*AttemptEnd, *map(str, Status)} - {BEGUN, Status.WAITING, Status.QUEUED, Status.ASSIGNED})

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Transition])


def add_once(story: list[Transition], step: Transition) -> None:
    """Add a step, unless it was told before: that an attempt began may be told together with several of its later steps."""
    if step not in story:
        story.append(step)


def encode_story(story: list[Transition]) -> bytes:
    """The steps as bytes."""
    return _encoder.encode(story)


def decode_story(data: bytes) -> list[Transition] | None:
    """The steps, or None where there are none."""
    return _decoder.decode(data) if data else None


def past_of(stored: bytes, end: StoredEnd) -> list[Transition]:
    """The steps of a task that has ended, as the store has them, the beginning of its last attempt and its end included."""
    story = decode_story(stored) or []
    if end.started:
        add_once(story, Transition(end.started, BEGUN, "", end.runtime, end.attempt))
    reason = end.error.message if end.error is not None else ""
    story.append(Transition(end.ended, end.status, reason, end.runtime, end.attempt))
    return story


def woven(story: Sequence[Transition], others: Sequence[Transition]) -> list[Transition]:
    """Both in one, by their times. The steps of the first keep their order, whatever the clocks said."""
    both = list(story)
    for step in others:
        place = len(both)
        while place and both[place - 1].at > step.at:
            place -= 1
        both.insert(place, step)
    return both


def last_run(story: Sequence[Transition]) -> float:
    """Seconds that the last attempt which is over has run, by the times of its steps; 0: none is over that ran."""
    begun: dict[int, float] = {}
    seconds = 0.0
    for step in story:
        if step.status == BEGUN:
            begun[step.attempt] = step.at
        elif step.status in OVER and step.attempt in begun:
            seconds = max(0.0, step.at - begun.pop(step.attempt))
    return seconds
