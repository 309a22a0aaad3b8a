"""A task's story: the steps that its other fields do not tell, and their bytes as the store keeps them."""

from __future__ import annotations

import msgspec

from headway_bus.records import Transition

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
