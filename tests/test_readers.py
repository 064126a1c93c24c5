"""A run whose prediction reads a regularizer scores the same in training, at its end, and later."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aqcl.assessment import assess
from aqcl.dataset import open_dataset
from aqcl.experiment import Experiment
from aqcl.metrics import auc
from aqcl.readers import Reading
from aqcl.runs import Run
from aqcl.scoring import build_backbone, facts_of, load_backbone, score
from aqcl.train import train
from tests.test_resume import resumed, start
from tests.tiny_runs import AQCL, ICL, assert_same_run, tiny_dataset, tiny_experiment

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(data: Path) -> Experiment:
    """The reader stands behind another regularizer, and learns fast enough to matter."""
    return tiny_experiment(data, regularizer={"icl": ICL, "aqcl": AQCL | {"readout": True}})


@pytest.fixture(scope="module")
def run(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(experiment, tmp_path_factory.mktemp("runs") / "run")


def test_the_scores_of_a_run_can_be_made_again(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    facts, known = facts_of(dataset, run.experiment), run.predictions("valid")
    model = load_backbone(run.experiment, facts, run.weights())

    again = score(model, dataset.valid, run.experiment.train.max_history, CPU)

    assert isinstance(model, Reading)
    assert np.array_equal(again.score, known.score)
    assert run.manifest.content["best"] == auc(known.label, known.score)


def test_the_scores_are_not_those_of_the_backbone_alone(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    alone = build_backbone(run.experiment, facts_of(dataset, run.experiment))
    weights = run.weights().items()
    alone.load_state_dict({k[9:]: v for k, v in weights if k.startswith("backbone.")})

    scores = score(alone, dataset.valid, run.experiment.train.max_history, CPU).score

    assert np.abs(scores - run.predictions("valid").score).max() > 1e-4


def test_only_what_is_read_is_served(data: Path, run: Run) -> None:
    facts = facts_of(open_dataset(data), run.experiment)
    served = load_backbone(run.experiment, facts, run.weights())
    names = {name for name, _ in served.named_parameters()}

    assert "readers.0.codebook" in names
    assert not [name for name in names if name.startswith("readers.1")]
    plain = tiny_experiment(data, regularizer={"icl": ICL, "aqcl": AQCL})
    backbone_only = {k: v for k, v in run.weights().items() if k.startswith("backbone.")}
    assert not isinstance(load_backbone(plain, facts, backbone_only), Reading)


def test_other_rows_are_scored_with_it(run: Run) -> None:
    scored = assess(run.path, "test").predictions("test")

    dataset = open_dataset(Path(run.experiment.dataset))
    model = load_backbone(run.experiment, facts_of(dataset, run.experiment), run.weights())
    again = score(model, dataset.test, run.experiment.train.max_history, CPU)
    assert np.array_equal(scored.score, again.score)


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_an_interrupted_run_ends_as_it_would_have(
    data: Path, tmp_path: Path, codebook: str
) -> None:
    options = AQCL | {"readout": True, "codebook": codebook, "false_negatives": "intent"}
    experiment = tiny_experiment(data, regularizer={"aqcl": options})
    whole = train(experiment, tmp_path / "whole")

    start(experiment, tmp_path / "run", number=9)

    assert_same_run(resumed(experiment, tmp_path / "run"), whole)
