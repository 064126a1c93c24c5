"""DMR is two attentions and a dot product in loops over samples and clicks."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from aqcl.backbones.dmr import DMR, QueriedAttention
from aqcl.batch import Batch
from aqcl.contracts import Attentive, Facts
from aqcl.schema import UNKNOWN, Schema
from aqcl.views import ViewOptions, augment
from tests.backbones.slow_models import (
    assert_logits,
    clicks_of,
    deep,
    embeddings_of,
    entity_vectors,
    field_vectors,
    make_model,
)
from tests.model_inputs import SCHEMAS, make_backbone, make_batch, make_facts, predict

Array = npt.NDArray[np.float64]


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> Schema:
    return SCHEMAS[request.param]


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def make_dmr(facts: Facts, **options: Any) -> DMR:
    module, _ = make_model(DMR, facts, activation="relu", position_dim=3, **options)
    assert isinstance(module, DMR)
    return module.eval()


def slow_prelu(network: nn.Module, x: Array) -> Array:
    """PReLU(W x + b)."""
    linear, prelu = network.children()
    assert isinstance(linear, nn.Linear)
    x = array(linear.weight) @ x + array(linear.bias)
    result: Array = np.where(x > 0, x, array(prelu.get_parameter("weight")) * x)
    return result


def slow_scores(
    attention: QueriedAttention, clicks: list[Array], candidate: list[Array]
) -> list[float]:
    """The score of each click before the softmax."""
    scores = []
    for place, click in enumerate(clicks):
        position = array(attention.table)[len(clicks) - 1 - place]
        query = slow_prelu(attention.query, np.concatenate([*candidate, position]))
        x = np.concatenate([query, click, query - click, query * click])
        unit = attention.unit
        for layer in (unit.first, unit.rest[0]):
            assert isinstance(layer, nn.Linear)
            x = 1.0 / (1.0 + np.exp(-(array(layer.weight) @ x + array(layer.bias))))
        bias = sum(value.item() for name, value in unit.last.named_parameters() if name == "bias")
        scores.append(float((array(unit.last.weight) @ x)[0]) + bias)
    return scores


def slow_attended(scores: list[float], clicks: list[Array], width: int) -> Array:
    exponentials = [np.exp(score) for score in scores]
    total = np.zeros(width)
    for one, click in zip(exponentials, clicks, strict=True):
        total += one / sum(exponentials) * click
    return total


def slow_logit(dmr: DMR, facts: Facts, batch: Batch, row: int) -> float:
    embeddings = embeddings_of(dmr)
    items = clicks_of(batch, row)
    clicks = [np.concatenate(entity_vectors(embeddings, facts, "item", item)) for item in items]
    fields = field_vectors(embeddings, facts, batch, row)
    n_user, n_item = (1 + len(facts.schema.on(side)) for side in ("user", "item"))
    user, candidate = fields[:n_user], np.concatenate(fields[n_user : n_user + n_item])
    context = fields[n_user + 2 * n_item :]

    alone = slow_scores(dmr.without_candidate, clicks, [])
    of_user = slow_prelu(dmr.project, slow_attended(alone, clicks, len(candidate)))
    table = embeddings.output_table
    assert table is not None
    relevance = float(of_user @ array(table)[int(batch.item[row])])
    scores = slow_scores(dmr.with_candidate, clicks, [candidate])
    history = slow_attended(scores, clicks, len(candidate))
    numbers = np.array([relevance, sum(scores)])
    return deep(dmr, [*user, candidate, *context, history, numbers])


def test_the_logit_is_that_of_slow_loops(schema: Schema) -> None:
    facts, batch = make_facts(schema), make_batch(schema)
    dmr = make_dmr(facts)

    logits = predict(dmr, batch)

    assert_logits(logits, [slow_logit(dmr, facts, batch, row) for row in range(len(batch))])


def test_the_latest_click_has_position_0(schema: Schema) -> None:
    dmr = make_dmr(make_facts(schema))
    latest = make_batch(schema, (1, 3))
    before = predict(dmr, latest)

    with torch.no_grad():
        dmr.with_candidate.table[1:] += 1
        dmr.without_candidate.table[1:] += 1
    after = predict(dmr, latest)

    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_candidate_unknown_to_training_has_no_relevance(schema: Schema) -> None:
    module, dmr = make_backbone(DMR, make_facts(schema))
    assert isinstance(dmr, DMR)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for new in (False, True):  # drawn negatives may be
        predict(dmr, make_batch(schema, unseen=new)).sum().backward()
    optimizer.step()
    module.eval()

    known = dmr.relevance(dmr.embed(make_batch(schema)))
    unseen = dmr.relevance(dmr.embed(make_batch(schema, unseen=True)))

    assert not unseen.any()
    assert known[torch.tensor([1, 2, 4, 5])].all()


def test_id_dropout_hides_the_output_vector_of_the_candidate_too() -> None:
    _, dmr = make_backbone(DMR, make_facts(), id_dropout=0.5)
    assert isinstance(dmr, DMR)
    batch = make_batch(lengths=[1] * 50)

    embedded = dmr.embed(batch)

    unknown = (embedded.item[:, 0] == dmr.embeddings.item_table[UNKNOWN]).all(1)
    hidden = dmr.relevance(embedded) == 0
    assert torch.equal(hidden, unknown)
    assert hidden.any()
    assert not hidden.all()


def test_a_view_has_the_output_vectors_of_the_sample(schema: Schema) -> None:
    dmr = make_dmr(make_facts(schema))
    assert isinstance(dmr, Attentive)
    embedded = dmr.attend(dmr.embed(make_batch(schema)))
    options = ViewOptions(mask_rate=0.0, bit_rate=0.9)

    view = augment(embedded, options, torch.Generator().manual_seed(0))
    restored = dataclasses.replace(view, history=embedded.history)

    assert not torch.equal(view.item, embedded.item)
    assert torch.equal(dmr.relevance(restored), dmr.relevance(embedded))


def test_without_clicks_the_history_is_the_zero_vector(schema: Schema) -> None:
    dmr = make_dmr(make_facts(schema))
    seen: list[Tensor] = []
    dmr.top.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    predict(dmr, make_batch(schema, (0, 2)))

    width = dmr.embeddings.item_width
    history, total = seen[0][:, -width - 2 : -2], seen[0][:, -1]
    assert not history[0].any()
    assert total[0] == 0.0
    assert history[1].all()
    assert total[1] != 0.0
