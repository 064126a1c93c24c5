"""A factorization machine is its double loop over pairs of fields."""

import pytest
import torch

from aqcl.backbones.fm import FM
from tests.backbones.slow_models import (
    assert_logits,
    embeddings_of,
    field_vectors,
    first_order,
    make_model,
    pair_products,
)
from tests.model_inputs import SCHEMAS, make_backbone, make_batch, make_facts, predict


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_it_is_its_formula(schema: str, unseen: bool) -> None:
    facts = make_facts(SCHEMAS[schema])
    module, backbone = make_model(FM, facts)
    batch = make_batch(facts.schema, unseen=unseen)

    expected = []
    for row in range(len(batch)):
        fields = field_vectors(embeddings_of(module), facts, batch, row)
        latent = pair_products(fields)
        bias = module.get_parameter("bias").item()
        expected.append(latent.sum() + first_order(module, facts, batch, row) + bias)

    assert_logits(predict(backbone, batch), expected)


def test_the_latent_is_the_sum_over_pairs() -> None:
    facts = make_facts(SCHEMAS["with fields"])
    module, backbone = make_model(FM, facts)
    batch = make_batch(facts.schema)

    latent = backbone.encode(backbone.embed(batch))

    for row in range(len(batch)):
        fields = field_vectors(embeddings_of(module), facts, batch, row)
        torch.testing.assert_close(latent[row], torch.from_numpy(pair_products(fields)))


def test_first_order_weights_start_at_zero_and_are_not_penalised() -> None:
    module, backbone = make_backbone(FM, make_facts())
    first_order = list(module.get_submodule("first_order").parameters())

    assert not any(parameter.any() for parameter in first_order)
    penalised = {id(table) for table in backbone.embedding_tables()}
    assert penalised.isdisjoint({id(parameter) for parameter in first_order})
