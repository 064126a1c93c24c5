"""The gradient of the held-out loss by alpha against automatic and finite differentiation."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from aqcl import alpha_learning
from aqcl.activity import curve_alpha
from aqcl.alpha_learning import AlphaLearner, HeldOutLoss, Parameters, hypergradient
from aqcl.batch import Batch
from aqcl.contrastive import unit
from aqcl.dataset import Split
from aqcl.experiment import TrainOptions
from aqcl.layers import Dropout
from aqcl.objective import Moment, Objective
from tests.objectives import make_objective, mixed_batch, train

ACTIVITY = torch.tensor([0.0, 1.0, 2.0, 5.0, 9.0, 3.0], dtype=torch.float64)
LR = 0.1
FREE = "regularizers.0.free_alpha"
STEP = 1e-4
"""Half the width of the differences of free parameters."""


class Toy(nn.Module):
    """Five weights: a latent of two coordinates and a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.latent = nn.Linear(1, 2, dtype=torch.float64)
        self.head = nn.Linear(2, 1, bias=False, dtype=torch.float64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = torch.tanh(self.latent(x))
        return latent, self.head(latent).squeeze(1)


def toy_losses(seed: int) -> tuple[Any, Any, Parameters]:
    """Training loss with an alpha between two targets of the latent, held-out loss, weights."""
    torch.manual_seed(seed)
    model = Toy()
    x, held_x = (torch.randn(6, 1, dtype=torch.float64) for _ in range(2))
    own, interest = (torch.randn(6, 2, dtype=torch.float64) for _ in range(2))
    label = (torch.rand(6, dtype=torch.float64) < 0.5).double()

    def train_loss(parameters: Parameters, free: Tensor) -> Tensor:
        latent, logit = functional_call(model, parameters, (x,))
        w1, w2 = free.exp()
        weight = curve_alpha(ACTIVITY, 3.0, w1, w2)
        distances = [1 - (unit(latent) * unit(target)).sum(1) for target in (own, interest)]
        term = torch.lerp(distances[0], distances[1], weight)
        return F.binary_cross_entropy_with_logits(logit, label) + 0.5 * term.mean()

    def held_out_loss(parameters: Parameters, _: Tensor) -> Tensor:
        _, logit = functional_call(model, parameters, (held_x,))
        return F.binary_cross_entropy_with_logits(logit, 1 - label)

    return train_loss, held_out_loss, {n: p.detach() for n, p in model.named_parameters()}


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_gradient_through_the_look_ahead(seed: int) -> None:
    train_loss, held_out_loss, weights = toy_losses(seed)
    free = torch.tensor([0.2, -0.3], dtype=torch.float64, requires_grad=True)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    found = torch.autograd.grad(train_loss(leaves, free), [*leaves.values()], create_graph=True)
    ahead = {n: p - LR * g for (n, p), g in zip(leaves.items(), found, strict=True)}
    (exact,) = torch.autograd.grad(held_out_loss(ahead, free), free)

    gradients = {name: g.detach() for name, g in zip(leaves, found, strict=True)}
    ours = hypergradient(train_loss, held_out_loss, weights, gradients, free, LR)

    assert exact.abs().min() > 1e-7
    torch.testing.assert_close(ours, exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize("clusters_help", [True, False])
def test_w1_moves_the_way_that_helps(clusters_help: bool) -> None:
    """Clusters pull the latent one way, instances the other, and one of both is right."""
    weights = {"h": torch.zeros(1, dtype=torch.float64)}
    truth = 1.0 if clusters_help else -1.0

    def train_loss(parameters: Parameters, free: Tensor) -> Tensor:
        weight = curve_alpha(ACTIVITY, 3.0, free[0].exp(), free[1].exp())
        to_cluster, to_instance = parameters["h"] - 1.0, parameters["h"] + 1.0
        return (weight * to_cluster**2 + (1 - weight) * to_instance**2).mean()

    def held_out_loss(parameters: Parameters, _: Tensor) -> Tensor:
        return ((parameters["h"] - truth) ** 2).sum()

    free = torch.zeros(2, dtype=torch.float64)
    leaf = weights["h"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(train_loss({"h": leaf}, free), leaf)

    ours = hypergradient(train_loss, held_out_loss, weights, {"h": gradient}, free, LR)

    # A larger w1 means less of the clusters.
    assert (ours[0] > 0) == clusters_help
    assert ours[0].abs() > 1e-2


def test_without_a_held_out_gradient_nothing_moves() -> None:
    weights = {"h": torch.ones(1)}
    ours = hypergradient(
        lambda parameters, free: (parameters["h"] * free).sum(),
        lambda parameters, _: 0 * parameters["h"].sum(),
        weights,
        {},
        torch.ones(2),
        LR,
    )
    assert ours.tolist() == [0, 0]


def doubled(batch: Batch) -> Batch:
    return dataclasses.replace(
        batch,
        label=batch.label.double(),
        activity=batch.activity.double(),
        context={
            name: column.double() if column.is_floating_point() else column
            for name, column in batch.context.items()
        },
    )


def held_out_after_a_step(
    objective: Objective, start: Parameters, batch: Batch, held_out: Batch, now: Moment
) -> float:
    """The whole function whose gradient is asked for: train one step, then score."""
    objective.train().load_state_dict(start)
    objective.zero_grad()
    objective(batch, now).total.backward()
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.grad is not None:
                parameter.sub_(LR * parameter.grad)
        return float(HeldOutLoss(objective).eval()(held_out))


def double_model(alpha: str, readout: bool) -> Objective:
    """A small model after a few steps, in doubles, without dropout, which draws in singles."""
    changes = {
        "alpha": alpha,
        "readout": readout,
        "warmup_steps": 1,
        "learn_alpha": {"enabled": True},
    }
    objective = make_objective({"aqcl": changes})
    train(objective, 4)
    for part in objective.modules():
        if isinstance(part, Dropout):
            part.rate = 0.0
    return objective.double()


@pytest.mark.parametrize("alpha", ["curve", "groups", "spline"])
@pytest.mark.parametrize("readout", [False, True])
def test_a_real_model_has_the_gradient_of_differences(
    alpha: str, readout: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Top networks have kinks, and a temperature of 0.1 makes for strong curvature.
    monkeypatch.setattr(alpha_learning, "RADIUS", 1e-6)
    objective = double_model(alpha, readout)
    batch, held_out, now = doubled(mixed_batch(1)), doubled(mixed_batch(2)), Moment(3, 0, 1, 1)
    start = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.zero_grad()
    objective(batch, now).total.backward()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    nothing = Split("valid", {"user": np.empty(0)}, {}, np.empty(0, np.int32))
    learner = AlphaLearner(objective, nothing, TrainOptions(lr=LR), 0)

    ours = learner.gradient(batch, now, held_out)

    after = objective.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    exact = torch.zeros_like(ours)
    for place in range(len(exact)):
        sides = []
        for step in (STEP, -STEP):
            free = start[FREE].clone()
            free[place] += step
            sides.append(
                held_out_after_a_step(objective, start | {FREE: free}, batch, held_out, now)
            )
        exact[place] = (sides[0] - sides[1]) / (2 * STEP)
    assert exact.abs().max() > 1e-7
    torch.testing.assert_close(ours, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
