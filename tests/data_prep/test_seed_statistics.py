"""Numbers of several seeds: intervals and tests are those of scipy and of tables, and equal values give none."""

import pytest
from scipy import stats

from data_prep.seed_statistics import holm, paired_seeds, t_interval


def test_the_interval_is_that_of_students_t():
    values = [0.81, 0.84, 0.83, 0.79]
    expected = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected)
    low, high = t_interval([1.0, 3.0])  # t of one degree of freedom is 12.706
    assert (low, high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-3)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5]])
def test_one_value_or_equal_values_have_no_interval(values):
    assert t_interval(values) is None


def test_a_paired_difference_is_that_of_scipys_test():
    first, second = [0.81, 0.84, 0.83], [0.79, 0.80, 0.80]
    found = paired_seeds(first, second)
    expected = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.mean) == (3, pytest.approx(0.03))


def test_a_difference_that_no_seed_changes_has_no_p_value():
    found = paired_seeds([0.5, 0.75], [0.25, 0.5])
    assert (found.mean, found.low, found.p_value) == (0.25, None, None)


@pytest.mark.parametrize("unit", [1, 100, 10_000])
def test_equal_differences_have_no_p_value_whatever_floating_point_leaves_between_them(unit):
    first, second = ([number / unit for number in numbers] for numbers in ((81, 83, 85), (79, 81, 83)))
    found = paired_seeds(first, second)
    assert (found.mean, found.low, found.p_value) == (pytest.approx(2 / unit), None, None)
    assert paired_seeds(first, [*second[:2], second[2] + 1 / unit]).p_value is not None
    assert t_interval([0.1 + 0.2, 0.3, 0.3]) is None


def test_p_values_are_adjusted_in_their_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
