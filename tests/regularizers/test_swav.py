"""SwAV: the loss against slow NumPy, and what trains the prototypes when."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aqcl.batch import LossTerm
from aqcl.contrastive import unit
from aqcl.regularizers.swav import SwAV, swapped_prediction
from tests.golden.reference import sim
from tests.model_inputs import small_options

Array = npt.NDArray[np.float64]


def make_swav(**changes: Any) -> SwAV:
    torch.manual_seed(0)
    small = {"warmup_steps": 0, "n_prototypes": 6}
    return SwAV(7, small_options(SwAV, **small | changes))


def latents(seed: int = 0, n_samples: int = 40) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    latent = torch.randn(n_samples, 7, generator=random, requires_grad=True)
    view = (latent.detach() + 0.3 * torch.randn(n_samples, 7, generator=random)).requires_grad_()
    return latent, view


def slow_codes(scores: Array, epsilon: float = 0.05, iterations: int = 3) -> Array:
    """Equation 4 by `distributed_sinkhorn` of the authors' code, entry by entry."""
    n_samples, n_prototypes = scores.shape
    q = [[math.exp(float(s) / epsilon) for s in row] for row in scores]
    for _ in range(iterations):
        for k in range(n_prototypes):
            column = sum(q[b][k] for b in range(n_samples))
            for b in range(n_samples):
                q[b][k] /= column * n_prototypes
        for b in range(n_samples):
            row = sum(q[b])
            q[b] = [entry / (row * n_samples) for entry in q[b]]
    codes: Array = np.array(q) * n_samples
    return codes


def slow_loss(scores: list[Array], codes: list[Array], t: float) -> float:
    """Equations 1 and 2: the codes of one view, the prediction of the other."""
    total = 0.0
    for code, predicted in ((codes[1], scores[0]), (codes[0], scores[1])):
        for q, s in zip(code, predicted, strict=True):
            everything = sum(math.exp(x / t) for x in s)
            total -= sum(q[k] * math.log(math.exp(s[k] / t) / everything) for k in range(len(q)))
    return total / 2 / len(scores[0])


def slow_scores(module: SwAV, latent: Tensor) -> Array:
    z = module.projector(latent).detach().double().numpy()
    prototypes = module.prototypes.detach().double().numpy()
    return np.array([[sim(one, prototype) for prototype in prototypes] for one in z])


def test_the_pure_loss_equals_slow_loops() -> None:
    random = np.random.default_rng(0)
    scores = [random.uniform(-1, 1, (9, 4)) for _ in range(2)]
    codes = [random.dirichlet(np.ones(4), 9) for _ in range(2)]

    found = swapped_prediction(
        *(torch.from_numpy(array) for array in (*scores, *codes)), temperature=0.1
    )

    assert found.shape == (9,)
    assert float(found.mean()) == pytest.approx(slow_loss(scores, codes, 0.1), rel=1e-9)


def test_a_batch_that_needs_no_queue_equals_slow_loops() -> None:
    module = make_swav()
    latent, view = latents()
    module(*latents(1))

    term = module(latent, view)

    scores = [slow_scores(module, one) for one in (latent, view)]
    expected = slow_loss(scores, [slow_codes(one) for one in scores], 0.1)
    assert float(term.value.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_small_batch_is_assigned_beside_earlier_latents_of_the_same_view() -> None:
    module = make_swav()
    earlier = [latents(seed, 9) for seed in (1, 2, 3)]
    for pair in earlier:
        module(*pair)
    latent, view = latents(0, 5)

    term = module(latent, view)

    scores, codes = [], []
    for side, own in enumerate((latent, view)):
        stored = torch.cat([pair[side] for pair in earlier])[-24:]
        every = slow_scores(module, torch.cat([own, stored]))
        scores.append(every[:5])
        codes.append(slow_codes(every)[:5])
    assert float(term.value.detach()) == pytest.approx(slow_loss(scores, codes, 0.1), rel=1e-5)


def test_the_prediction_is_swapped() -> None:
    """Codes of the one view that the other view predicts well, and its own badly, cost little."""
    high, low = torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0, 1.0]])
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])

    assert swapped_prediction(high, low, other, one, temperature=0.1) < 1e-6
    assert swapped_prediction(high, low, one, other, temperature=0.1) > 10


def test_latents_and_prototypes_learn_but_not_the_codes() -> None:
    module = make_swav()
    latent, view = latents()

    term = module(latent, view)
    (term.value + term.own).backward()

    for tensor in (latent, view, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.any()
    assert not module.recent.requires_grad


def test_prototypes_stay_during_the_warm_up() -> None:
    module = make_swav(warmup_steps=3)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    before = module.prototypes.detach().clone()
    for seed in range(4):
        torch.testing.assert_close(module.prototypes.detach(), before)
        term: LossTerm = module(*latents(seed))
        optimizer.zero_grad()
        term.value.backward()
        assert (module.prototypes.grad is None) == (seed < 3)
        optimizer.step()

    assert (module.prototypes.detach() - before).abs().max() > 1e-3


def test_prototypes_have_length_one_in_every_step() -> None:
    module = make_swav()
    with torch.no_grad():
        module.prototypes.mul_(3.0)

    module(*latents())

    torch.testing.assert_close(module.prototypes.detach().norm(dim=1), torch.ones(6))


def test_evaluation_changes_nothing_and_sees_prototypes_of_length_one() -> None:
    module = make_swav(warmup_steps=0)
    with torch.no_grad():
        module.prototypes.mul_(3.0)
    module.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    value = module(*latents()).value

    for name, now in module.state_dict().items():
        torch.testing.assert_close(now, before[name], rtol=0, atol=0)
    torch.testing.assert_close(module.train()(*latents()).value, value)


def test_training_predicts_codes_and_uses_every_prototype() -> None:
    module = make_swav()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    values = []
    for seed in range(80):
        term = module(*latents(seed))
        optimizer.zero_grad()
        term.value.backward()
        optimizer.step()
        values.append(float(term.value.detach()))

    assert np.mean(values[-5:]) < math.log(6) - 0.3
    latent, _ = latents(99, 200)
    nearest = (unit(module.projector(latent)) @ module.prototypes.T).argmax(1)
    assert len(nearest.unique()) == 6


def test_the_empty_batch_costs_nothing() -> None:
    module = make_swav()

    value = module(*latents(0, 0)).value

    assert float(value.detach()) == 0
    assert value.requires_grad
