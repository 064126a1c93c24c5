"""DIEN's auxiliary loss against slow NumPy, on backbones with and without states."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from aqcl.backbones.din import DIN
from aqcl.backbones.sasrec import SASRec
from aqcl.contracts import Backbone, Sequential, Step
from aqcl.objective import Objective
from aqcl.regularizers.dien import DIEN, next_click_loss
from aqcl.schema import FIRST_ID
from tests.model_inputs import WITH_FIELDS, make_backbone, make_batch, make_facts, small_options
from tests.objectives import make_step

Array = npt.NDArray[np.float64]
LENGTHS = (0, 4, 1, 2, 0, 6)
N_PAIRS = 3 + 1 + 5


def sigmoid(x: Array) -> Array:
    result: Array = 1.0 / (1.0 + np.exp(-x))
    return result


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def make_dien(
    lengths: Sequence[int] = LENGTHS, cls: type[Backbone] = DIN, **options: Any
) -> tuple[DIEN, Step]:
    """A regularizer with weights large enough to tell right from wrong."""
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(cls, facts, id_dropout=0.0)
    regularizer = DIEN.create(facts, backbone, small_options(DIEN, hidden_sizes=[6, 5], **options))
    with torch.no_grad():
        for parameter in regularizer.parameters():
            parameter.normal_(std=0.5)
    module.eval()
    return regularizer, make_step(Objective(module, {}), make_batch(WITH_FIELDS, lengths))


def slow_states(gru: nn.GRU, clicks: Array) -> list[Array]:
    """The states of one history; PyTorch's update gate is the share of the old state."""
    weights = [array(gru.get_parameter(f"weight_{part}_l0")) for part in ("ih", "hh")]
    biases = [array(gru.get_parameter(f"bias_{part}_l0")) for part in ("ih", "hh")]
    state, states = np.zeros(gru.hidden_size), []
    for click in clicks:
        of_click = np.split(weights[0] @ click + biases[0], 3)
        of_state = np.split(weights[1] @ state + biases[1], 3)
        reset, old = sigmoid(of_click[0] + of_state[0]), sigmoid(of_click[1] + of_state[1])
        new = np.tanh(of_click[2] + reset * of_state[2])
        state = (1 - old) * new + old * state
        states.append(state)
    return states


def slow_probability(dien: DIEN, x: Array) -> float:
    for layer in (m for m in dien.network.modules() if isinstance(m, nn.Linear)):
        x = sigmoid(array(layer.weight) @ x + array(layer.bias))
    return float(x[0])


def slow_loss(dien: DIEN, step: Step, rows_of_states: list[list[Array]], drawn: Tensor) -> float:
    """The loss with the states of each history and the drawn items in the order of the clicks."""
    history, offsets = array(step.embedded.history_vectors), step.batch.offsets.tolist()
    items = iter(array(step.backbone.embed_items(drawn).flatten(1)))
    hits, misses = [], []
    for row, states in enumerate(rows_of_states):
        clicks = history[offsets[row] : offsets[row + 1]]
        for t in range(len(clicks) - 1):
            hits.append(np.concatenate([states[t], clicks[t + 1]]))
            misses.append(np.concatenate([states[t], next(items)]))
    assert len(hits) == len(drawn)
    mean, variance = np.mean(hits + misses, axis=0), np.var(hits + misses, axis=0)
    total = 0.0
    for hit, miss in zip(hits, misses, strict=True):
        total -= math.log(slow_probability(dien, (hit - mean) / np.sqrt(variance + 1e-3)))
        total -= math.log(1 - slow_probability(dien, (miss - mean) / np.sqrt(variance + 1e-3)))
    return total / len(hits)


def what_is_drawn(step: Step, n_items: int) -> Tensor:
    state = step.generator.get_state()
    drawn = torch.randint(FIRST_ID, WITH_FIELDS.n_items, (n_items,), generator=step.generator)
    step.generator.set_state(state)
    return drawn


def test_with_its_own_gru_it_equals_slow_loops() -> None:
    dien, step = make_dien()
    assert dien.gru is not None
    drawn, clicks = what_is_drawn(step, N_PAIRS), array(step.embedded.history_vectors)
    rows = np.split(clicks, step.batch.offsets[1:-1].tolist())

    term = dien.loss(step)

    expected = slow_loss(dien, step, [slow_states(dien.gru, row) for row in rows], drawn)
    assert float(term.value.detach()) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(term.logs["value"], term.value.detach())
    assert float(term.own) == 0.0


def test_with_the_states_of_the_backbone_it_equals_slow_loops() -> None:
    dien, step = make_dien(cls=SASRec)
    assert dien.gru is None
    assert isinstance(step.backbone, Sequential)
    drawn, states = what_is_drawn(step, N_PAIRS), array(step.backbone.states(step.embedded))
    rows = [list(row) for row in np.split(states, step.batch.offsets[1:-1].tolist())]

    value = dien.loss(step).value

    expected = slow_loss(dien, step, rows, drawn)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-6)
    value.backward()
    block = step.backbone
    assert isinstance(block, SASRec)
    assert all(p.grad is not None and p.grad.any() for p in block.norm.parameters())


def test_the_pure_loss_in_closed_form() -> None:
    nothing = torch.zeros(3, dtype=torch.float64)

    assert float(next_click_loss(nothing, nothing)) == pytest.approx(2 * math.log(2))
    assert float(next_click_loss(nothing[:0], nothing[:0])) == 0.0
    assert float(next_click_loss(nothing + 50, nothing - 50)) == pytest.approx(0.0, abs=1e-12)


def test_a_masked_click_is_as_good_as_absent() -> None:
    dien, step = make_dien((4, 2))
    keep = torch.tensor([True, False, True, True, True, False])
    masked = dataclasses.replace(step.embedded, keep=keep)

    value = dien.loss(dataclasses.replace(step, embedded=masked)).value.detach()

    assert dien.gru is not None
    step.generator.manual_seed(0)
    drawn = what_is_drawn(step, 2)
    shorter = dataclasses.replace(
        step,
        embedded=masked.without_masked(),
        batch=dataclasses.replace(step.batch, offsets=torch.tensor([0, 3, 4])),
    )
    clicks = array(shorter.embedded.history_vectors)
    states = [slow_states(dien.gru, clicks[:3]), slow_states(dien.gru, clicks[3:])]
    assert float(value) == pytest.approx(slow_loss(dien, shorter, states, drawn), rel=1e-6)


@pytest.mark.parametrize("cls", [DIN, SASRec])
@pytest.mark.parametrize("lengths", [(), (0,), (1, 0, 1)], ids=str)
def test_without_a_second_click_the_loss_is_zero(
    lengths: tuple[int, ...], cls: type[Backbone]
) -> None:
    dien, step = make_dien(lengths, cls)

    value = dien.loss(step).value
    value.backward()

    assert float(value.detach()) == 0.0
    for parameter in dien.parameters():
        assert parameter.grad is None or not parameter.grad.any()


def test_every_known_item_is_drawn_and_no_other() -> None:
    dien, step = make_dien((6,) * 30)
    drawn: list[Tensor] = []
    look_up = step.backbone.embed_items

    def watched(ids: Tensor) -> Tensor:
        drawn.append(ids)
        return look_up(ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step.backbone, "embed_items", watched)
        dien.loss(step)

    assert set(torch.cat(drawn).tolist()) == set(range(FIRST_ID, WITH_FIELDS.n_items))
