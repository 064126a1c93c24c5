"""Every backbone and regularizer trains with products in bf16, close to what fp32 gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from aqcl.backbones import BACKBONES
from aqcl.contrastive import info_nce
from aqcl.objective import Moment, Objective
from aqcl.regularizers import REGULARIZERS
from aqcl.regularizers.supcon import supervised_contrast
from tests.objectives import make_objective, mixed_batch
from tests.regularizers.test_aqcl_variants import VARIANTS

OTHER_FORMS: dict[str, dict[str, Any]] = {
    "symmetric": {"symmetric": True},
    "mean": {"pool": "mean"},
    "decoupled": {"denominator": "decoupled"},
    "joint codebook": {"joint_codebook": True},
}
"""Of equation 3, beside the options that go beyond the paper."""
FORMS = VARIANTS | OTHER_FORMS


def losses_of_steps(objective: Objective, *, lower: bool) -> list[float]:
    """The loss before each of a few updates."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    values = []
    for number in range(3):
        with torch.autocast("cpu", torch.bfloat16, lower):
            losses = objective(mixed_batch(number), Moment(3, 0, number, number))
        assert losses.total.dtype == torch.float32
        assert {log.dtype for log in losses.logs.values()} == {torch.float32}
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


@pytest.mark.parametrize("changes", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_aqcl_trains(changes: dict[str, Any]) -> None:
    lower, full = (
        losses_of_steps(make_objective({"aqcl": changes}), lower=lower) for lower in (True, False)
    )

    assert lower == pytest.approx(full, rel=0.02)
    assert lower != full


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_masked_contrast_is_added_up_in_fp32(symmetric: bool) -> None:
    z, view = torch.randn(2, 400, 8, generator=torch.Generator().manual_seed(0))
    ignore = torch.zeros(400, 400, dtype=torch.bool)

    def loss() -> Tensor:
        return info_nce(z, view, temperature=0.1, symmetric=symmetric, ignore=ignore)

    with torch.autocast("cpu", torch.bfloat16):
        lower = loss()

    # In bf16 the log-sum-exp itself, of about 10, would be rounded to multiples of 1/16.
    assert (lower - loss()).abs().mean() < 0.01


def test_a_supervised_contrast_is_added_up_in_fp32() -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.randn(400, 8, generator=random)
    groups = torch.randint(0, 2, (400,), generator=random)

    def loss() -> Tensor:
        return supervised_contrast(z, groups, temperature=0.1)

    with torch.autocast("cpu", torch.bfloat16):
        lower = loss()

    assert (lower - loss()).abs().mean() < 0.01
