"""Writes the fixtures beside this file: weights, inputs and logits of deepctr-torch's models.

It needs an environment of its own, since the package does not depend on that library:

    pip install torch==2.13.0 deepctr-torch==0.3.0 requests safetensors
    python tests/fidelity/make_fixtures.py

The tests read the fixtures and need nothing of this.
"""

from pathlib import Path
from typing import Any

import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DCN, DIEN, DIN, WDL, AutoInt, DeepFM
from safetensors.torch import save_file

N_USERS, N_ITEMS, N_BRANDS, DIM = 8, 11, 6, 4
LENGTHS = (0, 3, 1, 0, 5, 2, 0)
LONGEST = 6
SIZES = (8, 7)
ATTENTION_SIZES = (6, 5)
SPREAD = 0.4
"""Standard deviation of every weight; the libraries' own is too small to tell models apart."""


def columns(*, shared: bool) -> list[Any]:
    """User, item, the item's brand, and the clicked items and brands."""

    def history(name: str, size: int) -> Any:
        table = SparseFeat(
            f"hist_{name}", size, DIM, embedding_name=name if shared else f"hist_{name}"
        )
        return VarLenSparseFeat(table, maxlen=LONGEST, combiner="mean", length_name="length")

    return [
        SparseFeat("user", N_USERS, DIM),
        SparseFeat("item", N_ITEMS, DIM),
        SparseFeat("brand", N_BRANDS, DIM),
        history("item", N_ITEMS),
        history("brand", N_BRANDS),
    ]


def models() -> dict[str, Any]:
    """The models, with definitions nearest to ours; `regression` leaves the sigmoid out."""
    features = columns(shared=True)
    settings = {"dnn_hidden_units": SIZES, "task": "regression"}
    attention = {"att_activation": "sigmoid"}
    return {
        "wide_deep": WDL(features, features, **settings),
        "deepfm": DeepFM(features, features, **settings),
        "dcn_v2": DCN([], features, cross_num=3, cross_parameterization="matrix", **settings),
        # It counts tables, not fields, so that each field needs one of its own.
        "autoint": AutoInt([], columns(shared=False), att_layer_num=2, att_head_num=2, **settings),
        "din": DIN(
            features, ["item", "brand"], att_hidden_size=ATTENTION_SIZES, **attention, **settings
        ),
        "dien": DIEN(
            features,
            ["item", "brand"],
            gru_type="AUGRU",
            att_hidden_units=ATTENTION_SIZES,
            **attention,
            **settings,
        ),
    }


def inputs(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Ids of a few samples; known ids begin at 2."""

    def ids(upper: int, *shape: int) -> torch.Tensor:
        return torch.randint(2, upper, shape, generator=generator)

    return {
        "user": ids(N_USERS, len(LENGTHS)),
        "item": ids(N_ITEMS, len(LENGTHS)),
        "brand_of_item": ids(N_BRANDS, N_ITEMS),
        "history": ids(N_ITEMS, sum(LENGTHS)),
        "lengths": torch.tensor(LENGTHS),
    }


def matrix(model: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """The samples as the library takes them: one row of numbers each."""
    brands = given["brand_of_item"]
    clicks = given["history"].split(list(LENGTHS))
    padded = torch.stack([torch.cat([c, c.new_zeros(LONGEST - len(c))]) for c in clicks])
    present = torch.arange(LONGEST) < given["lengths"][:, None]
    values = {
        "user": given["user"][:, None],
        "item": given["item"][:, None],
        "brand": brands[given["item"]][:, None],
        "hist_item": padded,
        "hist_brand": brands[padded] * present,
        "length": given["lengths"][:, None],
    }
    return torch.cat([values[name] for name in model.feature_index], dim=1).float()


def main() -> None:
    """Write one file for each model."""
    generator = torch.Generator().manual_seed(0)
    given = inputs(generator)
    for name, model in models().items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, SPREAD, generator=generator)
            tables = model.embedding_dict
            for field in ("item", "brand"):
                if f"hist_{field}" in tables:
                    tables[f"hist_{field}"].weight.copy_(tables[field].weight)
            model.eval()
            logits = model(matrix(model, given)).squeeze(1)
        weights = {f"weights.{key}": value.clone() for key, value in model.state_dict().items()}
        path = Path(__file__).with_name(f"{name}.safetensors")
        save_file({**given, **weights, "logits": logits.contiguous()}, path)


if __name__ == "__main__":
    main()
