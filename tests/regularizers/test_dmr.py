"""DMR's matching loss against slow NumPy, and what it sees."""

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
from aqcl.regularizers.dmr import DMR, full_loss, sampled_loss
from aqcl.schema import FIRST_ID
from tests.model_inputs import WITH_FIELDS, make_backbone, make_batch, make_facts, small_options
from tests.objectives import make_step

Array = npt.NDArray[np.float64]
LENGTHS = (0, 4, 1, 2, 0, 6)
COUNTING = (1, 3, 5)
"""The rows of LENGTHS with two clicks or more."""


def sigmoid(x: Array) -> Array:
    result: Array = 1.0 / (1.0 + np.exp(-x))
    return result


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def make_dmr(lengths: Sequence[int] = LENGTHS, **options: Any) -> tuple[DMR, Step]:
    """A regularizer with weights large enough to tell right from wrong."""
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(DIN, facts, id_dropout=0.0)
    regularizer = DMR.create(facts, backbone, small_options(DMR, **options))
    with torch.no_grad():
        for parameter in regularizer.parameters():
            parameter.normal_(std=0.5)
    return regularizer, make_step(Objective(module, {}), make_batch(WITH_FIELDS, lengths))


def slow_user(dmr: DMR, clicks: Array) -> Array:
    """u_{T-1} of the clicks of one row, one click after the other."""
    layers = [dmr.attention.first, dmr.attention.rest[0]]
    query, scores = array(dmr.query), []
    for click in clicks[:-1]:
        hidden = np.concatenate([query, click, query - click, query * click])
        for layer in layers:
            assert isinstance(layer, torch.nn.Linear)
            hidden = sigmoid(array(layer.weight) @ hidden + array(layer.bias))
        scores.append(float((array(dmr.attention.last.weight) @ hidden)[0]))
    total = sum(math.exp(score) for score in scores)
    interest = np.zeros_like(query)
    for score, click in zip(scores, clicks, strict=False):
        interest += math.exp(score) / total * click
    linear, prelu = dmr.project
    assert isinstance(linear, torch.nn.Linear)
    x = array(linear.weight) @ interest + array(linear.bias)
    slope = array(next(prelu.parameters()))
    user: Array = np.where(x > 0, x, slope * x)
    return user


def minus_log_sigmoid(x: float) -> float:
    return math.log1p(math.exp(-x))


def slow_sampled(user: Array, outputs: Array, latest: int, negatives: Sequence[int]) -> float:
    loss = minus_log_sigmoid(float(user @ outputs[latest]))
    for item in negatives:
        loss += minus_log_sigmoid(-float(user @ outputs[item]))
    return loss


def slow_full(user: Array, outputs: Array, latest: int) -> float:
    exponentials = {item: math.exp(user @ outputs[item]) for item in range(FIRST_ID, len(outputs))}
    return -math.log(exponentials[latest] / sum(exponentials.values()))


def slow_rows(dmr: DMR, step: Step) -> list[tuple[Array, int]]:
    """The user vector and the latest click of each row that counts."""
    offsets, history = step.batch.offsets.tolist(), array(step.embedded.history_vectors)
    rows = []
    for row in COUNTING:
        start, stop = offsets[row : row + 2]
        user = slow_user(dmr, history[start:stop])
        rows.append((user, int(step.batch.history[stop - 1])))
    return rows


def test_the_sampled_loss_equals_slow_loops() -> None:
    dmr, step = make_dmr(n_negatives=3)
    expected_rows, outputs = slow_rows(dmr, step), array(dmr.outputs)
    state = step.generator.get_state()
    drawn = torch.randint(FIRST_ID, WITH_FIELDS.n_items, (3, 3), generator=step.generator)
    step.generator.set_state(state)

    term = dmr.loss(step)

    losses = [
        slow_sampled(user, outputs, latest, negatives)
        for (user, latest), negatives in zip(expected_rows, drawn.tolist(), strict=True)
    ]
    assert float(term.value.detach()) == pytest.approx(np.mean(losses), rel=1e-6)
    assert torch.equal(term.logs["value"], term.value.detach())
    assert float(term.own) == 0.0


def test_the_full_loss_equals_slow_loops() -> None:
    dmr, step = make_dmr(loss="full")

    value = dmr.loss(step).value.detach()

    outputs = array(dmr.outputs)
    losses = [slow_full(user, outputs, latest) for user, latest in slow_rows(dmr, step)]
    assert float(value) == pytest.approx(np.mean(losses), rel=1e-6)


def test_the_pure_losses_in_closed_form() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.float64)
    latest, negatives = torch.tensor([4, 1]), torch.tensor([[0, 2], [3, 3]])
    outputs = torch.randn(5, 3, dtype=torch.float64)

    assert float(sampled_loss(nothing, outputs, latest, negatives)) == pytest.approx(
        3 * math.log(2)
    )
    assert float(full_loss(nothing, outputs, latest)) == pytest.approx(math.log(5))
    assert float(sampled_loss(nothing[:0], outputs, latest[:0], negatives[:0])) == 0.0
    assert float(full_loss(nothing[:0], outputs, latest[:0])) == 0.0


@pytest.mark.parametrize("loss", ["sampled", "full"])
def test_the_candidate_and_the_other_samples_do_not_matter(loss: str) -> None:
    dmr, step = make_dmr((0, 4, 1, 1), loss=loss)
    other = make_batch(WITH_FIELDS, (0, 4, 1, 1), seed=9)
    changed = dataclasses.replace(step.embedded, item=step.embedded.item + 1)

    before = dmr.loss(step).value
    step.generator.manual_seed(0)
    after = dmr.loss(dataclasses.replace(step, embedded=changed)).value
    step.generator.manual_seed(0)
    single = torch.cat([step.batch.history[:4], other.history[4:]])
    batch = dataclasses.replace(step.batch, history=single)
    alone = dmr.loss(dataclasses.replace(step, batch=batch)).value

    assert torch.equal(after, before)
    assert torch.equal(alone, before)


def test_the_vector_of_the_latest_click_is_not_seen() -> None:
    dmr, step = make_dmr((3,), loss="full")
    changed = step.embedded.history.clone()
    changed[2] += 1

    before = dmr.loss(step).value
    after = dmr.loss(
        dataclasses.replace(step, embedded=dataclasses.replace(step.embedded, history=changed))
    ).value

    assert torch.equal(after, before)


def test_masked_clicks_do_not_count() -> None:
    dmr, step = make_dmr((4, 2), loss="full")
    keep = torch.tensor([True, False, True, False, True, False])
    masked = dataclasses.replace(step.embedded, keep=keep)

    value = dmr.loss(dataclasses.replace(step, embedded=masked)).value.detach()

    clicks = array(step.embedded.history_vectors)[[0, 2]]
    latest = int(step.batch.history[2])
    expected = slow_full(slow_user(dmr, clicks), array(dmr.outputs), latest)
    assert float(value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["sampled", "full"])
@pytest.mark.parametrize("lengths", [(), (0,), (1, 0, 1)], ids=str)
def test_without_a_second_click_the_loss_is_zero(lengths: tuple[int, ...], loss: str) -> None:
    dmr, step = make_dmr(lengths, loss=loss)

    value = dmr.loss(step).value
    value.backward()

    assert float(value.detach()) == 0.0
    for parameter in dmr.parameters():
        assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.parametrize("loss", ["sampled", "full"])
def test_a_latest_click_that_training_does_not_know_is_not_predicted(loss: str) -> None:
    dmr, step = make_dmr((3, 2), loss=loss)
    history = step.batch.history.clone()
    history[-1] = WITH_FIELDS.n_items
    known, first = dmr.loss(step).value, make_dmr((3,), loss=loss)[1]
    step.generator.manual_seed(0)

    value = dmr.loss(
        dataclasses.replace(step, batch=dataclasses.replace(step.batch, history=history))
    ).value

    assert value.isfinite()
    assert not torch.equal(value, known)
    alone = dataclasses.replace(
        first,
        embedded=dataclasses.replace(first.embedded, history=step.embedded.history[:3]),
        batch=dataclasses.replace(first.batch, history=history[:3]),
    )
    torch.testing.assert_close(dmr.loss(alone).value, value)
