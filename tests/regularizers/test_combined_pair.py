"""Combined-Pair: the loss against slow loops, and batches that hold no pair."""

import math

import pytest
import torch

from aqcl.backbones.din import DIN
from aqcl.batch import Batch
from aqcl.contracts import Step
from aqcl.objective import Objective
from aqcl.regularizers.combined_pair import CombinedPair, pair_loss
from tests.model_inputs import WITH_FIELDS, make_backbone, make_batch, make_facts, small_options
from tests.objectives import make_step, mixed_batch


def make_combined_pair(pairs: str, batch: Batch) -> tuple[CombinedPair, Step]:
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(DIN, facts)
    regularizer = CombinedPair.create(facts, backbone, small_options(CombinedPair, pairs=pairs))
    return regularizer, make_step(Objective(module, {}), batch)


def slow_loss(logit: list[float], label: list[float], user: list[int] | None) -> float:
    terms = [
        -math.log(1.0 / (1.0 + math.exp(-(logit[i] - logit[j]))))
        for i in range(len(logit))
        for j in range(len(logit))
        if label[i] == 1 and label[j] == 0 and (user is None or user[i] == user[j])
    ]
    assert terms
    return sum(terms) / len(terms)


@pytest.mark.parametrize("by_user", [False, True])
def test_the_loss_equals_slow_loops(by_user: bool) -> None:
    random = torch.Generator().manual_seed(0)
    logit = 3 * torch.randn(40, generator=random, dtype=torch.float64)
    label = (torch.rand(40, generator=random) < 0.3).double()
    user = torch.randint(5, (40,), generator=random) if by_user else None

    found = pair_loss(logit, label, user)

    expected = slow_loss(logit.tolist(), label.tolist(), None if user is None else user.tolist())
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("pairs", ["batch", "user"])
def test_the_logits_of_the_primary_pass_are_paired(pairs: str) -> None:
    batch = mixed_batch()
    regularizer, step = make_combined_pair(pairs, batch)

    term = regularizer.loss(step)

    user = batch.user.tolist() if pairs == "user" else None
    expected = slow_loss(step.logit.tolist(), batch.label.tolist(), user)
    assert float(term.value.detach()) == pytest.approx(expected, rel=1e-5)
    assert term.own.item() == 0


def test_positives_are_pushed_up_and_negatives_down_and_the_mean_stays() -> None:
    logit = torch.tensor([0.3, -1.0, 2.0, 0.0], requires_grad=True)

    pair_loss(logit, torch.tensor([1.0, 0.0, 0.0, 1.0])).backward()

    assert logit.grad is not None
    assert (logit.grad[[0, 3]] < 0).all()
    assert (logit.grad[[1, 2]] > 0).all()
    assert float(logit.grad.sum()) == pytest.approx(0.0, abs=1e-7)


def test_far_apart_logits_are_finite() -> None:
    logit, label = torch.tensor([-1e4, 1e4]), torch.tensor([1.0, 0.0])

    assert float(pair_loss(logit, label)) == pytest.approx(2e4)
    assert float(pair_loss(logit, 1 - label)) == 0


@pytest.mark.parametrize(
    ("label", "user"),
    [
        ([1.0, 1.0, 1.0], None),
        ([0.0, 0.0, 0.0], None),
        ([], None),
        ([1.0], None),
        ([1.0, 0.0, 0.0], [4, 5, 6]),
    ],
)
def test_no_pair_costs_nothing(label: list[float], user: list[int] | None) -> None:
    logit = torch.ones(len(label), requires_grad=True)

    value = pair_loss(logit, torch.tensor(label), None if user is None else torch.tensor(user))
    value.backward()

    assert float(value.detach()) == 0
    assert logit.grad is not None
    assert not logit.grad.any()


def test_the_empty_batch_costs_nothing() -> None:
    regularizer, step = make_combined_pair("batch", make_batch(WITH_FIELDS, ()))

    assert float(regularizer.loss(step).value.detach()) == 0
