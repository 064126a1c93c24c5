"""A finished run asked for again: returned as it is, where the experiment is the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aqcl.assessment import assess
from aqcl.config import as_values
from aqcl.errors import ConfigError
from aqcl.experiment import Experiment, TrainOptions, resolve
from aqcl.report.run_report import report_runs
from aqcl.runs import CHECKPOINT, CONFIG, LOG, Run, not_a_repeat, open_run
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    return train(tiny_experiment(tiny_dataset(folder), "train.epochs=1"), folder / "run")


@pytest.mark.parametrize("what", [CHECKPOINT, LOG, "predictions-valid.parquet", "all"])
def test_a_finished_run_can_do_without_its_past(what: str, trained: Run, tmp_path: Path) -> None:
    run = open_run(shutil.copytree(trained.path, tmp_path / "run"))
    valid = run.predictions("valid")
    gone = [what] if what != "all" else [CHECKPOINT, LOG, "predictions-valid.parquet"]
    for name in gone:
        (run.path / name).unlink()
    again = assess(run.path, "valid")
    assert np.array_equal(again.predictions("valid").score, valid.score)
    assert (open_run(run.path).log() == []) == (LOG in gone)
    assert open_run(run.path).metrics().keys() == {"valid"}
    assert train(run.experiment, run.path, resume=True).weights().keys() == run.weights().keys()
    assert run.path.name in report_runs([run.path], "valid", replicates=100).html


def test_training_from_a_run_on_another_dataset_is_told(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    run = train(tiny_experiment(data, "train.epochs=1"), tmp_path / "run")
    config = run.path / CONFIG
    assert not_a_repeat(config, run.experiment) is None
    manifest = (data / "manifest.json").read_text()
    (data / "manifest.json").write_text(json.dumps({**json.loads(manifest), "fingerprint": "new"}))
    told = not_a_repeat(config, run.experiment)
    assert told is not None
    assert f"{data} is not the dataset that this run was trained on" in told
    assert not_a_repeat(run.path / "other.toml", run.experiment) is None
    assert not_a_repeat(tmp_path / CONFIG, run.experiment) is None  # of no run
    shutil.rmtree(data)
    assert not_a_repeat(config, run.experiment) is None  # which training tells


def test_an_experiment_made_in_python_gets_its_defaults(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    options = TrainOptions(epochs=1, batch_size=64, evaluations_per_epoch=1)
    experiment = Experiment(dataset=str(data), train=options)
    run = train(experiment, str(tmp_path / "run"))
    assert run.experiment == resolve({"dataset": str(data), "train": as_values(options)})
    assert train(experiment, str(run.path), resume=True).manifest == run.manifest
