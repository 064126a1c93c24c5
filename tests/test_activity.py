import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from aqcl.activity import (
    GROUPS,
    alpha,
    group_alpha,
    spline_alpha,
    user_groups,
)
from aqcl.errors import ConfigError

Array = npt.NDArray[Any]
positive = st.floats(1e-3, 50)


@given(positive, positive, st.floats(0.1, 1e4))
def test_alpha_is_one_without_clicks_and_e_to_minus_w1_at_the_mean(
    w1: float, w2: float, mean: float
) -> None:
    values = alpha(torch.tensor([0.0, mean], dtype=torch.float64), mean, w1, w2)
    assert values[0] == 1
    assert float(values[1]) == pytest.approx(math.exp(-w1), rel=1e-12)


@given(positive, positive)
def test_alpha_falls_with_activity_and_stays_between_0_and_1(w1: float, w2: float) -> None:
    values = alpha(torch.arange(0.0, 2000.0), 6.88, w1, w2)
    assert values.dtype == torch.float32
    assert ((values >= 0) & (values <= 1)).all()
    assert (values.diff() <= 0).all()


def test_alpha_equals_the_formula() -> None:
    clicks = [0, 1, 3, 10, 200]
    values = alpha(torch.tensor(clicks, dtype=torch.float64), 6.9, 0.7, 1.3)
    expected = [math.exp(-0.7 * (n / 6.9) ** 1.3) for n in clicks]
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12)


def test_w2_of_zero_is_a_constant() -> None:
    values = alpha(torch.tensor([0.0, 1.0, 99.0]), 6.9, 0.5, 0.0)
    np.testing.assert_allclose(values.numpy(), math.exp(-0.5), rtol=1e-6)


def test_alpha_has_no_gradient() -> None:
    assert not alpha(torch.ones(3, requires_grad=True), 1.0, 1.0, 1.0).requires_grad


@pytest.mark.parametrize(
    ("mean", "w1", "w2", "name"),
    [
        (0.0, 1.0, 1.0, "mean_activity"),
        (math.nan, 1.0, 1.0, "mean_activity"),
        (1.0, -0.1, 1.0, "w1"),
        (1.0, math.nan, 1.0, "w1"),
        (1.0, 1.0, -1.0, "w2"),
        (1.0, 1.0, math.inf, "w2"),
    ],
)
def test_alpha_refuses_parameters_out_of_range(
    mean: float, w1: float, w2: float, name: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected"):
        alpha(torch.ones(2), mean, w1, w2)


def test_alpha_of_a_group_is_that_of_its_bounds() -> None:
    values = torch.tensor([0.9, 0.4, 0.1])
    clicks = [0.0, 6.0, 6.9, 7.0, 13.0, 14.0, 900.0]
    got = group_alpha(torch.tensor(clicks), 6.9, (1.0, 2.0), values)
    expected = [0.9 if n <= 6.9 else 0.4 if n <= 13.8 else 0.1 for n in clicks]
    np.testing.assert_array_equal(got.numpy(), np.array(expected, np.float32))
    np.testing.assert_array_equal(
        group_alpha(torch.tensor(clicks), 6.9, (), values[:1]).numpy(), np.float32(0.9)
    )


falling = st.lists(st.sampled_from([0.0, 0.1, 0.1, 0.35, 0.5, 0.9, 1.0]), min_size=2, max_size=7)


@given(falling, st.data())
def test_the_spline_is_that_of_scipy(values: list[float], data: st.DataObject) -> None:
    values = sorted(values, reverse=True)
    n = len(values)
    gaps = data.draw(st.lists(st.floats(0.05, 5), min_size=n - 1, max_size=n - 1))
    knots = [0.0, *np.cumsum(gaps).tolist()]
    mean = 6.9
    clicks = torch.arange(0.0, 200.0, 0.5, dtype=torch.float64)
    got = spline_alpha(clicks, mean, knots, torch.tensor(values, dtype=torch.float64))

    at = np.log1p(np.array(knots) * mean)
    where = np.log1p(clicks.numpy()).clip(at[0], at[-1])
    np.testing.assert_allclose(got.numpy(), PchipInterpolator(at, values)(where), atol=1e-12)
    assert ((got >= values[-1] - 1e-15) & (got <= values[0] + 1e-15)).all()
    assert (got.diff() <= 1e-12).all()


def test_the_spline_has_the_gradient_of_differences() -> None:
    clicks = torch.tensor([0.0, 1.0, 5.0, 9.0, 30.0], dtype=torch.float64)
    values = torch.tensor([0.9, 0.5, 0.4, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v: spline_alpha(clicks, 6.9, (0.0, 0.5, 1.0, 3.0), v), values
    )
    flat = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    spline_alpha(clicks, 6.9, (0.0, 0.5, 1.0, 3.0), flat).sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20), st.integers(0, 5)), max_size=40),
    st.integers(0, 15),
    st.integers(0, 5),
    st.booleans(),
)
def test_groups_partition_the_rows_by_the_first_row_of_each_user(
    rows: list[tuple[int, int, int]], low: int, step: int, timed: bool
) -> None:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    user, activity, timestamp = columns.T
    groups = user_groups(user, activity, (low, low + step), timestamp if timed else None)
    assert groups.shape == user.shape
    for u in set(user.tolist()):
        mine = [row for row in range(len(rows)) if user[row] == u]
        first = min(mine, key=lambda row: timestamp[row]) if timed else mine[0]
        expected = int(activity[first] > low) + int(activity[first] > low + step)
        assert set(groups[mine].tolist()) == {expected}
    masks = [groups == g for g in range(len(GROUPS))]
    np.testing.assert_array_equal(np.sum(masks, axis=0), 1)


def test_the_earliest_row_decides_wherever_it_stands() -> None:
    user, activity = np.array([4, 4, 4]), np.array([9, 2, 5])
    timestamp = np.array([30, 10, 20])
    assert user_groups(user, activity, (3, 6), timestamp).tolist() == [0, 0, 0]
    assert user_groups(user, activity, (3, 6)).tolist() == [2, 2, 2]


def test_narrow_ids_give_the_same_groups() -> None:
    rng = np.random.default_rng(0)
    user, activity = rng.integers(0, 50, 300), rng.integers(0, 20, 300)
    wide = user_groups(user * 40_000_000, activity, (5, 12))
    narrow = user_groups(
        user.astype(np.int32) * np.int32(40_000_000), activity.astype(np.int32), (5, 12)
    )
    np.testing.assert_array_equal(wide, narrow)
    np.testing.assert_array_equal(wide, user_groups(user, activity, (5, 12)))
