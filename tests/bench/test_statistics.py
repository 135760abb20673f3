import numpy as np
import pytest
from scipy import stats

from trainer.bench.statistics import Interval, holm, interval, power, welch

A, B = [101.0, 99.5, 100.2, 98.8], [104.0, 103.1, 109.0]


def test_the_interval_is_students() -> None:
    found = interval(A)

    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, len(A) - 1, found.mean, stats.sem(A)))


def test_one_number_has_no_interval() -> None:
    assert interval([5.0]) == Interval(5.0, None, None)


def test_the_p_value_is_welchs() -> None:
    assert welch(A, B) == pytest.approx(stats.ttest_ind(A, B, equal_var=False).pvalue)


def test_equal_rounds_differ_where_their_means_do() -> None:
    assert welch([5.0, 5.0], [5.0, 5.0]) == 1.0
    assert welch([5.0, 5.0], [6.0, 6.0]) == 0.0


def test_one_round_tells_nothing_of_the_noise() -> None:
    assert welch([5.0], [6.0, 6.1]) is None


def test_many_p_values_are_adjusted_by_holm() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]


def test_the_power_is_the_slope_of_the_logarithms() -> None:
    sizes, values = [1.0, 2.0, 4.0, 8.0], [3.0, 6.2, 11.5, 25.0]

    found = power(sizes, values)

    assert found is not None
    line = stats.linregress(np.log(sizes), np.log(values))
    half = stats.t.ppf(0.975, 2) * line.stderr
    assert found.exponent.mean == pytest.approx(line.slope)
    assert (found.exponent.low, found.exponent.high) == pytest.approx((line.slope - half, line.slope + half))
    assert found.at(4.0) == pytest.approx(np.exp(line.intercept) * 4**line.slope)


def test_no_power_goes_through_one_size_or_through_zero() -> None:
    assert power([2.0, 2.0], [1.0, 2.0]) is None
    assert power([1.0, 2.0], [0.0, 2.0]) is None
