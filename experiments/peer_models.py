"""The models of other libraries that attach_peers.py tries, and the columns made for them."""

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ROWS = 2048
USERS, ITEMS, KINDS, LENGTH, DIM = 200, 101, 11, 8, 8
HIDDEN = [32, 16]


class Subject(NamedTuple):
    """A model of another library with the names of its parts."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[nn.Module, dict[str, Tensor]], Any]
    """The argument of the model for some columns."""
    probability: Callable[[Any], Tensor]
    """What the model says, from what it returns."""
    latent: str
    tables: str
    """Where the embedding tables are that lead to the latent."""
    history: list[str]


def made_columns(seed: int) -> dict[str, Tensor]:
    """Users who click on items of few kinds; 0 is padding."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    user, item, length = draw(1, USERS, ROWS), draw(1, ITEMS, ROWS), draw(1, LENGTH + 1, ROWS)
    clicks = draw(1, ITEMS, ROWS, LENGTH) * (torch.arange(LENGTH) < length[:, None])
    kind_of = (torch.arange(ITEMS) - 1) % (KINDS - 1) + 1
    kind_of[0] = 0
    liked = (kind_of[clicks] == kind_of[item][:, None]).any(1)
    chance = torch.rand(ROWS, generator=generator)
    return {
        "user": user,
        "item": item,
        "kind": kind_of[item],
        "hist_item": clicks,
        "hist_kind": kind_of[clicks],
        "length": length,
        "label": (chance < torch.where(liked, 0.8, 0.3)).float(),
    }


def subjects_of(library: str, checkout: Path | None) -> list[Subject]:
    """The models of a library; FuxiCTR's are in a checkout of it."""
    return deepctr_subjects() if library == "deepctr-torch" else fuxictr_subjects(checkout)


def deepctr_subjects() -> list[Subject]:
    """Wide & Deep, DeepFM and DIN of DeepCTR-Torch."""
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import DIN, WDL, DeepFM

    sizes = {"user": USERS, "item": ITEMS, "kind": KINDS}
    fields = [SparseFeat(name, size, embedding_dim=DIM) for name, size in sizes.items()]
    fields += [
        VarLenSparseFeat(
            SparseFeat(f"hist_{name}", sizes[name], embedding_dim=DIM, embedding_name=name),
            maxlen=LENGTH,
            length_name="length",
        )
        for name in ("item", "kind")
    ]
    network = {"dnn_hidden_units": HIDDEN, "dnn_use_bn": True, "dnn_dropout": 0.1}

    def inputs(model: Any, columns: dict[str, Tensor]) -> Tensor:
        return torch.cat(
            [columns[name].view(-1, b - a) for name, (a, b) in model.feature_index.items()], 1
        ).float()

    builders: dict[str, Callable[[], nn.Module]] = {
        "Wide & Deep": lambda: WDL(fields, fields, **network),
        "DeepFM": lambda: DeepFM(fields, fields, **network),
        "DIN": lambda: DIN(fields, ["item", "kind"], **network),
    }
    return [
        Subject(
            name=name,
            build=build,
            inputs=inputs,
            probability=lambda returned: returned.squeeze(1),
            latent="input:dnn_linear",
            tables="embedding_dict.",
            history=["embedding_dict.item", "embedding_dict.kind"],
        )
        for name, build in builders.items()
    ]


def fuxictr_subjects(checkout: Path | None) -> list[Subject]:
    """Wide & Deep, DeepFM and DIN of FuxiCTR."""
    if checkout is None or not (checkout / "model_zoo").is_dir():
        sys.exit("--model-zoo: name a checkout of FuxiCTR, with its folder model_zoo")
    zoo = checkout / "model_zoo"
    wide = imported("wide_deep", zoo / "WideDeep" / "WideDeep_torch" / "src" / "WideDeep.py")
    deep_fm = imported("deep_fm", zoo / "DeepFM" / "DeepFM_torch" / "src" / "DeepFM.py")
    din = imported("din", zoo / "DIN" / "src" / "DIN.py")
    settings = {
        "gpu": -1,
        "optimizer": "adam",
        "loss": "binary_crossentropy",
        "metrics": ["AUC"],
        "verbose": 0,
        "model_root": tempfile.mkdtemp(),
        "embedding_dim": DIM,
        "net_dropout": 0.1,
        "batch_norm": True,
    }
    target, clicks = [("item", "kind")], [("hist_item", "hist_kind")]
    pooled, whole = feature_map("layers.MaskedAveragePooling()"), feature_map(None)
    builders: dict[str, tuple[str, Callable[[], nn.Module]]] = {
        "Wide & Deep": ("dnn", lambda: wide.WideDeep(pooled, hidden_units=HIDDEN, **settings)),
        "DeepFM": ("mlp", lambda: deep_fm.DeepFM(pooled, hidden_units=HIDDEN, **settings)),
        "DIN": (
            "dnn",
            lambda: din.DIN(
                whole,
                dnn_hidden_units=HIDDEN,
                din_target_field=target,
                din_sequence_field=clicks,
                **settings,
            ),
        ),
    }
    subjects = []
    for name, (tower, build) in builders.items():
        tables = "embedding_layer." if name == "DIN" else "embedding_layer.embedding_layer."
        # Linear, BatchNorm, activation and Dropout for each hidden layer, then the last Linear.
        head = f"{tower}.mlp.{4 * len(HIDDEN)}"
        subjects.append(
            Subject(
                name=name,
                build=build,
                inputs=lambda model, columns: {k: v for k, v in columns.items() if k != "length"},
                probability=lambda returned: returned["y_pred"].squeeze(1),
                latent=f"input:{head}",
                tables=tables,
                history=[f"{tables}embedding_layers.hist_{name}" for name in ("item", "kind")],
            )
        )
    return subjects


def feature_map(pooling: str | None) -> Any:
    """The columns as FuxiCTR describes them; histories share the tables of the candidate."""
    from fuxictr.features import FeatureMap

    made = FeatureMap("made", ".")
    for name, size in {"user": USERS, "item": ITEMS, "kind": KINDS}.items():
        made.features[name] = {"source": "", "type": "categorical", "vocab_size": size}
        made.features[name]["padding_idx"] = 0
    for name, size in {"item": ITEMS, "kind": KINDS}.items():
        made.features[f"hist_{name}"] = {
            "source": "",
            "type": "sequence",
            "vocab_size": size,
            "padding_idx": 0,
            "max_len": LENGTH,
            "share_embedding": name,
            "feature_encoder": pooling,
        }
    made.labels = ["label"]
    made.num_fields = made.get_num_fields()
    made.default_emb_dim = DIM
    made.set_column_index()
    return made


def imported(name: str, path: Path) -> Any:
    """A module from a file, as the models of the checkout are no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
