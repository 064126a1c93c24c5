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
from aqcl.config import build
from aqcl.contrastive import unit
from aqcl.dataset import Split
from aqcl.experiment import TrainOptions
from aqcl.layers import Dropout
from aqcl.objective import Moment, Objective
from aqcl.optimizers import Optimizers
from tests.objectives import make_objective, mixed_batch, train

ACTIVITY = torch.tensor([0.0, 1.0, 2.0, 5.0, 9.0, 3.0], dtype=torch.float64)
LR = 0.1
FREE = "regularizers.0.free_alpha"
STEP = 1e-4
"""Half the width of the differences of free parameters."""
NOW = Moment(3, 0, 1, 1)


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
    """Each weight moves by a step size of its own, as under Adam."""
    train_loss, held_out_loss, weights = toy_losses(seed)
    sizes = {name: 2 * LR * torch.rand_like(weight) for name, weight in weights.items()}
    free = torch.tensor([0.2, -0.3], dtype=torch.float64, requires_grad=True)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    found = torch.autograd.grad(train_loss(leaves, free), [*leaves.values()], create_graph=True)
    ahead = {n: p - sizes[n] * g for (n, p), g in zip(leaves.items(), found, strict=True)}
    (exact,) = torch.autograd.grad(held_out_loss(ahead, free), free)

    gradients = {name: g.detach() for name, g in zip(leaves, found, strict=True)}
    ours = hypergradient(train_loss, held_out_loss, weights, gradients, free, sizes)

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

    sizes = {"h": torch.tensor(LR)}
    ours = hypergradient(train_loss, held_out_loss, weights, {"h": gradient}, free, sizes)

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
        {"h": torch.tensor(LR)},
    )
    assert ours.tolist() == [0, 0]


def test_rows_of_a_table_are_as_the_whole_of_it() -> None:
    """Batch and held-out rows overlap in part, and a row is looked up twice."""
    torch.manual_seed(0)
    table = {"h": torch.randn(6, 3, dtype=torch.float64)}
    free, target = torch.tensor([0.4]).double(), torch.randn(3, dtype=torch.float64)
    sizes = torch.rand(6, 3, dtype=torch.float64)
    rows, held_out_rows = torch.tensor([1, 3, 3, 4]), torch.tensor([3, 4, 4, 5])
    found = []
    for sparse in (True, False):

        def train_loss(parameters: Parameters, free: Tensor, sparse: bool = sparse) -> Tensor:
            vectors = F.embedding(rows, parameters["h"], sparse=sparse)
            return (free * (vectors - target) ** 4).sum()

        def held_out_loss(parameters: Parameters, _: Tensor, sparse: bool = sparse) -> Tensor:
            return F.embedding(held_out_rows, parameters["h"], sparse=sparse).square().sum()

        leaf = table["h"].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(train_loss({"h": leaf}, free), leaf)
        assert gradient.is_sparse == sparse
        reached = sizes.sparse_mask(gradient.coalesce()) if sparse else sizes
        found.append(
            hypergradient(train_loss, held_out_loss, table, {"h": gradient}, free, {"h": reached})
        )

    # Row 5 is of the held-out batch alone: it shortens the difference, and adds nothing to it.
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=0)
    assert found[0].abs() > 1e-2


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
    learner: AlphaLearner, start: Parameters, batch: Batch, held_out: Batch, sizes: Parameters
) -> float:
    """The whole function whose gradient is asked for: train one step, then score."""
    objective = learner.objective
    objective.train().load_state_dict(start)
    objective.zero_grad()
    objective(batch, NOW).total.backward()
    with torch.no_grad():
        for name, parameter in objective.named_parameters():
            if parameter.grad is not None:
                parameter.sub_((sizes[name] * parameter.grad).to_dense())
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


@pytest.mark.parametrize(
    ("alpha", "readout", "optimizer_name"),
    [
        ("curve", False, "adam"),
        ("groups", True, "adam"),
        ("spline", False, "adam"),
        ("curve", True, "lazy_adam"),
        ("spline", True, "rowwise_adagrad"),
    ],
)
def test_a_real_model_has_the_gradient_of_differences(
    alpha: str, readout: bool, optimizer_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Top networks have kinks, and a temperature of 0.1 makes for strong curvature.
    monkeypatch.setattr(alpha_learning, "RADIUS", 1e-6)
    objective = double_model(alpha, readout)
    options = build(TrainOptions, {"optimizer": optimizer_name, "lr": 0.01})
    optimizers = Optimizers(objective, objective.backbone, options)
    batch, held_out = doubled(mixed_batch(1)), doubled(mixed_batch(2))
    for seed in range(3, 7):  # makes second moments
        optimizers.zero_grad()
        objective(doubled(mixed_batch(seed)), NOW).total.backward()
        optimizers.step()
    start = {name: value.clone() for name, value in objective.state_dict().items()}
    optimizers.zero_grad()
    objective(batch, NOW).total.backward()
    sizes = optimizers.step_sizes(objective)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    nothing = Split("valid", {"user": np.empty(0)}, {}, np.empty(0, np.int32))
    learner = AlphaLearner(objective, nothing, optimizers, options, 0)

    ours = learner.gradient(batch, NOW, held_out)

    after = objective.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    exact = torch.zeros_like(ours)
    for place in range(len(exact)):
        sides = []
        for step in (STEP, -STEP):
            free = start[FREE].clone()
            free[place] += step
            changed = start | {FREE: free}
            sides.append(held_out_after_a_step(learner, changed, batch, held_out, sizes))
        exact[place] = (sides[0] - sides[1]) / (2 * STEP)
    assert exact.abs().max() > 1e-7
    torch.testing.assert_close(ours, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
