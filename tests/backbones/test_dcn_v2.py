"""The cross layers are their equation, and both structures are loops over samples."""

import pytest
import torch
from torch import Tensor, nn

from aqcl.backbones.dcn_v2 import DCNv2
from aqcl.schema import Schema
from tests.model_inputs import SCHEMAS, make_backbone, make_batch, make_facts, predict


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def through(layers: list[nn.Linear], x: Tensor) -> Tensor:
    for layer in layers:
        x = (layer.weight @ x + layer.bias).clamp(min=0)
    return x


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_dcn_is_its_equation(schema: Schema, structure: str) -> None:
    module, backbone = make_backbone(DCNv2, make_facts(schema), structure=structure)
    assert isinstance(module, DCNv2)
    module.eval()
    batch = make_batch(schema)

    logit = predict(backbone, batch)

    for row, inputs in enumerate(module.embeddings.fields(backbone.embed(batch)).flatten(1)):
        crossed = inputs
        for layer in linears(module.crosses):
            products = [
                inputs[i] * (layer.weight[i] @ crossed + layer.bias[i]) for i in range(len(inputs))
            ]
            crossed = torch.stack(products) + crossed
        deep = linears(module.top)
        if structure == "parallel":
            latent = torch.cat([crossed, through(deep, inputs)])
        else:
            latent = through(deep, crossed)
        expected = module.head.weight[0] @ latent + module.head.bias[0]
        torch.testing.assert_close(logit[row], expected)
