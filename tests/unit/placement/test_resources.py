"""Accounting: what fits, which GPUs, and that release undoes claim."""

from __future__ import annotations

import random

import pytest

from headway_bus.records import Requirements, RuntimeInfo
from headway_controller.placement.resources import Need, Stock

MACHINE = RuntimeInfo("a", slots=4, cpu=8, memory=1000, gpus=["x", "y"], custom={"licence": 2})


def test_whole_gpus_come_idle_and_shares_go_to_the_fullest_that_has_room() -> None:
    stock = Stock(MACHINE)
    half = Need(Requirements(slots=0.1, gpu=0.5))
    first, second = stock.claim(half), stock.claim(half)
    assert first == second == ((0, 0.5),)
    assert stock.claim(Need(Requirements(slots=0.1, gpu=1.0))) == ((1, 1.0),)
    assert not stock.fits(half)
    stock.release(half, first)
    assert stock.fits(half)
    assert not stock.fits(Need(Requirements(slots=0.1, gpu=1.0)))


def test_two_halves_on_two_gpus_are_not_one_whole() -> None:
    stock = Stock(MACHINE)
    most = Need(Requirements(slots=0.1, gpu=0.6))
    assert stock.claim(most) == ((0, 0.6),)
    assert stock.claim(most) == ((1, 0.6),)
    assert not stock.fits(Need(Requirements(slots=0.1, gpu=0.8)))
    assert stock.fits(Need(Requirements(slots=0.1, gpu=0.4)))


@pytest.mark.parametrize(
    "asked",
    [
        Requirements(slots=5),
        Requirements(cpu=9),
        Requirements(memory=1001),
        Requirements(gpu=2.5),
        Requirements(custom={"licence": 3}),
        Requirements(custom={"dongle": 1}),
    ],
)
def test_what_a_runtime_can_never_give_is_named(asked: Requirements) -> None:
    (text,) = Need(asked).missing_from(MACHINE)
    assert "it has" in text


def test_ten_tenths_are_one_slot() -> None:
    stock = Stock(RuntimeInfo("a", slots=1))
    tenth = Need(Requirements(slots=0.1))
    for _ in range(10):
        assert stock.fits(tenth)
        stock.claim(tenth)
    assert not stock.fits(tenth)


def test_negative_and_unordered_amounts_are_nothing() -> None:
    need = Need(Requirements(slots=1.0, cpu=-3.0, memory=-5, gpu=float("nan"), custom={"x": -1.0}))
    assert need.plain
    assert (need.cpu, need.memory, need.gpu, need.custom) == (0.0, 0, 0.0, {})


def test_release_undoes_claim_in_any_order() -> None:
    source = random.Random(1)
    stock = Stock(MACHINE)
    taken: list[tuple[Need, tuple[tuple[int, float], ...]]] = []
    for _ in range(2000):
        if taken and source.random() < 0.5:
            need, gpus = taken.pop(source.randrange(len(taken)))
            stock.release(need, gpus)
            continue
        need = Need(
            Requirements(
                slots=source.choice([0.1, 0.5, 1]),
                cpu=source.choice([0, 1, 2.5]),
                memory=source.choice([0, 100]),
                gpu=source.choice([0, 0.25, 0.5, 1, 1.5]),
                custom=source.choice([{}, {"licence": 1.0}]),
            )
        )
        if stock.fits(need):
            taken.append((need, stock.claim(need)))
        assert stock.slots >= -1e-9
        assert stock.cpu >= -1e-9
        assert stock.memory >= 0
        assert all(-1e-9 <= share <= 1 + 1e-9 for share in stock.gpus)
    for need, gpus in taken:
        stock.release(need, gpus)
    assert (stock.slots, stock.cpu, stock.memory) == pytest.approx((4, 8, 1000))
    assert stock.gpus == pytest.approx([1.0, 1.0])
    assert stock.custom == pytest.approx({"licence": 2})
