"""Drives our own DIN for peers.py: the loop of `aqcl train` without evaluations.

The rows are those of warm.npz and timed.npz: the first steps of the first epoch. Its threads are
settled as every command of ours settles them, within what the environment asks for: where that lets
idle threads sleep, ours wait briefly before.
"""

import json
import os
import time
from pathlib import Path

from aqcl.runtime import settle_threads
from benchmarks.peer_rows import LEARNING_RATE, SCORED_ROWS, Driver, drive, logloss, read_rows


def prepare(folder: Path) -> Driver:
    """A trainer that has done the steps of the warm-up."""
    import torch

    from aqcl.contracts import Predictor
    from benchmarks.steps import make_trainer, stepper

    given = json.loads((folder / "ours.json").read_text(encoding="utf-8"))
    # As in the other libraries, whose examples come without a penalty on the tables.
    options = {"embedding_l2": 0.0, "lr": LEARNING_RATE, "batch_size": given["batch_size"]}
    trainer = make_trainer(Path(given["dataset"]), options=options)
    split = trainer.dataset.train
    train_steps = stepper(trainer)
    train_steps(given["warm_steps"])
    rows = read_rows(folder, "timed")
    first = trainer.bounds[given["warm_steps"]]
    chosen = split.order(0, 0)[first : first + SCORED_ROWS]
    scored = split.batch(chosen, trainer.options.max_history)

    def train() -> float:
        started = time.perf_counter()
        train_steps(given["timed_steps"])
        return time.perf_counter() - started

    def score() -> float:
        model = trainer.objective.model()
        assert isinstance(model, Predictor)
        model.eval()
        with torch.no_grad():
            embedded = model.embed(scored)
            logit = model.predict(model.encode(embedded), embedded)
        model.train()
        return logloss(torch.sigmoid(logit), scored.label.numpy())

    return Driver(len(rows.user), train, score)


if __name__ == "__main__":
    settle_threads(int(os.environ["OMP_NUM_THREADS"]))  # before torch is imported
    drive(prepare)
