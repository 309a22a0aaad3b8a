"""The predictor that learns: accuracy, speeds, remaining life, bad input, storage."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from headway_controller.estimates import LearnedPredictor
from headway_controller.estimates.speeds import REMEMBERED, Speeds


def test_numbers_in_meta_explain_the_times() -> None:
    source = random.Random(1)
    predictor = LearnedPredictor()
    missed = total = 0.0
    covered = 0
    for count in range(4000):
        size = source.lognormvariate(0.0, 1.5)
        seconds = 0.01 * size * source.lognormvariate(0.0, 0.2)
        meta = {"size": 1000 * size}
        if count >= 1000:
            estimate = predictor.predict("t", meta, "w")
            missed += abs(estimate.expectation - seconds)
            total += seconds
            covered += seconds <= estimate.quantile(0.9)
        predictor.observe("t", meta, "w", seconds)
    assert missed / total < 0.26
    assert 0.87 < covered / 3000 < 0.94


def test_speeds_of_runtimes_are_learned_without_being_declared() -> None:
    source = random.Random(2)
    predictor = LearnedPredictor()
    for count in range(4000):
        runtime, speed = (("slow", 1.0), ("fast", 4.0))[count % 2]
        predictor.observe("t", {}, runtime, source.lognormvariate(0.0, 0.5) / speed)
    ratio = predictor.speeds.of("fast") / predictor.speeds.of("slow")
    assert 3.2 < ratio < 5.0


def test_what_has_run_long_is_expected_to_run_longer_on_heavy_tails() -> None:
    source = random.Random(3)
    predictor = LearnedPredictor()
    for _ in range(5000):
        predictor.observe("t", {}, "w", source.lognormvariate(0.0, 1.5))
    estimate = predictor.predict("t", {}, "w")
    left = [predictor.remaining(estimate, age).expectation for age in (0.0, 1.0, 10.0, 1e6)]
    assert left == sorted(left)
    assert left[3] == pytest.approx(1e6)


def test_a_step_in_all_durations_is_learned_within_three_hundred_tasks() -> None:
    source = random.Random(4)
    predictor = LearnedPredictor()
    for count in range(2300):
        predictor.observe("t", {}, "w", source.lognormvariate(0.0, 0.3) * (2.5 if count >= 2000 else 1.0))
    assert predictor.predict("t", {}, "w").expectation == pytest.approx(2.5 * math.exp(0.045), rel=0.25)


def test_a_cold_start_is_called_unknown_and_borrows_from_other_targets() -> None:
    predictor = LearnedPredictor()
    for _ in range(100):
        predictor.observe("known", {}, "w", 7.0)
    estimate = predictor.predict("new", {}, "w")
    assert not estimate.known
    assert "new" in estimate.why
    assert estimate.expectation == pytest.approx(7.0, rel=0.05)
    assert estimate.error == pytest.approx(2 * estimate.expectation)
    for _ in range(3):
        predictor.observe("new", {}, "w", 1.0)
    assert predictor.predict("new", {}, "w").known


def test_the_state_survives_storage() -> None:
    source = random.Random(5)
    predictor = LearnedPredictor()
    for _ in range(500):
        size = source.random() * 100
        predictor.observe("t", {"size": size, "kind": "a"}, "w", 1.0 + size)
    stored = msgspec.msgpack.encode(predictor.to_state())
    again = LearnedPredictor.from_state(msgspec.msgpack.decode(stored, strict=False))
    before = predictor.predict("t", {"size": 50, "kind": "a"}, "w")
    after = again.predict("t", {"size": 50, "kind": "a"}, "w")
    assert after.expectation == pytest.approx(before.expectation, rel=0.05)
    assert after.quantile(0.9) == pytest.approx(before.quantile(0.9), rel=0.1)
    with pytest.raises(ValueError, match="version"):
        LearnedPredictor.from_state({"version": 99})
    with pytest.raises(ValueError, match="cannot be read"):
        LearnedPredictor.from_state({"version": 1, "models": 5})


BAD_META: list[dict[str, object]] = [
    {"x": math.nan},
    {"x": math.inf, "y": -math.inf},
    {"x": 10**400},
    {"x": -1e300},
    {"x": "y" * 1_000_000},
    {"k" * 1_000_000: 1},
    {str(key): key for key in range(10_000)},
    {str(key): str(key) for key in range(10_000)},
    {"x": None, "y": [1], "z": {}},
]


@pytest.mark.parametrize("meta", BAD_META)
def test_bad_meta_breaks_nothing(meta: dict[str, object]) -> None:
    predictor = LearnedPredictor()
    for seconds in (1.0, 2.0, 1.5, 0.0, 3.0) * 20:
        predictor.observe("t", meta, "w", seconds)
        estimate = predictor.predict("t", meta, "w")
        assert 0.0 <= estimate.expectation < 1e10
        assert 0.0 <= estimate.error < 1e10
    assert predictor.refused_meta > 0 or len(meta) == 1


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, 1e12])
def test_impossible_durations_are_counted_and_not_learned(seconds: float) -> None:
    predictor = LearnedPredictor()
    predictor.observe("t", {}, "w", seconds)
    assert predictor.refused_durations == 1
    assert not predictor.predict("t", {}, "w").known


def test_a_year_between_seconds_leaves_the_estimate_finite_and_is_forgotten() -> None:
    predictor = LearnedPredictor()
    for _ in range(100):
        predictor.observe("t", {}, "w", 1.0)
    predictor.observe("t", {}, "w", 3.2e7)
    assert predictor.predict("t", {}, "w").expectation < 3.2e7
    for _ in range(20_000):
        predictor.observe("t", {}, "w", 1.0)
    assert predictor.predict("t", {}, "w").expectation < 2.0


def test_words_that_are_names_do_not_fill_the_memory() -> None:
    predictor = LearnedPredictor()
    for count in range(5000):
        predictor.observe("t", {"request": f"id-{count}"}, "w", 1.0)
    assert len(predictor.to_state()["models"]) < 100


def test_runtimes_with_a_name_of_their_own_each_time_are_not_remembered_for_ever() -> None:
    speeds = Speeds()
    for number in range(REMEMBERED + 50):
        speeds.declare(f"job-{number}", 2.0)
    assert len(speeds.to_state()) == REMEMBERED
    assert speeds.of("job-0") == 1.0 and speeds.of(f"job-{REMEMBERED + 49}") == pytest.approx(2.0)
