"""Run and dataset directories made by hand, for the tests of what reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aqcl.dataset import Dataset
from aqcl.evaluate import evaluate
from aqcl.experiment import resolve
from aqcl.predictions import Predictions
from aqcl.runs import Run, start_run
from aqcl.storage import Manifest, write_manifest
from tests.click_logs import prepared


def small_dataset(out: Path, n_users: int = 40, shift: int = 0) -> Dataset:
    """Impressions of users over eight days, with labels."""
    rows = [
        (f"u{user}", f"i{(user * 3 + day * 5 + shift) % 11}", day, int((user + day) % 3 == 0))
        for user in range(n_users)
        for day in range(8)
    ]
    return prepared(out, rows, {"split": {"kind": "last-days", "days": 4}})


def scored_run(out: Path, dataset: Dataset, quality: float = 1.0, **settings: Any) -> Run:
    """A finished run that scored the test rows: with noise, and the label as far as `quality`."""
    experiment = resolve({"dataset": str(dataset.path), **settings})
    start_run(out, experiment)
    columns = dataset.test.columns
    noise = np.random.default_rng([experiment.seed, 1]).normal(size=len(dataset.test))
    logit = quality * columns["label"] + noise
    predictions = Predictions(
        user=columns["user"].astype(np.int64),
        item=columns["item"].astype(np.int64),
        label=columns["label"].astype(np.int8),
        activity=columns["history_length"].astype(np.int64),
        score=1 / (1 + np.exp(-logit)),
    )
    manifest = Manifest(
        format="aqcl-run",
        fingerprint="f",
        settings={"seed": experiment.seed},
        source={"dataset": dataset.manifest.fingerprint},
        content={"steps": 1, "best_step": 1},
    )
    run = Run(out, experiment, write_manifest(out, manifest))
    return run.record("test", predictions, evaluate(predictions, dataset.thresholds, 50).to_json())


def paths(runs: Sequence[Run]) -> list[Path]:
    return [run.path for run in runs]
