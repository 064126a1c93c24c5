"""DeepFM is a double loop over pairs of fields and a deep network, summed."""

import dataclasses

import pytest

from aqcl.backbones.deepfm import DeepFM
from tests.backbones.slow_models import (
    assert_logits,
    deep,
    embeddings_of,
    field_vectors,
    first_order,
    make_model,
    pair_products,
)
from tests.model_inputs import SCHEMAS, make_batch, make_facts, predict


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_it_is_its_formula(schema: str, unseen: bool) -> None:
    facts = make_facts(SCHEMAS[schema])
    module, backbone = make_model(DeepFM, facts)
    batch = make_batch(facts.schema, unseen=unseen)

    expected = []
    for row in range(len(batch)):
        fields = field_vectors(embeddings_of(module), facts, batch, row)
        pairs = pair_products(fields).sum()
        expected.append(deep(module, fields) + pairs + first_order(module, facts, batch, row))

    assert_logits(predict(backbone, batch), expected)


def test_pairs_are_those_of_the_view_that_is_predicted() -> None:
    """So a perturbed pass is perturbed in its factorization machine too."""
    _, backbone = make_model(DeepFM, make_facts())
    first = backbone.embed(make_batch(seed=0))
    other = dataclasses.replace(backbone.embed(make_batch(seed=1)), linear=first.linear)
    latent = backbone.encode(first)

    assert (backbone.predict(latent, first) != backbone.predict(latent, other)).all()
