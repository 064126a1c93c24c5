"""With the weights of a public implementation our backbones give its logits.

The fixtures are of deepctr-torch 0.3.0 and made by make_fixtures.py; nothing of it is needed here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aqcl.backbones import BACKBONES
from aqcl.batch import Batch
from aqcl.contracts import Facts
from aqcl.schema import Field, Schema
from tests.model_inputs import make_backbone, predict

DIM, LONGEST = 4, 6
SCHEMA = Schema(
    n_users=8,
    n_items=11,
    n_user_entities=8,
    n_item_entities=11,
    fields=(Field("brand", "categorical", "item", size=6),),
)

Weights = dict[str, Tensor]
Copy = Callable[[nn.Module, Weights], None]


def copy(target: Tensor, source: Tensor) -> None:
    """Copy a weight; the shapes must agree."""
    assert target.shape == source.shape, (target.shape, source.shape)
    target.copy_(source)


def copy_linear(target: nn.Linear, weights: Weights, name: str) -> None:
    copy(target.weight, weights[f"{name}.weight"])
    if target.bias is not None:
        copy(target.bias, weights[f"{name}.bias"])


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def copy_tables(target: nn.Module, weights: Weights, prefix: str) -> None:
    """The tables of an `Embeddings`."""
    for name, table in (("user", "user_table"), ("item", "item_table")):
        copy(target.get_parameter(table), weights[f"{prefix}embedding_dict.{name}.weight"])
    brand = target.get_parameter("item_attributes.weights.0")
    copy(brand, weights[f"{prefix}embedding_dict.brand.weight"])


def copy_top(module: nn.Module, weights: Weights, head: str = "dnn_linear") -> None:
    """The top network and the head, whose inputs stand in the same order."""
    for number, layer in enumerate(linears(module.get_submodule("top"))):
        copy_linear(layer, weights, f"dnn.linears.{number}")
    last = module.get_submodule("head")
    assert isinstance(last, nn.Linear)
    copy(last.weight, weights[f"{head}.weight"])
    copy(last.bias, weights["out.bias"])


def copy_attention(attention: nn.Module, weights: Weights, prefix: str) -> None:
    first, *rest, last = linears(attention)
    for number, layer in enumerate([first, *rest]):
        copy_linear(layer, weights, f"{prefix}.dnn.linears.{number}")
    copy_linear(last, weights, f"{prefix}.dense")


def copy_wide(module: nn.Module, weights: Weights) -> None:
    """First-order weights; our crosses, which the library does not have, stay at zero."""
    copy_tables(module.get_submodule("first_order.weights"), weights, "linear_model.")
    copy_top(module, weights)


def copy_dcn(module: nn.Module, weights: Weights) -> None:
    for number, layer in enumerate(linears(module.get_submodule("crosses"))):
        copy(layer.weight, weights["crossnet.kernels"][number])
        copy(layer.bias, weights["crossnet.bias"][number].squeeze(1))
    copy_top(module, weights)


def copy_autoint(module: nn.Module, weights: Weights) -> None:
    for number, layer in enumerate(module.get_submodule("interactions").children()):
        names = ("W_Query", "W_key", "W_Value")
        joined = torch.cat([weights[f"int_layers.{number}.{name}"].T for name in names])
        copy(layer.get_parameter("query_key_value.weight"), joined)
        copy(layer.get_parameter("residual.weight"), weights[f"int_layers.{number}.W_Res"].T)
    copy_top(module, weights)


def copy_din(module: nn.Module, weights: Weights) -> None:
    """Our top network also sees interest * candidate, which gets no weight here."""
    copy_attention(module.get_submodule("attention"), weights, "attention.local_att")
    wide = weights["dnn.linears.0.weight"]
    weights["dnn.linears.0.weight"] = torch.cat([wide, torch.zeros(len(wide), 2 * DIM)], dim=1)
    copy_top(module, weights)


def copy_dien(module: nn.Module, weights: Weights) -> None:
    """Our top network takes the interest behind user and candidate, theirs before them.

    Their attention ends with a bias, which the softmax behind it cancels; ours has none there.
    """
    evolving = "interest_evolution"
    copy_attention(module.get_submodule("attention"), weights, f"{evolving}.attention.local_att")
    for name, parameter in module.get_submodule("extractor").named_parameters():
        copy(parameter, weights[f"interest_extractor.gru.{name}"])
    for ours, theirs in (("of_input", "ih"), ("of_state", "hh")):
        for kind in ("weight", "bias"):
            parameter = module.get_parameter(f"evolution.{ours}.{kind}")
            copy(parameter, weights[f"{evolving}.{evolving}.rnn.{kind}_{theirs}"])
    interest, others = weights["dnn.linears.0.weight"].split([2 * DIM, 3 * DIM], dim=1)
    weights["dnn.linears.0.weight"] = torch.cat([others, interest], dim=1)
    copy_top(module, weights, head="linear")


MODELS: dict[str, tuple[Copy, dict[str, Any]]] = {
    "wide-deep": (copy_wide, {}),
    "deepfm": (copy_wide, {}),
    "dcn-v2": (copy_dcn, {"n_cross_layers": 3}),
    "autoint": (copy_autoint, {"n_layers": 2, "n_heads": 2}),
    "din": (copy_din, {"activation": "relu"}),
    "dien": (copy_dien, {"activation": "relu"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_library(name: str) -> None:
    path = Path(__file__).with_name(f"{name.replace('-', '_')}.safetensors")
    stored = load_file(path)
    weights = {
        key.removeprefix("weights."): value
        for key, value in stored.items()
        if key.startswith("weights.")
    }
    copy_weights, options = MODELS[name]
    brands = np.asarray(stored["brand_of_item"], dtype=np.int32)[:, None]
    facts = Facts(SCHEMA, {"brand": brands}, mean_activity=3.0, max_history=LONGEST)
    module, backbone = make_backbone(BACKBONES[name], facts, **options)
    with torch.no_grad():
        copy_tables(module.get_submodule("embeddings"), weights, "")
        copy_weights(module, weights)
    module.eval()

    logits = predict(backbone, batch_of(stored))

    torch.testing.assert_close(logits, stored["logits"], rtol=0, atol=1e-5)
    assert logits.std() > 0.05


def batch_of(stored: Weights) -> Batch:
    """The samples of a fixture."""
    lengths = stored["lengths"]
    return Batch(
        user=stored["user"],
        item=stored["item"],
        label=torch.zeros(len(lengths)),
        activity=lengths.float(),
        history=stored["history"],
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        segment=torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        context={},
    )
