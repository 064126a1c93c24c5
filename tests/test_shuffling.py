"""The shuffled order of an epoch, held and computed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from aqcl import shuffling
from aqcl.dataset import open_dataset
from aqcl.shuffling import ComputedOrder, shuffled
from tests.tiny_runs import tiny_dataset

MANY = 36_000_000


@given(n=st.integers(1, 5_000), seed=st.integers(0, 2**32))
def test_a_computed_order_has_each_row_once(n: int, seed: int) -> None:
    order = ComputedOrder(n, np.random.default_rng(seed))

    assert len(order) == n
    assert np.array_equal(np.sort(order[:]), np.arange(n))


def test_a_part_of_a_computed_order_is_that_part_of_the_whole() -> None:
    order, again = (ComputedOrder(1_000, np.random.default_rng(7)) for _ in range(2))
    whole = order[:]

    assert np.array_equal(again[130:260], whole[130:260])
    assert np.array_equal(again[990:2_000], whole[990:])
    assert again[5:5].tolist() == []


def test_computed_orders_of_two_seeds_have_nothing_in_common() -> None:
    one, other = (ComputedOrder(100_000, np.random.default_rng(seed))[:] for seed in (0, 1))

    assert np.count_nonzero(one == other) < 10  # one is expected


@pytest.mark.parametrize("n", [MANY, 2**25, 2**31 + 1])
def test_a_part_of_a_computed_order_is_spread_like_a_random_one(n: int) -> None:
    """Over all rows, over their lowest bits, and each row without regard to the one before."""
    rows = ComputedOrder(n, np.random.default_rng(3))[n // 7 : n // 7 + 200_000]
    coarse = rows * 64 // n

    assert len(np.unique(rows)) == len(rows)
    for cells in (coarse, rows % 64, (coarse[:-1] * 64 + coarse[1:]), np.diff(rows) % n * 64 // n):
        assert chisquare(np.bincount(cells)).pvalue > 1e-4


def test_few_rows_have_the_permutation_of_numpy_in_half_the_bytes() -> None:
    order = shuffled(1_000, np.random.default_rng(5))

    assert isinstance(order, np.ndarray)
    assert order.dtype == np.int32
    assert np.array_equal(order, np.random.default_rng(5).permutation(1_000))


def test_many_rows_take_no_memory_for_their_order() -> None:
    assert isinstance(shuffled(shuffling.IN_MEMORY, np.random.default_rng(0)), np.ndarray)
    assert isinstance(shuffled(2**40, np.random.default_rng(0)), ComputedOrder)


def test_an_epoch_of_many_rows_cuts_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = open_dataset(tiny_dataset(tmp_path)).train
    monkeypatch.setattr(shuffling, "IN_MEMORY", 1)

    order = split.order(0, 1)
    batches = [split.batch(order[start : start + 7], 5) for start in range(0, len(split), 7)]

    users = np.concatenate([batch.user.numpy() for batch in batches])
    assert isinstance(order, ComputedOrder)
    assert np.array_equal(np.sort(users), np.sort(split.columns["user"]))
    assert users.tolist() != split.columns["user"].tolist()
