"""Where groups are cut, and that cutting them takes no torch."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqcl.errors import DataError
from aqcl.thresholds import group_thresholds


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_thresholds_are_the_smallest_integers_that_reach_their_shares(activity: list[int]) -> None:
    thresholds = group_thresholds(np.array(activity))
    for threshold, tenths in zip(thresholds, (6, 9), strict=True):
        reached = [sum(a <= t for a in activity) * 10 >= tenths * len(activity) for t in range(31)]
        assert threshold == reached.index(True)


def test_thresholds_count_shares_exactly() -> None:
    assert group_thresholds(np.arange(1, 11)) == (6, 9)
    assert group_thresholds(np.arange(1, 6)) == (3, 5)
    assert group_thresholds(np.zeros(4, dtype=np.int64)) == (0, 0)


def test_thresholds_of_nobody_are_an_error() -> None:
    with pytest.raises(DataError, match="at least one user"):
        group_thresholds(np.empty(0, dtype=np.int64))


def test_cutting_groups_takes_no_torch() -> None:
    code = "import sys, aqcl.thresholds, aqcl.prepare.samples; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
