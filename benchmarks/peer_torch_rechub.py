"""Drives DIN of torch-rechub for peers.py: `train_one_epoch` over its data generator.

Its attention sees the padding, and each of its layers has a BatchNorm of its own.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import peer_rows
from benchmarks.peer_rows import Driver, Rows, drive, read_rows, warmed_up


def prepare(folder: Path) -> Driver:
    """A model that has trained the rows of the warm-up."""
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.ranking import DIN
    from torch_rechub.trainers import CTRTrainer
    from torch_rechub.utils.data import DataGenerator

    torch.manual_seed(peer_rows.SEED)
    warm, timed = read_rows(folder, "warm"), read_rows(folder, "timed")
    model = DIN(
        features=[SparseFeature("user", timed.n_users, peer_rows.EMBEDDING_DIM)],
        history_features=[
            SequenceFeature(
                "hist_item",
                timed.n_items,
                peer_rows.EMBEDDING_DIM,
                pooling="concat",
                shared_with="item",
            )
        ],
        target_features=[
            SparseFeature("item", timed.n_items, peer_rows.EMBEDDING_DIM, padding_idx=0)
        ],
        mlp_params={"dims": peer_rows.TOP, "dropout": peer_rows.DROPOUT},
        attention_mlp_params={"dims": peer_rows.ATTENTION, "activation": "sigmoid"},
    )
    trainer = CTRTrainer(
        model, optimizer_params={"lr": peer_rows.LEARNING_RATE}, model_path=str(folder)
    )

    def train(rows: Rows) -> float:
        made = DataGenerator(inputs(rows), rows.label.astype(np.float32))
        # It wants rows for validation and test too; they are not read here.
        few = inputs(rows.first(1)), rows.label[:1]
        batches, _, _ = made.generate_dataloader(*few, *few, batch_size=peer_rows.BATCH)
        started = time.perf_counter()
        trainer.train_one_epoch(batches)
        return time.perf_counter() - started

    def predict(rows: Rows) -> Any:
        model.eval()
        with torch.no_grad():
            return model({k: torch.from_numpy(v) for k, v in inputs(rows).items()})

    return warmed_up(train, predict, warm, timed)


def inputs(rows: Rows) -> dict[str, Any]:
    """Columns by name; torch-rechub pads on the left."""
    return {"user": rows.user, "item": rows.item, "hist_item": rows.padded(left=True)}


if __name__ == "__main__":
    drive(prepare)
