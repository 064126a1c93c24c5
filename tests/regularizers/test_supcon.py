"""SupCon: the loss against slow NumPy, and which samples belong together."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aqcl.backbones.din import DIN
from aqcl.batch import Batch
from aqcl.contracts import Step
from aqcl.objective import Objective
from aqcl.regularizers.supcon import SupCon, supervised_contrast
from tests.golden.reference import sim
from tests.model_inputs import (
    MEAN_ACTIVITY,
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_facts,
    small_options,
)
from tests.objectives import make_step, mixed_batch


def make_supcon(batch: Batch | None = None, **options: Any) -> tuple[SupCon, Step]:
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(DIN, facts)
    regularizer = SupCon.create(facts, backbone, small_options(SupCon, **options))
    return regularizer, make_step(Objective(module, {}), mixed_batch() if batch is None else batch)


def slow_loss(z: npt.NDArray[np.float64], groups: list[int], t: float) -> list[float]:
    """Equation 2, L_out, of each anchor."""
    losses = []
    for i in range(len(z)):
        total = sum(math.exp(sim(z[i], z[a]) / t) for a in range(len(z)) if a != i)
        positives = [p for p in range(len(z)) if p != i and groups[p] == groups[i]]
        terms = [math.log(math.exp(sim(z[i], z[p]) / t) / total) for p in positives]
        losses.append(-sum(terms) / len(terms) if terms else 0.0)
    return losses


def random_z(n_samples: int = 9) -> Tensor:
    made = torch.Generator().manual_seed(0)
    return torch.randn(n_samples, 5, generator=made, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(
    "groups", [[0, 1, 0, 1, 1, 0, 1, 1, 0], [7, 3, 3, 3, 2, 0, 3, 2, 3], [1] * 9, list(range(9))]
)
def test_the_loss_equals_slow_loops(groups: list[int], temperature: float) -> None:
    z = random_z()

    losses = supervised_contrast(z, torch.tensor(groups), temperature=temperature)

    np.testing.assert_allclose(losses, slow_loss(z.numpy(), groups, temperature), atol=1e-9)


@pytest.mark.parametrize("positives", ["label", "label+activity"])
def test_both_views_are_anchors_and_positives(positives: str) -> None:
    regularizer, step = make_supcon(positives=positives)
    latent, view = step.latent.detach(), step.latent.detach().flip(1)
    label, activity = step.batch.label, step.batch.activity
    names = list(zip(label.tolist(), (activity > MEAN_ACTIVITY).tolist(), strict=True))
    keys = names if positives == "label+activity" else [(one, False) for one, _ in names]

    term = regularizer(latent, view, regularizer.groups(label, activity))

    z = regularizer.projector(torch.cat([latent, view])).detach().double().numpy()
    groups = [sorted(set(keys)).index(key) for key in keys] * 2
    assert len(set(groups)) == (2 if positives == "label" else 4)
    assert float(term.value.detach()) == pytest.approx(np.mean(slow_loss(z, groups, 0.1)), rel=1e-5)


def test_samples_of_one_place_cost_the_same_for_all_and_no_gradient() -> None:
    z = torch.ones(6, 4, requires_grad=True)

    losses = supervised_contrast(z, torch.tensor([0, 0, 1, 1, 1, 0]), temperature=0.1)
    losses.sum().backward()

    torch.testing.assert_close(losses, torch.full((6,), math.log(5)))
    assert z.grad is not None
    torch.testing.assert_close(z.grad, torch.zeros(6, 4), atol=1e-5, rtol=0.0)


def test_a_sample_that_is_alone_costs_nothing() -> None:
    z = torch.ones(1, 4, requires_grad=True)

    loss = supervised_contrast(z, torch.tensor([3]), temperature=0.1).sum()
    loss.backward()

    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_descent_brings_equal_labels_together() -> None:
    regularizer, step = make_supcon()
    latent, groups = step.latent.detach(), step.batch.label.long()
    optimizer = torch.optim.Adam(regularizer.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        regularizer(latent, latent, groups).value.backward()
        optimizer.step()

    z = torch.nn.functional.normalize(regularizer.projector(latent).detach(), dim=1)
    together = (z @ z.T)[groups[:, None] == groups].mean()
    apart = (z @ z.T)[groups[:, None] != groups].mean()
    assert together > apart + 0.3


def test_the_empty_batch_costs_nothing() -> None:
    regularizer, step = make_supcon(make_batch(WITH_FIELDS, ()))

    value = regularizer.loss(step).value

    assert float(value.detach()) == 0
    assert value.requires_grad
