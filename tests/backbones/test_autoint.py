"""Attention between fields is a loop over samples, heads and fields."""

import pytest
import torch
from torch import Tensor, nn

from aqcl.backbones.autoint import AutoInt, InteractingLayer
from aqcl.errors import ConfigError
from tests.model_inputs import WITH_FIELDS, make_backbone, make_batch, make_facts, predict


def interacted(layer: InteractingLayer, fields: Tensor) -> Tensor:
    """One sample's fields (F, d) through a layer, field by field."""
    query_weight, key_weight, value_weight = layer.query_key_value.weight.chunk(3)
    size = len(layer.residual.weight) // layer.n_heads
    after = []
    for m in range(len(fields)):
        heads = []
        for head in range(layer.n_heads):
            part = slice(head * size, (head + 1) * size)
            query = query_weight[part] @ fields[m]
            scores = torch.stack([query @ (key_weight[part] @ other) for other in fields])
            values = torch.stack([value_weight[part] @ other for other in fields])
            heads.append((scores.softmax(0)[:, None] * values).sum(0))
        after.append(torch.relu(torch.cat(heads) + layer.residual.weight @ fields[m]))
    return torch.stack(after)


@pytest.mark.parametrize("head_dim", [None, 3])
def test_autoint_is_its_equation(head_dim: int | None) -> None:
    facts = make_facts(WITH_FIELDS)
    module, backbone = make_backbone(AutoInt, facts, n_layers=2, head_dim=head_dim)
    assert isinstance(module, AutoInt)
    module.eval()
    batch = make_batch(WITH_FIELDS)

    logit = predict(backbone, batch)

    for row, fields in enumerate(module.embeddings.fields(backbone.embed(batch))):
        attended, deep = fields, fields.flatten()
        for layer in module.interactions:
            assert isinstance(layer, InteractingLayer)
            attended = interacted(layer, attended)
        for layer in module.top.modules():
            if isinstance(layer, nn.Linear):
                deep = (layer.weight @ deep + layer.bias).clamp(min=0)
        assert attended.shape == (len(fields), 2 * (head_dim or 2))
        latent = torch.cat([attended.flatten(), deep])
        expected = module.head.weight[0] @ latent + module.head.bias[0]
        torch.testing.assert_close(logit[row], expected)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"backbone.n_heads = 3 must divide .*embedding_dim = 4"):
        make_backbone(AutoInt, make_facts(), n_heads=3)
    make_backbone(AutoInt, make_facts(), n_heads=3, head_dim=2)
