from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqcl.numbering import index_type, number_users, rows_by_score


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32])
@given(user=st.lists(st.integers(0, 100), max_size=50), sparse=st.booleans())
def test_numbers_are_those_of_a_sort(dtype: Any, user: list[int], sparse: bool) -> None:
    ids = np.array(user, dtype=dtype)
    ids = ids if sparse else ids % 7
    numbers, n_users = number_users(ids)
    known = sorted(set(ids.tolist()))
    assert n_users == len(known)
    assert numbers.tolist() == [known.index(u) for u in ids.tolist()]


def test_ids_may_be_negative_huge_or_words() -> None:
    for ids in (np.array([-5, 3, -5]), np.array([2**62, 2**62 + 1, 2**62]), np.array([*"aba"])):
        numbers, n_users = number_users(ids)
        assert n_users == 2
        assert numbers[0] == numbers[2] != numbers[1]
    assert number_users(np.array([-5, 3]))[0].tolist() == [0, 1]


def test_rows_by_score_ascend() -> None:
    score = np.random.default_rng(0).random(500).round(2)
    order = np.concatenate([*rows_by_score(score)])
    assert (np.diff(score[order]) >= 0).all()
    assert sorted(order.tolist()) == list(range(500))


def test_numbers_take_32_bits_as_long_as_they_fit() -> None:
    assert index_type(2**31 - 1) is np.int32
    assert index_type(2**31) is np.int64
    assert next(rows_by_score(np.zeros(3))).dtype == np.int32
    assert number_users(np.array([7, 2**40]))[0].dtype == np.int32
