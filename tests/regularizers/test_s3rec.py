"""S3-Rec: the loss against slow NumPy, what is hidden, and what a prediction knows."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aqcl.backbones.din import DIN
from aqcl.contracts import Step
from aqcl.errors import ConfigError
from aqcl.objective import Objective
from aqcl.regularizers.s3rec import S3Rec, S3RecOptions, hide, masked_item_loss
from aqcl.schema import FIRST_ID
from tests.model_inputs import (
    LENGTHS,
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_embedded,
    make_facts,
    small_options,
)
from tests.objectives import make_step

Array = npt.NDArray[np.float64]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def slow_loss(predicted: Array, item: Array, negatives: Array) -> float:
    total = 0.0
    for m in range(len(item)):
        positive = sigmoid(float(np.dot(predicted[m], item[m])))
        others = [sigmoid(float(np.dot(predicted[m], one))) for one in negatives[m]]
        mass = math.exp(positive) + sum(math.exp(other) for other in others)
        total -= math.log(math.exp(positive) / mass)
    return total / len(item)


def official_loss(predicted: Array, item: Array, negatives: Array) -> float:
    """Binary cross-entropy of sig(positive score - negative score), as the official code has it."""
    losses = []
    for p, i, (n,) in zip(predicted, item, negatives, strict=True):
        distance = sigmoid(sigmoid(float(np.dot(p, i))) - sigmoid(float(np.dot(p, n))))
        losses.append(-math.log(distance))
    return float(np.mean(losses))


def make_s3rec(lengths: tuple[int, ...], **options: Any) -> tuple[S3Rec, Step]:
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(DIN, facts, id_dropout=0.0)
    regularizer = S3Rec.create(facts, backbone, small_options(S3Rec, **options))
    return regularizer, make_step(Objective(module, {}), make_batch(WITH_FIELDS, lengths))


def watch_items(step: Step, patch: pytest.MonkeyPatch) -> list[Tensor]:
    """The ids of the items that are looked up from now on."""
    drawn: list[Tensor] = []
    look_up: Callable[[Tensor], Tensor] = step.backbone.embed_items

    def watched(ids: Tensor) -> Tensor:
        drawn.append(ids)
        return look_up(ids)

    patch.setattr(step.backbone, "embed_items", watched)
    return drawn


@pytest.mark.parametrize("n_negatives", [1, 3])
def test_the_loss_equals_slow_loops(n_negatives: int) -> None:
    random = torch.Generator().manual_seed(0)
    predicted, item = torch.randn(2, 7, 5, generator=random, dtype=torch.float64)
    negatives = torch.randn(7, n_negatives, 5, generator=random, dtype=torch.float64)

    loss = float(masked_item_loss(predicted, item, negatives))

    arrays = predicted.numpy(), item.numpy(), negatives.numpy()
    assert loss == pytest.approx(slow_loss(*arrays), rel=1e-10)
    if n_negatives == 1:
        assert loss == pytest.approx(official_loss(*arrays), rel=1e-10)


def test_the_whole_loss_is_that_of_its_transformer() -> None:
    regularizer, step = make_s3rec((0, 3, 1, 5), n_negatives=2, mask_rate=0.5, dropout=0.0)
    clicks = step.embedded.history.flatten(1)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        drawn = watch_items(step, patch)
        term = regularizer.loss(step)
        (ids,) = drawn
        negatives = step.backbone.embed_items(ids).flatten(1).double().numpy()
        step.generator.manual_seed(0)
        hidden = hide(step.embedded.segment, step.embedded.offsets, 0.5, step.generator)
        predicted = []
        for row in range(4):
            mine = step.embedded.segment == row
            cells = torch.where(hidden[mine, None], regularizer.mask, clicks[mine])
            cells = cells + regularizer.positions[: len(cells)].flip(0)
            for layer in regularizer.layers:
                cells = layer(cells[None], torch.ones(1, len(cells)).bool(), causal=False)[0]
            states = cells[hidden[mine]]
            predicted.append(regularizer.match(regularizer.norm(states)))
        found = torch.cat(predicted).double().numpy()

    expected = slow_loss(
        found, clicks[hidden].detach().double().numpy(), negatives.reshape(len(found), 2, -1)
    )
    assert float(term.value) == pytest.approx(expected, rel=1e-5)


def test_the_last_click_is_always_hidden_and_the_others_at_the_rate() -> None:
    n_rows, length, rate = 2000, 5, 0.2
    embedded = make_embedded([0, *[length] * n_rows, 0], dim=1)

    hidden = hide(embedded.segment, embedded.offsets, rate, torch.Generator().manual_seed(0))

    by_place = hidden.view(n_rows, length).double().mean(0)
    assert float(by_place[-1]) == 1.0
    error = 5 * math.sqrt(rate * (1 - rate) / n_rows)
    assert by_place[:-1].tolist() == pytest.approx([rate] * (length - 1), abs=error)


def test_a_prediction_knows_the_clicks_on_both_sides_but_not_the_hidden_one() -> None:
    regularizer, step = make_s3rec((5,), dropout=0.0)
    hidden = torch.tensor([False, False, True, False, False])
    before = regularizer.predict(step.embedded, hidden)

    for click in range(5):
        history = step.embedded.history.clone()
        history[click] *= -2.0
        changed = dataclasses.replace(step.embedded, history=history)
        after = regularizer.predict(changed, hidden)
        assert bool((after - before).abs().max() < 1e-6) == (click == 2)


def test_a_prediction_knows_its_own_row_alone() -> None:
    regularizer, step = make_s3rec((2, 4, 3), dropout=0.0)
    hidden = torch.tensor([False, True, False, True, False, False, False, False, True])
    history = step.embedded.history.clone()
    history[2:6] *= -2.0

    before = regularizer.predict(step.embedded, hidden)
    after = regularizer.predict(dataclasses.replace(step.embedded, history=history), hidden)

    same = (after - before).abs().amax(1) < 1e-6
    assert same.tolist() == [True, False, True]


def test_every_known_item_is_drawn_and_no_other() -> None:
    regularizer, step = make_s3rec((6,) * 60)

    with pytest.MonkeyPatch.context() as patch:
        drawn = watch_items(step, patch)
        regularizer.loss(step)

    assert set(torch.cat(drawn).tolist()) == set(range(FIRST_ID, WITH_FIELDS.n_items))


def test_masked_clicks_do_not_count() -> None:
    regularizer, step = make_s3rec((4, 2), dropout=0.0)
    keep = torch.tensor([True, False, True, True, True, True])
    masked = dataclasses.replace(step.embedded, keep=keep)

    with_mask = regularizer.loss(dataclasses.replace(step, embedded=masked))
    step.generator.manual_seed(0)
    without = regularizer.loss(dataclasses.replace(step, embedded=masked.without_masked()))

    assert torch.equal(with_mask.value, without.value)


@pytest.mark.parametrize("lengths", [(), (0, 0), (1,), LENGTHS], ids=str)
def test_small_and_empty_batches_are_legal(lengths: tuple[int, ...]) -> None:
    regularizer, step = make_s3rec(lengths)

    value = regularizer.loss(step).value
    value.backward()

    assert value.isfinite()
    assert bool(value == 0.0) == (sum(lengths) == 0)
    for parameter in regularizer.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_heads_that_do_not_divide_the_width_are_named_by_their_key() -> None:
    facts = make_facts()
    _, backbone = make_backbone(DIN, facts, embedding_dim=5)

    message = r"regularizer.s3rec.n_heads = 2 must divide the width 5.*backbone.embedding_dim"
    with pytest.raises(ConfigError, match=message):
        S3Rec.create(facts, backbone, S3RecOptions())
