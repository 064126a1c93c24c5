"""A small dataset that can be learnt, and an experiment that trains on it in a moment."""

from pathlib import Path
from typing import Any

import torch

from aqcl.config import override
from aqcl.experiment import Experiment, resolve
from aqcl.prepare.pipeline import merge_protocol, prepare
from aqcl.runs import CHECKPOINT, CONFIG, METRICS, WEIGHTS, Run, load_tensors, predictions_file
from tests.click_logs import make_log

N_USERS, N_ITEMS, N_CLICKS = 40, 24, 8
N_GROUPS = 3

AQCL = {"n_codewords": 8, "top_k": 2, "dim": 8, "hidden_dim": 8, "warmup_steps": 3}
ICL = {"dim": 8, "hidden_dim": 8}
VALUES: dict[str, Any] = {
    "backbone": {
        "name": "din",
        "embedding_dim": 4,
        "embedding_std": 0.3,
        "attention_sizes": [6],
        "sizes": [12, 8],
    },
    "regularizer": {"aqcl": AQCL},
    "train": {"epochs": 2, "batch_size": 48, "lr": 0.03, "embedding_l2": 1e-4},
    "runtime": {"threads": 1},
}
"""Settings of a run of 2 epochs with 8 steps and 2 evaluations each."""


def tiny_dataset(folder: Path) -> Path:
    """Users of one of three groups click items of the same group; activities differ."""
    rows = [
        (user, N_GROUPS * ((user * 7 + step * 5) % (N_ITEMS // N_GROUPS)) + user % N_GROUPS, step)
        for user in range(N_USERS)
        for step in range(N_CLICKS - user % 4)
    ]
    log = make_log(rows)
    return prepare(log, merge_protocol(log, {}), folder / "dataset")


def tiny_experiment(dataset: Path, *assignments: str, **changes: Any) -> Experiment:
    """A resolved experiment: `VALUES`, with some of them replaced, then dotted settings on top."""
    return resolve(override({"dataset": str(dataset), **VALUES, **changes}, assignments))


def untimed(run: Run) -> list[dict[str, Any]]:
    """The log without what differs between equal runs."""
    timed = ("seconds", "data_wait")
    return [{k: v for k, v in line.items() if k not in timed} for line in run.log()]


def assert_same_run(run: Run, whole: Run) -> None:
    """Equal to the bit: weights, state, predictions, metrics, log."""
    for name in (WEIGHTS, predictions_file("valid"), METRICS, CONFIG):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert untimed(run) == untimed(whole)
    mine, theirs = (load_tensors(r.path / CHECKPOINT)[0] for r in (run, whole))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    ours, other = ({**r.manifest.content, "seconds": 0} for r in (run, whole))
    assert ours == other
    assert run.manifest.fingerprint == whole.manifest.fingerprint
