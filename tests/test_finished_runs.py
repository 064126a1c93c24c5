"""A finished run asked for again: returned as it is, where the experiment is the same."""

import json
import shutil
from pathlib import Path

import pytest

from aqcl.config import as_values
from aqcl.errors import ConfigError
from aqcl.experiment import Experiment, TrainOptions, resolve
from aqcl.train import train
from tests.tiny_runs import tiny_dataset, tiny_experiment


def test_a_finished_run_is_not_one_of_what_took_the_place_of_its_data(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    experiment = tiny_experiment(data, "train.epochs=1")
    run = train(experiment, tmp_path / "run")
    manifest = (data / "manifest.json").read_text()
    (data / "manifest.json").write_text(json.dumps({**json.loads(manifest), "fingerprint": "new"}))
    with pytest.raises(ConfigError, match=r"dataset is not the one that .*run was started on"):
        train(experiment, run.path, resume=True)
    shutil.rmtree(data)  # a finished run can do without
    assert train(experiment, run.path, resume=True).manifest == run.manifest


def test_an_experiment_made_in_python_gets_its_defaults(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    options = TrainOptions(epochs=1, batch_size=64, evaluations_per_epoch=1)
    experiment = Experiment(dataset=str(data), train=options)
    run = train(experiment, str(tmp_path / "run"))
    assert run.experiment == resolve({"dataset": str(data), "train": as_values(options)})
    assert train(experiment, str(run.path), resume=True).manifest == run.manifest
