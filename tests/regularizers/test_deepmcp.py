"""DeepMCP: both losses against slow NumPy, and what each of them sees."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aqcl.backbones.din import DIN
from aqcl.contracts import Step
from aqcl.objective import Objective
from aqcl.regularizers.deepmcp import DeepMCP, correlation_loss, matching_loss
from aqcl.schema import FIRST_ID
from tests.model_inputs import (
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_facts,
    small_options,
)
from tests.objectives import make_step

Array = npt.NDArray[np.float64]


def minus_log_sigmoid(x: float) -> float:
    return -math.log(1.0 / (1.0 + math.exp(-x)))


def slow_matching(user: Array, item: Array, label: Array) -> float:
    total = 0.0
    for j in range(len(label)):
        logit = sum(user[j, d] * item[j, d] for d in range(user.shape[1]))
        total += minus_log_sigmoid(logit if label[j] else -logit)
    return total / len(label)


def slow_correlation(clicks: Array, negatives: Array, lengths: Sequence[int], window: int) -> float:
    """The official code's loss on every (target, context, negatives) that word2vec would list."""
    near, far = [], []
    start = 0
    for length in lengths:
        for target in range(length):
            for context in range(length):
                if context == target or abs(context - target) > window:
                    continue
                t, c = clicks[start + target], clicks[start + context]
                near.append(minus_log_sigmoid(float(np.dot(t, c))))
                drawn = negatives[start + target]
                far.append([minus_log_sigmoid(-float(np.dot(t, n))) for n in drawn])
        start += length
    if not near:
        return 0.0
    return float(np.mean(near) + sum(np.mean(far, axis=0)))


def random_clicks(lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    clicks = torch.randn(sum(lengths), 5, generator=random, dtype=torch.float64)
    negatives = torch.randn(sum(lengths), 3, 5, generator=random, dtype=torch.float64)
    return clicks, negatives, torch.repeat_interleave(torch.tensor(lengths))


def make_deepmcp(lengths: Sequence[int], **options: Any) -> tuple[DeepMCP, Step]:
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(DIN, facts, id_dropout=0.0)
    regularizer = DeepMCP.create(facts, backbone, small_options(DeepMCP, **options))
    return regularizer, make_step(Objective(module, {}), make_batch(WITH_FIELDS, lengths))


@pytest.mark.parametrize("window", [1, 2, 3, 50])
@pytest.mark.parametrize("lengths", [(0, 4, 1, 0, 6, 2, 0), (1, 1), (5,), (0, 0), (2, 2, 2)])
def test_the_correlation_loss_equals_slow_loops(lengths: tuple[int, ...], window: int) -> None:
    clicks, negatives, segment = random_clicks(lengths)

    loss = correlation_loss(clicks, negatives, segment, window=window)

    expected = slow_correlation(clicks.numpy(), negatives.numpy(), lengths, window)
    assert float(loss) == pytest.approx(expected, rel=1e-10)


def test_the_matching_loss_equals_slow_loops() -> None:
    random = torch.Generator().manual_seed(4)
    user, item = torch.randn(2, 9, 6, generator=random, dtype=torch.float64)
    label = (torch.rand(9, generator=random) < 0.5).double()

    loss = matching_loss(user, item, label)

    expected = slow_matching(user.numpy(), item.numpy(), label.numpy())
    assert float(loss) == pytest.approx(expected, rel=1e-10)
    assert float(matching_loss(user[:0], item[:0], label[:0])) == 0.0


def test_the_whole_loss_is_that_of_its_towers() -> None:
    lengths = (0, 3, 1, 5)
    regularizer, step = make_deepmcp(lengths, match=0.7, correlation=0.3, n_negatives=2)
    drawn: list[Tensor] = []
    look_up = step.backbone.embed_items

    def watched(ids: Tensor) -> Tensor:
        drawn.append(ids)
        return look_up(ids)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(step.backbone, "embed_items", watched)
        term = regularizer.loss(step)
        (ids,) = drawn
        history = step.embedded.history.flatten(1)
        rows = [history[step.batch.segment == row] for row in range(len(lengths))]
        means = [one.mean(0) if len(one) else one.sum(0) for one in rows]
        profile = torch.cat([step.embedded.user.flatten(1), torch.stack(means)], dim=1)
        user = regularizer.user_tower(profile).double().numpy()
        item = regularizer.item_tower(step.embedded.item.flatten(1)).double().numpy()
        clicks = regularizer.correlation_tower(history).double().numpy()
        others = regularizer.correlation_tower(look_up(ids).flatten(1)).double().numpy()

    match = slow_matching(user, item, step.batch.label.double().numpy())
    correlation = slow_correlation(clicks, others.reshape(9, 2, -1), lengths, 2)
    assert float(term.logs["match"]) == pytest.approx(match, rel=1e-5)
    assert float(term.logs["correlation"]) == pytest.approx(correlation, rel=1e-5)
    assert float(term.value) == pytest.approx(0.7 * match + 0.3 * correlation, rel=1e-5)


def test_every_known_item_is_drawn_and_no_other() -> None:
    regularizer, step = make_deepmcp((6,) * 30)
    drawn: list[Tensor] = []
    look_up = step.backbone.embed_items

    def watched(ids: Tensor) -> Tensor:
        drawn.append(ids)
        return look_up(ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step.backbone, "embed_items", watched)
        regularizer.loss(step)

    assert set(torch.cat(drawn).tolist()) == set(range(FIRST_ID, WITH_FIELDS.n_items))


def test_masked_clicks_do_not_count() -> None:
    regularizer, step = make_deepmcp((4, 2))
    keep = torch.tensor([True, False, True, True, True, True])
    masked = dataclasses.replace(step.embedded, keep=keep)

    with_mask = regularizer.loss(dataclasses.replace(step, embedded=masked))
    step.generator.manual_seed(0)
    without = regularizer.loss(dataclasses.replace(step, embedded=masked.without_masked()))

    assert torch.equal(with_mask.value, without.value)


def test_without_pairs_of_clicks_only_the_match_is_left() -> None:
    regularizer, step = make_deepmcp((1, 0, 1))

    term = regularizer.loss(step)
    term.value.backward()

    assert float(term.logs["correlation"]) == 0.0
    assert float(term.value.detach()) == pytest.approx(float(term.logs["match"]))
    for parameter in regularizer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
