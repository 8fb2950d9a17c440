"""Numbers and their uncertainty, against slow references and scipy."""

import math
import random
from statistics import NormalDist

import pytest
from scipy import stats as scipy_stats
from scipy.optimize import brentq

from eval.metrics.accuracy import (
    ClassResult,
    Rate,
    correlation_interval,
    log_bins,
    pearson,
    per_class,
    spearman,
    thirds,
    wilson,
)


def slow_wilson(count: int, total: int) -> tuple[float, float]:
    """The shares p at which (count/total - p) is 1.96 standard errors of p: the interval by its definition."""
    z = NormalDist().inv_cdf(0.975)

    def distance(p: float) -> float:
        return (count / total - p) ** 2 - z * z * p * (1 - p) / total

    share = count / total
    return brentq(distance, 1e-12, share), brentq(distance, share, 1 - 1e-12)


@pytest.mark.parametrize(("count", "total"), [(1, 10), (5, 10), (9, 10), (228, 1000), (42_200, 50_000)])
def test_the_interval_solves_its_defining_equation(count, total):
    assert wilson(count, total) == pytest.approx(slow_wilson(count, total), abs=1e-9)
    expected = scipy_stats.binomtest(count, total).proportion_ci(method="wilson")
    assert wilson(count, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_none_all_or_nothing_stays_within_its_bounds():
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)
    assert Rate(0, 0).value == 0.0


def test_a_correlations_interval_is_fishers_and_wider_for_ranks():
    drawn = random.Random(3)
    first = [drawn.random() for _ in range(40)]
    second = [value + drawn.random() for value in first]
    value = pearson(first, second)
    expected = scipy_stats.pearsonr(first, second).confidence_interval()
    assert correlation_interval(value, 40, ranked=False) == pytest.approx((expected.low, expected.high), abs=1e-9)
    low, high = correlation_interval(value, 40, ranked=True)
    assert low < expected.low < expected.high < high < 1
    spread = math.atanh(high) - math.atanh(value)
    assert spread == pytest.approx(1.959964 * math.sqrt((1 + value**2 / 2) / 37), abs=1e-6)


@pytest.mark.parametrize(("value", "n"), [(None, 40), (0.5, 3), (1.0, 40)])
def test_a_correlation_that_says_nothing_of_its_uncertainty_has_no_interval(value, n):
    assert correlation_interval(value, n, ranked=False) is None


def slow_ranks(values: list[float]) -> list[float]:
    """1 + how many are smaller + half of how many others are equal."""
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def test_correlations_equal_slow_references_and_scipy_with_many_ties():
    rng = random.Random(1)
    for _ in range(20):
        first = [float(rng.randint(0, 6)) for _ in range(40)]
        second = [value + rng.choice([0, 1, 5]) for value in first]
        assert spearman(first, second) == pytest.approx(pearson(slow_ranks(first), slow_ranks(second)))
        assert spearman(first, second) == pytest.approx(scipy_stats.spearmanr(first, second).statistic)
        assert pearson(first, second) == pytest.approx(scipy_stats.pearsonr(first, second).statistic)


def test_a_correlation_with_a_constant_is_not_defined():
    assert pearson([1, 2, 3], [4, 4, 4]) is None
    assert pearson([1, 2, 3], [0.1, 0.1, 0.1]) is None  # their mean is not 0.1 in floating point
    assert spearman([], []) is None
    assert spearman([1], [1]) is None


def test_classes_are_distinguished_by_label_and_counted_by_outcome():
    outcomes = [(7, "missile", True), (8, "missile", False), (7, "missile", None), (7, "missile", False)]
    results = per_class(outcomes)
    assert results == [ClassResult(7, "missile", 1, 1, 1), ClassResult(8, "missile", 0, 1, 0)]
    assert results[0].rate == Rate(1, 3)


def classes_of_frequencies(*frequencies: int) -> list[ClassResult]:
    return [ClassResult(i, f"c{i}", min(i, 4), 4 - min(i, 4), 0, frequency=f) for i, f in enumerate(frequencies)]


def test_thirds_hold_equally_many_classes_from_rare_to_frequent():
    bins = thirds(classes_of_frequencies(5, 1, 9, 100, 40, 3))
    assert [(part.low, part.high, part.classes) for part in bins] == [(1, 3, 2), (5, 9, 2), (40, 100, 2)]
    assert bins[1].rate == Rate(0 + 2, 8)
    assert bins[1].mean_accuracy == 0.25


def test_log_bins_split_at_powers_of_ten_and_hold_every_class_once():
    bins = log_bins(classes_of_frequencies(0, 1, 9, 10, 99, 100, 9_999, 10_000, 123_456))
    assert [part.name for part in bins] == [
        "never",
        "1 to 9",
        "10 to 99",
        "100 to 999",
        "1,000 to 9,999",
        "10,000 or more",
    ]
    assert [part.classes for part in bins] == [1, 2, 2, 1, 1, 2]
    assert math.isclose(sum(part.rate.total for part in bins), 36)


def test_bins_of_too_few_classes_are_left_out():
    assert [part.classes for part in thirds(classes_of_frequencies(3, 5))] == [1, 1]
    assert thirds([]) == []
    assert log_bins([ClassResult(0, "a", 1, 0, 0)]) == []


def test_the_authors_bins_are_tens_and_then_powers_of_ten_and_end():
    classes = classes_of_frequencies(0, 9, 10, 19, 95, 100, 999, 10_000, 99_999, 100_000, 2_000_000)
    bins = log_bins(classes, "official")
    expected = []
    for low, high in ((0, 10), (10, 20), (90, 100), (100, 1_000), (10_000, 100_000)):
        expected.append((f"{low:,} to {high - 1:,}", sum(low <= c.frequency < high for c in classes)))
    assert [(part.name, part.classes) for part in bins] == expected
    assert sum(part.classes for part in bins) == len(classes) - 2


def test_the_mean_of_an_authors_bin_is_divided_as_in_their_notebook():
    classes = [ClassResult(0, "a", 3, 1, 0, 4), ClassResult(1, "b", 1, 1, 0, 9), ClassResult(2, "c", 1, 0, 0, 50)]
    means = [part.mean_accuracy for part in log_bins(classes, "official")]
    assert means == pytest.approx([(0.75 + 0.5) / 2.001, 1.0 / 1.001])
    assert [part.mean_accuracy for part in log_bins(classes)] == pytest.approx([0.625, 1.0])
