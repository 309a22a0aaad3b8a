"""A month of observations: ten million, in the batches in which a busy controller folds them in."""

from __future__ import annotations

import math
import random

from headway_controller.estimates import LearnedPredictor

BATCH = 200
MILLION = 1_000_000


def test_ten_million_observations_leave_the_estimates_sound() -> None:
    source = random.Random(1)
    predictor = LearnedPredictor()
    shapes = [source.lognormvariate(0.0, 0.3) for _ in range(5 * BATCH)]
    seen = 0
    while seen < 10 * MILLION:
        size = source.choice((1.0, 10.0, 100.0))
        runtime, speed = source.choice((("slow", 1.0), ("fast", 4.0)))
        start = source.randrange(4 * BATCH)
        scale = 0.01 * size / speed
        durations = [scale * shape for shape in shapes[start : start + BATCH]]
        predictor.observe_many("t", {"size": 1000.0 * size}, runtime, durations)
        seen += BATCH
    for size in (1.0, 10.0, 100.0):
        for runtime, speed in (("slow", 1.0), ("fast", 4.0)):
            estimate = predictor.predict("t", {"size": 1000.0 * size}, runtime)
            expected = 0.01 * size / speed * math.exp(0.045)
            assert 0.7 * expected < estimate.expectation < 1.4 * expected
            assert 0.0 < estimate.error < expected
            assert estimate.quantile(0.5) < estimate.quantile(0.9) < 3.0 * expected
    assert 0.01 < predictor.speeds.of("slow") < 100.0, "the common level of all speeds does not wander off"
    assert predictor.refused_durations == 0
