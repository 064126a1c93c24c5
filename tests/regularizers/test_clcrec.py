"""CLCRec: its contrast against slow NumPy, and which samples and items count."""

import dataclasses
import math
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
from aqcl.regularizers.clcrec import CLCRec, contrast
from tests.model_inputs import (
    IDS_ONLY,
    WITH_FIELDS,
    make_backbone,
    make_facts,
    small_options,
)
from tests.objectives import make_step, mixed_batch

Array = npt.NDArray[np.float64]


def slow_contrast(
    anchors: Array, positives: Array, negatives: Array, same: npt.NDArray[np.bool_], t: float
) -> Array:
    losses = []
    for j, anchor in enumerate(anchors):
        positive = math.exp(float(np.dot(anchor, positives[j])) / t)
        total = positive
        for k, negative in enumerate(negatives):
            if not same[j, k]:
                total += math.exp(float(np.dot(anchor, negative)) / t)
        losses.append(-math.log(positive / total))
    return np.array(losses)


def rows_of_length_one(x: Array) -> Array:
    return np.array([row / math.sqrt(sum(float(v) ** 2 for v in row)) for row in x])


def make_clcrec(**options: Any) -> tuple[CLCRec, Step]:
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(DIN, facts, id_dropout=0.0)
    regularizer = CLCRec.create(facts, backbone, small_options(CLCRec, **options))
    return regularizer, make_step(Objective(module, {}), mixed_batch())


def with_item(step: Step, item: Tensor) -> Step:
    step.generator.manual_seed(0)
    return dataclasses.replace(step, embedded=dataclasses.replace(step.embedded, item=item))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_contrast_equals_slow_loops(temperature: float) -> None:
    random = torch.Generator().manual_seed(5)
    anchors, positives = torch.randn(2, 7, 4, generator=random, dtype=torch.float64)
    negatives = torch.randn(9, 4, generator=random, dtype=torch.float64)
    same = torch.rand(7, 9, generator=random) < 0.2
    same[3] = True

    losses = contrast(anchors, positives, negatives, same, temperature=temperature)

    expected = slow_contrast(
        anchors.numpy(), positives.numpy(), negatives.numpy(), same.numpy(), temperature
    )
    assert losses.numpy() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(losses[3]) == 0.0


@pytest.mark.parametrize("replace_rate", [0.0, 1.0])
def test_the_whole_loss_mixes_both_contrasts_over_the_clicks(replace_rate: float) -> None:
    regularizer, step = make_clcrec(mix=0.3, replace_rate=replace_rate, temperature=0.5)
    known = torch.arange(2, WITH_FIELDS.n_items)  # 512 draws find each of nine items

    with torch.no_grad():
        value = float(regularizer.loss(step).value)
        drawn = step.backbone.embed_items(known)
        content = regularizer.encode(step.embedded.item).double().numpy()
        others = regularizer.encode(drawn).double().numpy()
        own, user = (x[:, 0].double().numpy() for x in (step.embedded.item, step.embedded.user))
        ids = drawn[:, 0].double().numpy()

    same = (known == step.batch.item[:, None]).numpy()
    one, other, rest = (rows_of_length_one(x) for x in (own, content, others))
    alignment = slow_contrast(one, other, rest, same, 0.5)
    positives, negatives = (content, others) if replace_rate else (own, ids)
    preference = slow_contrast(user, positives, negatives, same, 0.5)
    clicked = step.batch.label.numpy() == 1
    assert value == pytest.approx((0.3 * alignment + 0.7 * preference)[clicked].mean(), rel=1e-5)


def test_half_of_the_items_stand_for_their_content() -> None:
    regularizer, _ = make_clcrec()
    own, content = torch.zeros(4000, 4), torch.ones(4000, 4)

    mixed = regularizer._replace(own, content, torch.Generator().manual_seed(0))

    assert float(mixed.mean()) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(mixed.amin(1), mixed.amax(1))  # whole items, not coordinates


def test_samples_without_a_click_do_not_count() -> None:
    regularizer, step = make_clcrec()
    clicked = step.batch.label == 1
    assert 0 < int(clicked.sum()) < len(clicked)
    item = step.embedded.item

    value = regularizer.loss(with_item(step, item)).value
    moved = torch.where(clicked[:, None, None], item, item + 1.0)
    other = torch.where(clicked[:, None, None], item + 1.0, item)

    assert torch.equal(regularizer.loss(with_item(step, moved)).value, value)
    assert not torch.equal(regularizer.loss(with_item(step, other)).value, value)


def test_a_batch_without_clicks_has_no_loss() -> None:
    regularizer, step = make_clcrec()
    silent = dataclasses.replace(step.batch, label=torch.zeros(len(step.batch)))

    term = regularizer.loss(dataclasses.replace(step, batch=silent))
    term.value.backward()

    assert float(term.value.detach()) == 0.0
    for parameter in regularizer.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_without_item_attributes_it_is_refused() -> None:
    facts = make_facts(IDS_ONLY)
    _, backbone = make_backbone(DIN, facts)

    with pytest.raises(ConfigError, match=r"regularizer\.clcrec: needs item attributes"):
        CLCRec.create(facts, backbone, small_options(CLCRec))
