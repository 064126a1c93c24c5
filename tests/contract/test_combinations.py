"""Every regularizer on every backbone, trained for a few steps; gradients on several threads."""

import dataclasses
import math

import pytest
import torch

from aqcl.backbones import BACKBONES
from aqcl.objective import Moment, Objective
from aqcl.regularizers import REGULARIZERS
from tests.model_inputs import WITH_FIELDS, make_batch
from tests.objectives import MIXED, make_objective, train

LONG = (*MIXED, *[6] * 13)
"""Nearly four clicks a row: in 9,000 rows enough for several threads."""
WIDE = 32
"""Of a projector: the vectors of 1,500 samples are then enough for several threads."""


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_few_steps_train(backbone: str, regularizer: str) -> None:
    """The second half of the steps is with whatever a warm-up of two steps holds back."""
    objective = make_objective({regularizer: {}}, backbone_class=BACKBONES[backbone])
    before = {name: value.clone() for name, value in objective.named_parameters()}

    logs = train(objective, 4)

    assert all(math.isfinite(value) for step in logs for value in step.values())
    moved = {name for name, value in objective.named_parameters() if not value.equal(before[name])}
    assert any(name.startswith("backbone.") for name in moved)
    own = {name for name in before if name.startswith("regularizers.")}
    assert own <= moved
    assert all(value.isfinite().all() for value in objective.state_dict().values())


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_of_a_backbone_repeat_on_two_threads(backbone: str) -> None:
    assert_gradients_repeat(make_objective({}, backbone_class=BACKBONES[backbone]), n_rows=9_000)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_gradients_of_a_regularizer_repeat_on_two_threads(regularizer: str) -> None:
    options = {field.name for field in dataclasses.fields(REGULARIZERS[regularizer].Options)}
    wide = {"dim": WIDE, "warmup_steps": 1}
    changes = {key: value for key, value in wide.items() if key in options}
    assert_gradients_repeat(make_objective({regularizer: changes}), n_rows=1_500)


def assert_gradients_repeat(objective: Objective, *, n_rows: int) -> None:
    """With as many rows as make torch split its work among the threads."""
    lengths = (LONG * (n_rows // len(LONG) + 1))[:n_rows]
    batch = make_batch(WITH_FIELDS, lengths)
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    found = []
    for _ in range(2):
        objective.load_state_dict(state)
        objective.zero_grad()
        for number in range(2 if objective.names else 1):  # beyond a warm-up of one step
            objective(batch, Moment(3, 0, number, number)).total.backward()
        found.append(
            {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
        )

    assert found[0]
    differ = {n for other in found for n, g in other.items() if not torch.equal(g, found[0][n])}
    assert not differ
