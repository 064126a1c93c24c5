"""The curve of alpha is equation 6."""

import math

import pytest
import torch

from aqcl import activity
from aqcl.errors import ConfigError
from tests.golden import reference
from tests.golden.samples import assert_exact


@pytest.mark.parametrize(("w1", "w2"), [(0.05, 0.2), (1.0, 1.0), (5.0, 5.0), (0.7, 0.0)])
def test_alpha_is_equation_6(w1: float, w2: float) -> None:
    clicks = [0.0, 1.0, 6.9, 8.0, 300.0]

    ours = activity.alpha(torch.tensor(clicks, dtype=torch.float64), 6.9, w1, w2)

    assert_exact(ours, reference.alpha(clicks, 6.9, w1, w2))


def test_alpha_of_nobody_and_of_the_average_user() -> None:
    for w1, w2 in ((0.05, 0.2), (1.0, 1.0), (5.0, 3.0)):
        ours = activity.alpha(torch.tensor([0.0, 6.9], dtype=torch.float64), 6.9, w1, w2)
        assert_exact(ours, [1.0, math.exp(-w1)])


@pytest.mark.parametrize(
    ("mean_activity", "w1", "w2"), [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.inf)]
)
def test_alpha_refuses_what_it_cannot_compute(mean_activity: float, w1: float, w2: float) -> None:
    with pytest.raises(ConfigError, match="expected a"):
        activity.alpha(torch.zeros(1), mean_activity, w1, w2)
