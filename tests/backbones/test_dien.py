"""DIEN is a GRU, attention and an AUGRU in loops over samples and clicks."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from aqcl.backbones.dien import DIEN
from aqcl.batch import Batch
from aqcl.contracts import Facts, Sequential
from aqcl.schema import Schema
from tests.backbones.slow_models import (
    assert_logits,
    clicks_of,
    deep,
    embeddings_of,
    entity_vectors,
    field_vectors,
    make_model,
)
from tests.model_inputs import LENGTHS, SCHEMAS, make_batch, make_facts, predict

Array = npt.NDArray[np.float64]


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> Schema:
    return SCHEMAS[request.param]


def sigmoid(x: Array) -> Array:
    result: Array = 1.0 / (1.0 + np.exp(-x))
    return result


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def make_dien(facts: Facts, **options: Any) -> DIEN:
    module, _ = make_model(DIEN, facts, activation="relu", **options)
    assert isinstance(module, DIEN)
    return module.eval()


def slow_states(dien: DIEN, clicks: list[Array]) -> list[Array]:
    """h_t of each click; PyTorch's update gate is the share of the old state."""
    weight = {name: array(value) for name, value in dien.extractor.named_parameters()}
    state, states = np.zeros(dien.state_dim), []
    for click in clicks:
        of_click = np.split(weight["weight_ih_l0"] @ click + weight["bias_ih_l0"], 3)
        of_state = np.split(weight["weight_hh_l0"] @ state + weight["bias_hh_l0"], 3)
        reset, old = sigmoid(of_click[0] + of_state[0]), sigmoid(of_click[1] + of_state[1])
        new = np.tanh(of_click[2] + reset * of_state[2])
        state = (1 - old) * new + old * state
        states.append(state)
    return states


def slow_attention(dien: DIEN, candidate: Array, states: list[Array]) -> list[float]:
    """a_t of each click."""
    exponentials = []
    for state in states:
        x = np.concatenate([candidate, state, candidate - state, candidate * state])
        for layer in (dien.attention.first, dien.attention.rest[0]):
            assert isinstance(layer, nn.Linear)
            x = sigmoid(array(layer.weight) @ x + array(layer.bias))
        exponentials.append(float(np.exp(array(dien.attention.last.weight) @ x)[0]))
    return [one / sum(exponentials) for one in exponentials]


def slow_interest(dien: DIEN, states: list[Array], attention: list[float]) -> Array:
    """The last h'_t: u~_t = a_t u_t and h'_t = (1 - u~_t) h'_{t-1} + u~_t h~_t."""
    of_input, of_state = dien.evolution.of_input, dien.evolution.of_state
    evolved = np.zeros(dien.state_dim)
    for state, share in zip(states, attention, strict=True):
        left = np.split(array(of_input.weight) @ state + array(of_input.bias), 3)
        right = np.split(array(of_state.weight) @ evolved + array(of_state.bias), 3)
        reset, update = sigmoid(left[0] + right[0]), sigmoid(left[1] + right[1])
        new = np.tanh(left[2] + reset * right[2])
        evolved = (1 - share * update) * evolved + share * update * new
    return evolved


def slow_logit(dien: DIEN, facts: Facts, batch: Batch, row: int) -> float:
    embeddings = embeddings_of(dien)
    clicks = [
        np.concatenate(entity_vectors(embeddings, facts, "item", item))
        for item in clicks_of(batch, row)
    ]
    fields = field_vectors(embeddings, facts, batch, row)
    n_user, n_item = (1 + len(facts.schema.on(side)) for side in ("user", "item"))
    user, candidate = fields[:n_user], np.concatenate(fields[n_user : n_user + n_item])
    context = fields[n_user + 2 * n_item :]
    states = slow_states(dien, clicks)
    interest = slow_interest(dien, states, slow_attention(dien, candidate, states))
    return deep(dien, [*user, candidate, interest, *context])


def test_the_logit_is_that_of_slow_loops(schema: Schema) -> None:
    facts, batch = make_facts(schema), make_batch(schema)
    dien = make_dien(facts)

    logits = predict(dien, batch)

    assert_logits(logits, [slow_logit(dien, facts, batch, row) for row in range(len(batch))])


def test_states_are_those_of_slow_loops(schema: Schema) -> None:
    facts, batch = make_facts(schema), make_batch(schema)
    dien = make_dien(facts)
    assert isinstance(dien, Sequential)
    embedded = dien.embed(batch)

    states = dien.states(embedded)

    assert states.shape == (sum(LENGTHS), dien.state_dim)
    rows = np.split(array(embedded.history_vectors), batch.offsets[1:-1].tolist())
    expected = [state for row in rows for state in slow_states(dien, list(row))]
    np.testing.assert_allclose(array(states), expected, rtol=0, atol=1e-12)


def test_an_empty_history_is_the_zero_vector(schema: Schema) -> None:
    dien = make_dien(make_facts(schema))

    interest = dien.interest(dien.embed(make_batch(schema)))

    empty = torch.tensor(LENGTHS) == 0
    assert not interest[empty].any()
    assert interest[~empty].all()


def test_the_order_of_the_clicks_matters(schema: Schema) -> None:
    dien = make_dien(make_facts(schema))
    batch = make_batch(schema, (5,))
    turned = dataclasses.replace(batch, history=batch.history.flip(0))

    assert not torch.isclose(predict(dien, turned), predict(dien, batch)).any()


def test_states_skip_masked_clicks(schema: Schema) -> None:
    dien = make_dien(make_facts(schema))
    embedded = dien.embed(make_batch(schema, (4, 2)))
    keep = torch.tensor([True, False, True, True, False, True])
    masked = dataclasses.replace(embedded, keep=keep)

    torch.testing.assert_close(dien.states(masked), dien.states(masked.without_masked()))
    assert dien.states(masked).shape[0] == 4


def test_the_latest_click_does_not_change_earlier_states(schema: Schema) -> None:
    dien = make_dien(make_facts(schema))
    embedded = dien.embed(make_batch(schema, (4,)))
    history = embedded.history.clone()
    history[3] += 1

    before, after = (
        dien.states(embedded),
        dien.states(dataclasses.replace(embedded, history=history)),
    )

    torch.testing.assert_close(after[:3], before[:3])
    assert not torch.isclose(after[3], before[3]).any()
