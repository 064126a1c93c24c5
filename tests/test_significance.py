"""P-values of bootstrapped differences, and Holm's correction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aqcl.significance import SIGNIFICANCE, holm, p_value


def slow_holm(p_values: list[float]) -> list[float]:
    """By the definition: the largest of the scaled p-values that are not larger."""
    m = len(p_values)
    ordered = sorted(p_values)
    adjusted = []
    for p in p_values:
        scaled = [(m - k) * q for k, q in enumerate(ordered) if q <= p]
        adjusted.append(min(1.0, max(scaled)))
    return adjusted


def test_holm_on_an_example_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_what_its_definition_says(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert adjusted == pytest.approx(slow_holm(p_values))
    assert holm(p_values, 3) == pytest.approx(slow_holm([*p_values, 1, 1, 1])[: len(p_values)])
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    assert np.array_equal(np.argsort(p_values, kind="stable"), np.lexsort((p_values, adjusted)))


def test_a_p_value_is_twice_the_smaller_tail_and_never_0() -> None:
    differences = np.concatenate([np.full(990, 1.0), np.full(9, -1.0)])
    assert p_value(differences) == pytest.approx(2 * 10 / 1000)
    assert p_value(np.ones(999)) == pytest.approx(2 / 1000)
    assert p_value(np.zeros(10)) == 1.0
    assert p_value(np.array([1.0, np.nan])) is None


@pytest.mark.parametrize("claims", [1, 6, 20, 90])
def test_a_clear_difference_survives_however_many_are_compared(claims: int) -> None:
    """200 resamples, as above a million rows, whose share alone is never below 2 / 201."""
    draws = np.random.default_rng(0).normal(size=200)
    for distance, survives in ((6.0, True), (1.9, False)):
        p = p_value(draws - draws.mean() + distance * draws.std(ddof=1))
        assert p is not None
        assert (holm([p] * claims)[0] <= SIGNIFICANCE) == survives


def test_beyond_all_resamples_p_is_the_tail_of_a_normal_distribution() -> None:
    draws = np.random.default_rng(1).normal(size=1000)
    at_4 = draws - draws.mean() + 4 * draws.std(ddof=1)
    assert (at_4 > 0).all()
    assert p_value(at_4) == pytest.approx(6.334e-5, rel=1e-3)  # 2 (1 - Phi(4)), from tables
    assert p_value(-at_4) == p_value(at_4)
    assert p_value(np.ones(200)) == pytest.approx(2 / 201)  # no spread, no tail
    few = at_4[:50]
    assert p_value(few) == pytest.approx(2 / 51)
    crossing = np.append(at_4, -1e-9)
    assert p_value(crossing) == pytest.approx(2 * 2 / 1002)


def test_with_few_degrees_of_freedom_the_tail_is_students() -> None:
    draws = np.random.default_rng(1).normal(size=1000)
    at_4 = draws - draws.mean() + 4 * draws.std(ddof=1)
    # beyond 4 * 2.776 / 1.960 = 5.666 with 4 degrees of freedom, by scipy.stats.t
    assert p_value(at_4, 4.0) == pytest.approx(2 * stats.t.sf(5.666, 4), rel=1e-3)
    assert p_value(at_4, 1e9) == pytest.approx(p_value(at_4))


@pytest.mark.parametrize("freedom", [1.0, 4.0, 20.0, np.inf])
def test_p_grows_as_zero_comes_nearer(freedom: float) -> None:
    """From where no resample lies beyond zero, to where 400 of 1,000 do."""
    draws = np.sort(np.random.default_rng(1).normal(size=1000))
    nearer = np.concatenate([[-4.0], draws[:400] * 1.000001])
    found = [p_value(draws - zero, freedom) for zero in nearer]
    values = [p for p in found if p is not None]
    assert len(values) == len(found)
    assert values == sorted(values)
