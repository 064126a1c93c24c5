"""Every backbone and regularizer trains with products in bf16, close to what fp32 gives."""

import pytest
import torch

from aqcl.backbones import BACKBONES
from aqcl.objective import Moment, Objective
from aqcl.regularizers import REGULARIZERS
from tests.objectives import make_objective, mixed_batch


def losses_of_steps(objective: Objective, *, lower: bool) -> list[float]:
    """The loss before each of a few updates."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    values = []
    for number in range(3):
        with torch.autocast("cpu", torch.bfloat16, lower):
            losses = objective(mixed_batch(number), Moment(3, 0, number, number))
        assert losses.total.dtype == torch.float32
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        values.append(float(losses.total.detach()))
    assert all(parameter.dtype == torch.float32 for parameter in objective.parameters())
    assert all(parameter.isfinite().all() for parameter in objective.parameters())
    return values


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_trains(name: str) -> None:
    lower, full = (
        losses_of_steps(make_objective({"aqcl": {}}, backbone_class=BACKBONES[name]), lower=lower)
        for lower in (True, False)
    )

    assert lower == pytest.approx(full, rel=0.02)
    assert lower != full


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_trains(name: str) -> None:
    lower, full = (losses_of_steps(make_objective({name: {}}), lower=low) for low in (True, False))

    assert lower == pytest.approx(full, rel=0.02)
    assert lower != full
