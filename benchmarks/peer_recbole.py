"""Drives DIN of RecBole for peers.py: an epoch of its trainer over its data loader.

Importing its sequential models switches anomaly detection on for the whole process, which would
double its time: it is switched off here. Its DIN has one list of sizes for attention and top
network, so the attention is made anew with the sizes of the others. It leaves the user's vector
out of the top network.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import peer_rows
from benchmarks.peer_rows import Driver, Rows, drive, read_rows


def prepare(folder: Path) -> Driver:
    """A model that has trained the rows of the warm-up."""
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.dataloader.general_dataloader import TrainDataLoader
    from recbole.model.layers import SequenceAttLayer
    from recbole.model.sequential_recommender.din import DIN
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    folder = folder.resolve()
    warm, timed = read_rows(folder, "warm"), read_rows(folder, "timed")
    write_atomic_files(folder / "recbole", warm, timed)
    os.chdir(folder / "recbole")  # it writes logs to the working folder
    given, sys.argv = sys.argv, sys.argv[:1]  # and reads the command line
    config = Config(model="DIN", dataset="rows", config_dict=settings(folder))
    sys.argv = given
    init_seed(peer_rows.SEED, False)
    parts = create_dataset(config).build()
    loaders = [TrainDataLoader(config, part, None, shuffle=True) for part in parts[:2]]
    model = DIN(config, parts[0])
    positions = torch.arange(peer_rows.MAX_HISTORY).view(1, -1)
    model.attention = SequenceAttLayer(
        positions,
        [4 * peer_rows.EMBEDDING_DIM, *peer_rows.ATTENTION],
        activation="Sigmoid",
        softmax_stag=False,
        return_seq_weight=False,
    )
    model.attention.apply(model._init_weights)
    trainer = Trainer(config, model)
    torch.autograd.set_detect_anomaly(False)

    losses = []

    def train(number: int) -> float:
        started = time.perf_counter()
        total = trainer._train_epoch(loaders[number], number)
        seconds = time.perf_counter() - started
        losses.append(total / len(loaders[number]))
        return seconds

    train(0)
    return Driver(len(timed.user), lambda: train(1), lambda: losses[-1])


def settings(folder: Path) -> dict[str, Any]:
    """RecBole's configuration."""
    return {
        "data_path": str(folder / "recbole"),
        "checkpoint_dir": str(folder / "recbole"),
        "benchmark_filename": ["warm", "timed", "unused"],
        "load_col": {"inter": ["user_id", "item_id", "item_id_list", "label"]},
        "alias_of_item_id": ["item_id_list"],
        "LABEL_FIELD": "label",
        "MAX_ITEM_LIST_LENGTH": peer_rows.MAX_HISTORY,
        "train_neg_sample_args": None,
        "eval_args": {"mode": "labeled", "group_by": None, "order": "TO", "split": {"LS": "test"}},
        "metrics": ["LogLoss"],
        "valid_metric": "LogLoss",
        "train_batch_size": peer_rows.BATCH,
        "learning_rate": peer_rows.LEARNING_RATE,
        "embedding_size": peer_rows.EMBEDDING_DIM,
        "mlp_hidden_size": peer_rows.TOP,
        "dropout_prob": peer_rows.DROPOUT,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "seed": peer_rows.SEED,
    }


def write_atomic_files(folder: Path, warm: Rows, timed: Rows) -> None:
    """The rows as the text files that RecBole reads; the third one is required and unused."""
    target = folder / "rows"
    target.mkdir(parents=True, exist_ok=True)
    for name, rows in {"warm": warm, "timed": timed, "unused": timed.first(8)}.items():
        ends = rows.length.cumsum()
        lines = ["user_id:token\titem_id:token\titem_id_list:token_seq\tlabel:float"]
        for number in range(len(rows.user)):
            clicks = rows.clicks[ends[number] - rows.length[number] : ends[number]]
            history = " ".join(map(str, clicks))
            user, item, label = rows.user[number], rows.item[number], rows.label[number]
            lines.append(f"{user}\t{item}\t{history}\t{label}")
        (target / f"rows.{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    drive(prepare)
