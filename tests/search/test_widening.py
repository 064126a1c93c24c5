"""The range of the penalty where a winner lies at its end."""

from pathlib import Path

import pytest

from aqcl.search.plan import ONLY, plan_search
from aqcl.search.space import Range
from aqcl.search.widening import widened_plan
from tests.searches import DIN_AND_AQCL, search_values

DATA = Path("nowhere")
L2 = "train.embedding_l2"


@pytest.mark.parametrize(
    ("winners", "expected"),
    [
        ({"din": 1e-3, "din+aqcl": 1e-3}, None),
        ({"din": 0.09, "din+aqcl": 1e-3}, (1e-6, 1.0)),
        ({"din": 1e-3, "din+aqcl": 1.1e-6}, (1e-7, 0.1)),
        ({"din": 0.09, "din+aqcl": 1.1e-6}, (1e-7, 1.0)),
        ({"din": None, "din+aqcl": None}, None),
    ],
)
def test_a_range_is_widened_for_all_methods_alike(
    winners: dict[str, float | None], expected: tuple[float, float] | None
) -> None:
    plan = plan_search(search_values(DATA, methods=DIN_AND_AQCL, widen_trials=5))
    found = widened_plan(plan, {k: {L2: v} if v else {} for k, v in winners.items()})
    if expected is None:
        assert found is None
        return
    assert found is not None
    wider, note = found
    for method in wider.methods:
        dimension = method.space.searched[L2]
        assert isinstance(dimension, Range)
        assert (dimension.low, dimension.high) == pytest.approx(expected)
    assert "5 more trials of each method" in note
    assert all(
        (name in note) == (value in (0.09, 1.1e-6))
        for name, value in winners.items()
        if name == "din+aqcl"
    )
    assert plan.methods[0].space.searched[L2] == Range(low=1e-6, high=0.1, log=True)


def test_choices_of_the_penalty_are_not_widened() -> None:
    plan = plan_search(search_values(DATA, space={L2: {"choices": [0.1, 0.2]}}))
    assert widened_plan(plan, {ONLY: {L2: 0.2}}) is None
