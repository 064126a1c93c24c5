"""What the drivers of all libraries share: sizes of the model, the rows, and the report.

It runs in the environments of other libraries, so it imports numpy and torch alone.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

EMBEDDING_DIM, ATTENTION, TOP, DROPOUT = 16, [80, 40], [200, 80], 0.2
BATCH, LEARNING_RATE, MAX_HISTORY = 1024, 1e-3, 50
SCORED_ROWS = 4096
"""Rows of the timed part whose logloss must fall."""
SEED = 7

Ints = npt.NDArray[np.int64]


class Rows(NamedTuple):
    """Samples with histories of at most `MAX_HISTORY` clicks, the latest last; id 0 is padding."""

    user: Ints
    item: Ints
    label: Ints
    length: Ints
    clicks: Ints
    """The histories one after the other."""
    n_users: int
    n_items: int

    def padded(self, *, left: bool) -> Ints:
        """Histories (rows, MAX_HISTORY), zeros on the left or on the right of the clicks."""
        history = np.zeros((len(self.user), MAX_HISTORY), dtype=np.int64)
        column = np.arange(MAX_HISTORY)
        first = MAX_HISTORY - self.length[:, None] if left else np.zeros((len(self.user), 1), int)
        history[(column >= first) & (column < first + self.length[:, None])] = self.clicks
        return history

    def first(self, n_rows: int) -> "Rows":
        """The first rows."""
        n_clicks = int(self.length[:n_rows].sum())
        return self._replace(
            user=self.user[:n_rows],
            item=self.item[:n_rows],
            label=self.label[:n_rows],
            length=self.length[:n_rows],
            clicks=self.clicks[:n_clicks],
        )


def write_rows(folder: Path, name: str, rows: Rows) -> None:
    """Store rows for the drivers."""
    np.savez(folder / f"{name}.npz", **rows._asdict())


def read_rows(folder: Path, name: str) -> Rows:
    """Rows that `write_rows` stored."""
    with np.load(folder / f"{name}.npz") as file:
        arrays: dict[str, Any] = {field: file[field] for field in Rows._fields}
    sizes = {field: int(arrays[field]) for field in ("n_users", "n_items")}
    return Rows(**(arrays | sizes))


def drive(prepare: "Callable[[Path], Driver]") -> None:
    """Warm up, train the timed rows, and print what it took as JSON.

    Args:
        prepare: makes model and data from the folder with `warm.npz` and `timed.npz`; it must have
            trained the rows of `warm` already when it returns.
    """
    import torch

    driver = prepare(Path(sys.argv[1]))
    before = driver.score()
    seconds = driver.train()
    after = driver.score()
    if not after < before:
        sys.exit(f"the logloss went from {before} to {after}: it does not learn")
    report = {
        "rows": driver.n_rows,
        "seconds": seconds,
        "logloss": [round(before, 4), round(after, 4)],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    sys.stdout.write("\n" + json.dumps(report) + "\n")


class Driver(NamedTuple):
    """A library's model and loop."""

    n_rows: int
    train: Callable[[], float]
    """Trains all timed rows once; the seconds that it took."""
    score: Callable[[], float]
    """Logloss of the first timed rows, or of the rows trained last."""


def warmed_up(
    train: Callable[[Rows], float], predict: Callable[[Rows], Any], warm: Rows, timed: Rows
) -> Driver:
    """The driver of a model that has trained the rows of the warm-up.

    Args:
        train: trains rows once; the seconds that it took.
        predict: probabilities of rows, as a tensor.
        warm: rows of the warm-up.
        timed: rows that are timed.
    """
    train(warm)
    scored = timed.first(SCORED_ROWS)
    return Driver(
        len(timed.user), lambda: train(timed), lambda: logloss(predict(scored), scored.label)
    )


def logloss(probability: Any, label: npt.ArrayLike) -> float:
    """Mean over rows; the probability as a tensor of any shape with an entry for each row."""
    p = np.clip(probability.detach().double().numpy().reshape(-1), 1e-7, 1 - 1e-7)
    y = np.asarray(label, dtype=np.float64)
    value = float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
    if not math.isfinite(value):
        sys.exit("the logloss is not finite")
    return value
