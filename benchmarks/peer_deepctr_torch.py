"""Drives DIN of DeepCTR-Torch for peers.py: `fit` without metrics of training batches.

Its top network has ReLU, the library's default: its Dice takes no input of two dimensions there.
"""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import peer_rows
from benchmarks.peer_rows import Driver, Rows, drive, read_rows, warmed_up


def prepare(folder: Path) -> Driver:
    """A model that has trained the rows of the warm-up."""
    from deepctr_torch.callbacks import Callback
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import DIN

    class Clock(Callback):  # type: ignore[misc]
        """Seconds of the last epoch, without the arrays that `fit` makes before it."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds = time.perf_counter() - self.started

    warm, timed = read_rows(folder, "warm"), read_rows(folder, "timed")
    history = SparseFeat("hist_item", timed.n_items, peer_rows.EMBEDDING_DIM, embedding_name="item")
    fields = [
        SparseFeat("user", timed.n_users, peer_rows.EMBEDDING_DIM),
        SparseFeat("item", timed.n_items, peer_rows.EMBEDDING_DIM),
        VarLenSparseFeat(history, maxlen=peer_rows.MAX_HISTORY, length_name="length"),
    ]
    model = DIN(
        fields,
        ["item"],
        dnn_hidden_units=peer_rows.TOP,
        att_hidden_size=peer_rows.ATTENTION,
        att_activation="sigmoid",
        l2_reg_embedding=0.0,
        dnn_dropout=peer_rows.DROPOUT,
        seed=peer_rows.SEED,
    )
    adam = torch.optim.Adam(model.parameters(), lr=peer_rows.LEARNING_RATE)
    model.compile(adam, "binary_crossentropy", metrics=[])
    clock = Clock()

    def fit(rows: Rows) -> float:
        with contextlib.redirect_stdout(sys.stderr):
            label = rows.label.astype(np.float32)
            model.fit(inputs(rows), label, batch_size=peer_rows.BATCH, verbose=0, callbacks=[clock])
        return float(clock.seconds)

    def predict(rows: Rows) -> Any:
        return torch.from_numpy(model.predict(inputs(rows), peer_rows.BATCH))

    return warmed_up(fit, predict, warm, timed)


def inputs(rows: Rows) -> dict[str, Any]:
    """Columns by name, as the library takes them."""
    return {
        "user": rows.user,
        "item": rows.item,
        "hist_item": rows.padded(left=False),
        "length": rows.length,
    }


if __name__ == "__main__":
    drive(prepare)
