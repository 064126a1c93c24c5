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

from benchmarks.peer_rows import (
    ATTENTION,
    BATCH,
    DROPOUT,
    EMBEDDING_DIM,
    LEARNING_RATE,
    MAX_HISTORY,
    SCORED_ROWS,
    SEED,
    TOP,
    Driver,
    Rows,
    drive,
    logloss,
    read_rows,
)


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
    history = SparseFeat("hist_item", timed.n_items, EMBEDDING_DIM, embedding_name="item")
    fields = [
        SparseFeat("user", timed.n_users, EMBEDDING_DIM),
        SparseFeat("item", timed.n_items, EMBEDDING_DIM),
        VarLenSparseFeat(history, maxlen=MAX_HISTORY, length_name="length"),
    ]
    model = DIN(
        fields,
        ["item"],
        dnn_hidden_units=TOP,
        att_hidden_size=ATTENTION,
        att_activation="sigmoid",
        l2_reg_embedding=0.0,
        dnn_dropout=DROPOUT,
        seed=SEED,
    )
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.compile(adam, "binary_crossentropy", metrics=[])
    clock = Clock()

    def fit(rows: Rows) -> float:
        with contextlib.redirect_stdout(sys.stderr):
            label = rows.label.astype(np.float32)
            model.fit(inputs(rows), label, batch_size=BATCH, verbose=0, callbacks=[clock])
        return float(clock.seconds)

    fit(warm)
    scored = timed.first(SCORED_ROWS)

    def score() -> float:
        predicted = model.predict(inputs(scored), BATCH)
        return logloss(torch.from_numpy(predicted), scored.label)

    return Driver(len(timed.user), lambda: fit(timed), score)


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
