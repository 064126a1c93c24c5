"""What would be drawn for nothing is left out where it is shared, and a mistake where it is not."""

from typing import Any

import pytest

from aqcl.errors import ConfigError
from aqcl.search.plan import plan_search
from tests.search.test_plan import DATA, L2, planned
from tests.searches import search_values


def test_what_a_space_fixes_decides_what_is_searched() -> None:
    w1, alpha, weight = (f"regularizer.aqcl.{key}" for key in ("w1", "alpha", "weight"))
    ranges = {L2: {"choices": [0.1, 1]}, w1: {"choices": [1, 2]}}
    values = search_values(DATA, space={**ranges, alpha: "curve"})
    values["regularizer"] = {"aqcl": {**values["regularizer"]["aqcl"], "alpha": "groups"}}
    (curve,) = plan_search(values).methods
    assert list(curve.space.searched) == [L2, w1]
    for fixed in ({weight: 0}, {"regularizer.aqcl.constant_alpha": 0.2}):
        (idle,) = planned(space={**ranges, **fixed}).methods
        assert list(idle.space.searched) == [L2]


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"regularizer.aqcl.weight": 0}, "the weight of aqcl is 0"),
        ({"regularizer.aqcl.alpha": "groups"}, "alpha is not the curve"),
    ],
)
def test_a_range_of_its_own_that_a_method_does_not_read_is_a_mistake(
    own: dict[str, Any], why: str
) -> None:
    w1 = "regularizer.aqcl.w1"
    ranges = {L2: {"choices": [0.1, 1]}, w1: {"choices": [1, 2]}}
    methods = {"other": {}, "idle": {**own, "space": ranges}}
    message = (
        rf"^search\.methods\.idle\.space\.{w1}: does nothing in idle, where {why}; leave it out$"
    )
    with pytest.raises(ConfigError, match=message):
        planned(space={L2: {"choices": [0.1, 1]}}, methods=methods)
