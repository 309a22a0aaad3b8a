"""What is known of one kind of a target's tasks is only a guess for another kind, until the target has shown many."""

from __future__ import annotations

from headway_controller.estimates import LearnedPredictor


def known(predictor: LearnedPredictor, method: str) -> bool:
    return predictor.prepare("pkg:f", {"method": method}).known


def test_one_method_says_nothing_of_another() -> None:
    predictor = LearnedPredictor()
    predictor.observe_many("pkg:f", {"method": "quick"}, "r", [0.002] * 10)
    assert known(predictor, "quick")
    assert not known(predictor, "slow")


def test_of_many_kinds_what_they_have_in_common_is_known() -> None:
    predictor = LearnedPredictor()
    for number in range(20):
        predictor.observe_many("pkg:f", {"method": f"m{number}"}, "r", [0.1 + 0.01 * number] * 4)
    assert known(predictor, "never seen")
