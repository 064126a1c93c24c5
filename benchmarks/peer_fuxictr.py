"""Drives DIN of FuxiCTR for peers.py: `train_epoch` over its data loader, without evaluations.

The wheel comes without the model, which is taken from a checkout whose folder the environment
variable FUXICTR_CHECKOUT names. Gradient clipping stays on, as in the library's `fit`; the data
loader has the 3 workers of the model's own configuration.
"""

import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import peer_rows
from benchmarks.peer_rows import Driver, Rows, drive, read_rows, warmed_up

WORKERS = 3


def prepare(folder: Path) -> Driver:
    """A model that has trained the rows of the warm-up."""
    from fuxictr.pytorch.dataloaders import RankDataLoader

    torch.manual_seed(peer_rows.SEED)
    warm, timed = read_rows(folder, "warm"), read_rows(folder, "timed")
    features = feature_map(timed, folder)
    model = din_of(Path(os.environ["FUXICTR_CHECKOUT"])).DIN(
        features,
        gpu=-1,
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=["logloss"],
        verbose=0,
        model_root=str(folder),
        learning_rate=peer_rows.LEARNING_RATE,
        embedding_dim=peer_rows.EMBEDDING_DIM,
        dnn_hidden_units=peer_rows.TOP,
        dnn_activations="Dice",
        attention_hidden_units=peer_rows.ATTENTION,
        attention_hidden_activations="sigmoid",
        net_dropout=peer_rows.DROPOUT,
        din_target_field=["item"],
        din_sequence_field=["hist_item"],
    )
    # `fit` sets these and would then evaluate and load a checkpoint.
    model._max_gradient_norm, model._total_steps, model._eval_steps = 10.0, 0, 10**9
    model._stop_training = False

    def train(rows: Rows) -> float:
        file = folder / f"fuxictr-{os.getpid()}.npz"
        np.savez(file, **inputs(rows), label=rows.label)
        batches, _ = RankDataLoader(
            features, "train", str(file), batch_size=peer_rows.BATCH, num_workers=WORKERS
        )
        file.unlink()
        started = time.perf_counter()
        model.train_epoch(batches)
        return time.perf_counter() - started

    def predict(rows: Rows) -> Any:
        model.eval()
        with torch.no_grad():
            return model({k: torch.from_numpy(v) for k, v in inputs(rows).items()})["y_pred"]

    return warmed_up(train, predict, warm, timed)


def inputs(rows: Rows) -> dict[str, Any]:
    """Columns by name; FuxiCTR pads on the left."""
    return {"user": rows.user, "item": rows.item, "hist_item": rows.padded(left=True)}


def feature_map(rows: Rows, folder: Path) -> Any:
    """The columns as FuxiCTR describes them; the history shares the table of the candidate."""
    from fuxictr.features import FeatureMap

    made = FeatureMap("rows", str(folder))
    for name, size in {"user": rows.n_users, "item": rows.n_items}.items():
        made.features[name] = {"source": "", "type": "categorical", "vocab_size": size}
        made.features[name]["padding_idx"] = 0
    made.features["hist_item"] = {
        "source": "",
        "type": "sequence",
        "vocab_size": rows.n_items,
        "padding_idx": 0,
        "max_len": peer_rows.MAX_HISTORY,
        "share_embedding": "item",
        "feature_encoder": None,
    }
    made.labels = ["label"]
    made.num_fields = made.get_num_fields()
    made.default_emb_dim = peer_rows.EMBEDDING_DIM
    made.set_column_index()
    return made


def din_of(checkout: Path) -> Any:
    """The module of the model; the checkout's models are no package."""
    spec = importlib.util.spec_from_file_location(
        "din", checkout / "model_zoo" / "DIN" / "src" / "DIN.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    drive(prepare)
