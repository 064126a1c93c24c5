"""Every regularizer on every backbone, trained for a few steps."""

import math

import pytest

from aqcl.backbones import BACKBONES
from aqcl.regularizers import REGULARIZERS
from tests.objectives import make_objective, train


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_few_steps_train(backbone: str, regularizer: str) -> None:
    """The second half of the steps is with whatever a warm-up of two steps holds back."""
    objective = make_objective({regularizer: {}}, backbone_class=BACKBONES[backbone])
    before = {name: value.clone() for name, value in objective.named_parameters()}

    logs = train(objective, 5)

    assert all(math.isfinite(value) for step in logs for value in step.values())
    moved = {name for name, value in objective.named_parameters() if not value.equal(before[name])}
    assert any(name.startswith("backbone.") for name in moved)
    own = {name for name in before if name.startswith("regularizers.")}
    assert own <= moved
    assert all(value.isfinite().all() for value in objective.state_dict().values())
