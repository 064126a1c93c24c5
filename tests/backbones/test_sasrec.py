"""SASRec's states are causal, and padding and batch mates do not touch them."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from aqcl.attention import SelfAttentionBlock
from aqcl.backbones.sasrec import SASRec
from aqcl.contracts import Sequential
from aqcl.errors import ConfigError
from aqcl.schema import Schema
from tests.backbones.slow_models import (
    assert_logits,
    attribute_vectors,
    clicks_of,
    deep,
    embeddings_of,
    entity_vectors,
    make_model,
)
from tests.model_inputs import (
    LENGTHS,
    MAX_HISTORY,
    SCHEMAS,
    make_backbone,
    make_batch,
    make_facts,
    predict,
)


def made(schema: Schema) -> SASRec:
    module, _ = make_backbone(SASRec, make_facts(schema), n_heads=2)
    assert isinstance(module, SASRec)
    return module.eval()


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_the_state_of_a_click_is_that_of_the_history_up_to_it(schema: Schema) -> None:
    model = made(schema)
    batch = make_batch(schema)
    embedded = model.embed(batch)
    assert isinstance(model, Sequential)

    states = model.states(embedded)

    assert states.shape == (sum(LENGTHS), model.state_dim)
    for row, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        own = embedded.history_vectors[start:stop]
        hidden = own + model.positions[: len(own)].flip(0)
        for block in model.blocks:
            everything = torch.ones(1, len(own), dtype=torch.bool)
            hidden = block(hidden[None], everything, causal=True)[0] if len(own) else hidden
        torch.testing.assert_close(states[start:stop], model.norm(hidden), msg=str(row))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_the_logit_is_that_of_the_last_state(schema: Schema) -> None:
    model, batch = made(schema), make_batch(schema)
    embedded = model.embed(batch)

    logit = predict(model, batch)

    states = model.states(embedded)
    for row, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        state = states[stop - 1] if stop > start else torch.zeros(model.state_dim)
        candidate = embedded.item_vector[row]
        parts = [embedded.user[row].flatten(), candidate, state, state * candidate]
        inputs = torch.cat([*parts, embedded.context[row].flatten()])[None]
        latent = model.top(inputs, embedded.activity[[row]])
        torch.testing.assert_close(logit[row], model.head(latent)[0, 0])


def slow_linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return np.asarray(layer.weight.detach().numpy() @ x + layer.bias.detach().numpy())


def slow_norm(norm: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    scaled = (x - x.mean()) / np.sqrt(x.var() + norm.eps)
    return np.asarray(norm.weight.detach().numpy() * scaled + norm.bias.detach().numpy())


def slow_block(block: SelfAttentionBlock, clicks: list[np.ndarray]) -> list[np.ndarray]:
    """The clicks of one history through a block, click by click and head by head."""
    normed = [slow_norm(block.attention_norm, click) for click in clicks]
    parts = [np.split(slow_linear(block.query_key_value, click), 3) for click in normed]
    size, after = len(clicks[0]) // block.n_heads, []
    for now, click in enumerate(clicks):
        mixed = []
        for head in range(block.n_heads):
            own = slice(head * size, (head + 1) * size)
            seen = parts[: now + 1]
            scores = [parts[now][0][own] @ key[own] / np.sqrt(size) for _, key, _ in seen]
            weights = np.exp(scores) / np.exp(scores).sum()
            mixed.append(sum(w * value[own] for w, (*_, value) in zip(weights, seen, strict=True)))
        attended = click + slow_linear(block.mix, np.concatenate(mixed))
        first, last = (m for m in block.network if isinstance(m, nn.Linear))
        hidden = np.maximum(slow_linear(first, slow_norm(block.network_norm, attended)), 0.0)
        after.append(attended + slow_linear(last, hidden))
    return after


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_it_is_its_formula(schema: Schema) -> None:
    facts = make_facts(schema)
    model, backbone = make_model(SASRec, facts, n_heads=2)
    assert isinstance(model, SASRec)
    embeddings, positions = embeddings_of(model), model.positions.detach().numpy()
    # The last history is longer than any that the positions were made for.
    batch = make_batch(schema, (*LENGTHS, MAX_HISTORY + 3))

    expected = []
    for row in range(len(batch)):
        vectors = [entity_vectors(embeddings, facts, "item", c) for c in clicks_of(batch, row)]
        clicks = [
            np.concatenate(vector) + positions[min(len(vectors) - 1 - number, MAX_HISTORY - 1)]
            for number, vector in enumerate(vectors)
        ]
        for block in model.blocks:
            assert isinstance(block, SelfAttentionBlock)
            clicks = slow_block(block, clicks) if clicks else []
        user = entity_vectors(embeddings, facts, "user", int(batch.user[row]))
        item = np.concatenate(entity_vectors(embeddings, facts, "item", int(batch.item[row])))
        state = slow_norm(model.norm, clicks[-1]) if clicks else np.zeros_like(item)
        context = embeddings.context_attributes
        values = [batch.context[field.name][row].item() for field in context.fields]
        parts = [*user, item, state, state * item, *attribute_vectors(context, values)]
        expected.append(deep(model, parts))

    assert_logits(predict(backbone, batch), expected)


def test_dropout_acts_on_the_clicks() -> None:
    model = made(SCHEMAS["ids only"])
    embedded = model.embed(make_batch())
    before = model.states(embedded)

    model.dropout.train()

    assert not torch.equal(model.states(embedded), before)


def test_a_state_does_not_know_later_clicks() -> None:
    model = made(SCHEMAS["ids only"])
    embedded = model.embed(make_batch(lengths=(4,)))
    last = embedded.history.clone()
    last[3] = 9.0

    # The positions count from the latest click, so that the length must stay the same.
    changed = model.states(dataclasses.replace(embedded, history=last))

    torch.testing.assert_close(changed[:3], model.states(embedded)[:3])
    assert not torch.allclose(changed[3], model.states(embedded)[3])


def test_heads_that_do_not_divide_the_width_are_named_by_their_key() -> None:
    message = r"backbone.n_heads = 3 must divide the width 4.*backbone.embedding_dim"
    with pytest.raises(ConfigError, match=message):
        make_backbone(SASRec, make_facts(), n_heads=3)


def test_the_longest_history_fits() -> None:
    model = made(SCHEMAS["ids only"])

    assert predict(model, make_batch(lengths=(MAX_HISTORY, 1))).isfinite().all()
