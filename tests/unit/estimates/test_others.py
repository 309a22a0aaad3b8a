"""The lookup table and the stated cost of document 002: milliseconds outside, seconds inside."""

from __future__ import annotations

import pytest

from headway_controller.estimates import LookupTablePredictor, ServerTimeCostPredictor
from headway_controller.estimates.others import expectation_and_error


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((182.61, 209.48, 248.25, 987.97), (211.265, 72.98739807264639)),
        ((100.0, 150.0, 200.0, 500.0), (150.0, 111.1934766493699)),
    ],
)
def test_quantiles_become_expectation_and_error_as_in_s16(
    values: tuple[float, ...], expected: tuple[float, float]
) -> None:
    found = expectation_and_error(dict(zip((0.25, 0.5, 0.75, 0.99), values, strict=True)))
    assert found == pytest.approx(expected)


def test_the_edges_of_s16() -> None:
    assert expectation_and_error({0.25: 1.0, 0.5: 2.0}) is None
    assert expectation_and_error({0.25: 5.0, 0.5: 5.0, 0.75: 5.0}) == (5.0, 0.0)
    without99 = expectation_and_error({0.25: 1.0, 0.5: 2.0, 0.75: 3.0})
    assert without99 == pytest.approx((2.0, 2.0 / 1.349 * 1.5))
    assert expectation_and_error({0.25: 1.0, 0.5: 2.0, 0.75: 3.0, 0.99: 1.5}) == pytest.approx((2.0, 0.0))


def record(**fields: object) -> dict[str, object]:
    return {
        "status": "success",
        "model_type": "llm",
        "model_info": {"hardware": "A100"},
        "quantiles": [0.25, 0.5, 0.75, 0.99],
        "quantile_predictions": [100.0, 150.0, 200.0, 500.0],
    } | fields


def test_the_table_answers_in_seconds_and_narrows_by_what_the_record_names() -> None:
    table = LookupTablePredictor(
        [record(), record(model_info={"hardware": "T4"}, expect=900.0, error=30.0), record(status="failed")]
    )
    fast = table.predict("llm", {"hardware": "A100"}, "w")
    assert fast.expectation == pytest.approx(0.150)
    assert fast.quantile(0.5) == pytest.approx(0.150)
    assert fast.quantile(0.99) == pytest.approx(0.500)
    assert fast.quantile(0.625) == pytest.approx(0.175)
    slow = table.predict("llm", {"hardware": "T4"}, "w")
    assert (slow.expectation, slow.error) == pytest.approx((0.9, 0.03))
    assert not table.predict("ocr", {}, "w").known
    assert table.stats() == {
        "total_records": 3,
        "successful_records": 2,
        "refused_records": 0,
        "model_types": ["llm"],
    }


@pytest.mark.parametrize(
    "bad",
    [
        record(quantile_predictions=[1.0]),
        record(quantile_predictions=[float("nan")] * 4),
        record(quantiles=[0.5], quantile_predictions=[1.0]),
        record(quantiles="many"),
        "no record at all",
    ],
)
def test_records_that_cannot_be_read_are_counted(bad: dict[str, object]) -> None:
    table = LookupTablePredictor([bad, record()])
    assert table.stats()["refused_records"] == 1
    assert table.stats()["successful_records"] == 1


def test_the_stated_cost_is_the_expectation() -> None:
    predictor = ServerTimeCostPredictor()
    estimate = predictor.predict("llm", {"server_time_cost": 2000}, "w")
    assert estimate.expectation == pytest.approx(2.0)
    assert estimate.error == pytest.approx(0.010)
    assert predictor.remaining(estimate, 0.5).expectation == pytest.approx(1.5)
    assert predictor.remaining(estimate, 3.0).expectation == pytest.approx(3.0)
    for cost in (-1, float("nan"), "fast", None):
        assert not predictor.predict("llm", {"server_time_cost": cost}, "w").known


def test_what_they_do_not_know_is_learned_behind_them() -> None:
    predictor = ServerTimeCostPredictor()
    for _ in range(10):
        predictor.observe("ocr", {}, "w", 3.0)
    estimate = predictor.predict("ocr", {}, "w")
    assert estimate.expectation == pytest.approx(3.0, rel=0.15)
    assert predictor.remaining(estimate, 1.0).expectation > 0.0
