"""The plain control is the mean of the clicks and an MLP, nothing else."""

import pytest

from aqcl.backbones.mean_pool import MeanPool
from tests.backbones.slow_models import (
    assert_logits,
    deep,
    embeddings_of,
    field_vectors,
    make_model,
)
from tests.model_inputs import SCHEMAS, make_batch, make_facts, predict


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_it_is_its_formula(schema: str, unseen: bool) -> None:
    facts = make_facts(SCHEMAS[schema])
    module, backbone = make_model(MeanPool, facts)
    batch = make_batch(facts.schema, unseen=unseen)

    expected = []
    for row in range(len(batch)):
        fields = field_vectors(embeddings_of(module), facts, batch, row)
        expected.append(deep(module, fields))

    assert_logits(predict(backbone, batch), expected)
