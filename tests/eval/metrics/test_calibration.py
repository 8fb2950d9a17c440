"""Calibration and abstention: cases computed by hand, and slow references that follow the definitions item by item."""

from fractions import Fraction

import numpy as np
import pytest

from eval.class_scores.rules import Rule
from eval.class_scores.table import ClassScoreTable
from eval.metrics.abstention import aurc, best_aurc, coverage_curve, estimate_aurc
from eval.metrics.accuracy import ClassResult, macro_accuracy, wilson
from eval.metrics.calibration import (
    BINNINGS,
    calibration_error,
    estimate_calibration_error,
    expected_if_calibrated,
    reliability,
)
from eval.metrics.resampling import reversed_interval
from eval.metrics.temperature import confidences, fit_temperature, own_temperature


def drawn(items: int = 300, seed: int = 0):
    """Confidences, many of them equal, and whether items are right, less often than confident."""
    rng = np.random.default_rng(seed)
    confident = rng.integers(1, 40, items) / 40
    return confident, rng.random(items) < 0.8 * confident


@pytest.mark.parametrize("right", [True, False])
def test_few_items_of_one_outcome_have_an_interval_with_a_width(right):
    confident, correct = np.full(5, float(right)), np.full(5, right)
    for found in (estimate_calibration_error(confident, correct), estimate_aurc(confident, correct)):
        assert found.low <= found.value <= found.high and found.low >= 0 and found.high <= 1
        assert found.high - found.low == pytest.approx(wilson(0, 5)[1]), (
            "five items do not exclude an error rate of 0.4"
        )


def slow_error(confident, correct, bins):
    """The definition: for every bin, its items one by one."""
    total = Fraction(0)
    for number in set(bins):
        inside = [index for index, found in enumerate(bins) if found == number]
        mean = sum(Fraction(float(confident[index])) for index in inside) / len(inside)
        accuracy = Fraction(sum(bool(correct[index]) for index in inside), len(inside))
        total += Fraction(len(inside), len(confident)) * abs(accuracy - mean)
    return float(total)


def slow_aurc(confident, correct):
    """The mean over the items of the error rate among the items that are at least as confident."""
    risks = []
    for own in confident:
        answered = [right for other, right in zip(confident, correct, strict=True) if other >= own]
        risks.append(Fraction(sum(not right for right in answered), len(answered)))
    return float(sum(risks) / len(risks))


def test_the_error_of_four_items_is_the_one_computed_by_hand():
    confident, correct = np.array([0.9, 0.9, 0.6, 0.3]), np.array([True, False, True, False])
    # three bins with gaps of 1.8 - 1, 0.6 - 1 and 0.3 - 0
    assert estimate_calibration_error(confident, correct).value == pytest.approx((0.8 + 0.4 + 0.3) / 4)
    assert [part.rate.total for part in reliability(confident, correct)] == [1, 1, 2]
    assert [part.confidence for part in reliability(confident, correct)] == pytest.approx([0.3, 0.6, 0.9])


@pytest.mark.parametrize("binning", BINNINGS)
def test_the_error_follows_its_definition_item_by_item(binning):
    confident, correct = drawn()
    bins = BINNINGS[binning](confident)
    assert calibration_error(confident - correct, bins) == pytest.approx(slow_error(confident, correct, bins.tolist()))
    order = np.random.default_rng(5).permutation(len(confident))
    assert BINNINGS[binning](confident[order]).tolist() == bins[order].tolist(), "bins depend on the order of items"


def test_a_confidence_on_an_edge_is_in_the_lower_bin():
    assert BINNINGS["equal_width"](np.array([1 / 15, 1 / 15 + 1e-9, 3 / 15, 1.0])).tolist() == [0, 1, 2, 14]


def test_bins_of_equal_size_have_equally_many_items():
    confident = np.linspace(0.5, 0.99, 150)
    assert np.bincount(BINNINGS["equal_size"](confident)).tolist() == [10] * 15


def test_the_interval_of_a_calibrated_model_reaches_zero_and_of_an_overconfident_one_does_not():
    rng = np.random.default_rng(2)
    confident = rng.random(400)
    calibrated = estimate_calibration_error(confident, rng.random(400) < confident)
    wrong = estimate_calibration_error(confident, rng.random(400) < confident / 2)
    assert calibrated.low < 0.01 < calibrated.value, "the error of a calibrated model is above 0, its interval is not"
    assert wrong.low > 0.15 and wrong.low < wrong.value < wrong.high
    assert expected_if_calibrated(confident) == pytest.approx(calibrated.value, abs=0.02)
    assert reversed_interval(0.1, np.linspace(0.1, 0.3, 101)) == pytest.approx((0.0, 0.095), abs=0.001)


def test_the_area_of_four_items_is_the_one_computed_by_hand():
    confident, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    assert aurc(confident, correct) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    assert aurc(np.full(4, 0.5), correct) == pytest.approx(1 / 4), "equal confidences are answered together"
    assert best_aurc(correct) == pytest.approx((1 / 4) / 4)


def test_the_area_follows_its_definition_item_by_item():
    confident, correct = drawn(120, seed=3)
    found = estimate_aurc(confident, correct)
    assert found.value == pytest.approx(slow_aurc(confident, correct))
    assert found.low < found.value < found.high and best_aurc(correct) < found.value


def test_a_point_of_the_curve_counts_every_item_that_is_as_confident_as_its_threshold():
    confident, correct = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, False, True, False])
    points = coverage_curve(confident, correct, (0.25, 0.5, 0.75, 1.0))
    found = [(point.threshold, point.coverage, point.rate.count, point.rate.total) for point in points]
    assert found == [(0.9, 0.25, 1, 1), (0.8, 0.75, 2, 3), (0.1, 1.0, 2, 4)]


def test_the_fitted_temperature_is_that_of_which_the_labels_were_drawn():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (3000, 6))
    labels = (scores / 2.5 + rng.gumbel(size=scores.shape)).argmax(1)
    assert fit_temperature(scores, labels) == pytest.approx(2.5, rel=0.1)
    assert fit_temperature(scores, scores.argmax(1)) is None, "labels that always have the best score"
    assert fit_temperature(scores, scores.argmin(1)) is None, "scores that never favour the label"
    assert fit_temperature(np.zeros((9, 3)), labels[:9] % 3) is None


def test_confidences_are_those_of_the_softmax_at_the_temperature():
    assert confidences(np.log([[0.25, 0.75], [0.5, 0.5]]), 1.0) == pytest.approx([0.75, 0.5])
    assert confidences(np.array([[1000.0, 0.0]]), 1.0) == pytest.approx([1.0]), "no overflow"
    assert confidences(np.array([[1000.0, -1.0]]), 1e-310) == pytest.approx([1.0]), "nor infinity less infinity"


def test_scores_that_are_no_logarithms_have_no_temperature():
    table = ClassScoreTable(("a", "b"), (1, 1), (0.0, 0.0), logit_scale=100.0)
    assert own_temperature(Rule(), table, cosines=True) == pytest.approx(0.01)
    assert own_temperature(Rule(), ClassScoreTable(("a",), (1,), (0.0,)), cosines=True) is None
    assert own_temperature(Rule("mean"), table, cosines=False) == 1.0
    assert own_temperature(Rule("cfg", 1.5, "log"), table, cosines=False) == 1.0
    assert own_temperature(Rule("cfg", 1.5, "probability"), table, cosines=False) is None
    assert own_temperature(Rule(tokens="probability"), table, cosines=False) is None


def test_every_class_counts_alike_in_macro_accuracy():
    classes = [ClassResult(0, "cat", 90, 10, 0), ClassResult(1, "dog", 1, 0, 1)]
    found = macro_accuracy(classes)
    assert found["value"] == pytest.approx((0.9 + 0.5) / 2) and found["classes"] == 2 and found["n"] == 102
    # Wilson: 90 of 100 is 0.8256 to 0.9448, 1 of 2 is 0.0945 to 0.9055
    assert found["low"] == pytest.approx(0.7 - np.hypot(0.9 - 0.8256, 0.5 - 0.0945) / 2, abs=1e-4)
    assert found["high"] == pytest.approx(0.7 + np.hypot(0.9448 - 0.9, 0.9055 - 0.5) / 2, abs=1e-4)
    assert macro_accuracy([ClassResult(0, "cat", 5, 0, 0)])["low"] == pytest.approx(0.5655, abs=1e-4), "as Wilson's"
    assert macro_accuracy([])["value"] is None
